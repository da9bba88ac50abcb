"""Units on Ray: workers may die and units may fail, and what is written is what one process writes."""

from pathlib import Path
from typing import Any

import pytest

from mechprobe.activations.capture import capture
from mechprobe.errors import ConfigError, WorkError
from mechprobe.executors.local import LocalExecutor
from mechprobe.executors.ray_cluster import RayExecutor
from mechprobe.models.subject import Subject
from mechprobe.transcripts.transcript import Message, Transcript, number_turns
from tests.executors.planted_work import DyingExecutor, PlantedWork

pytestmark = pytest.mark.usefixtures("running_ray")
EXECUTOR = RayExecutor(workers=2, max_attempts=2)
SQUARES = {unit: unit**2 for unit in range(7)}


def test_every_unit_is_done_once(tmp_path: Path):
    work = PlantedWork(folder=tmp_path)
    results = list(EXECUTOR.map(work.open, range(7)))
    assert {done.unit: done.result for done in results} == SQUARES == work.done()
    assert [work.n_begun(unit) for unit in range(7)] == [1] * 7
    assert list(EXECUTOR.map(work.open, [])) == []


def test_a_worker_that_dies_in_a_unit_changes_nothing_but_that_it_is_begun_again(tmp_path: Path):
    work = PlantedWork(folder=tmp_path, dies_once=(2,))
    results = list(EXECUTOR.map(work.open, range(7)))
    assert {done.unit: done.result for done in results} == SQUARES == work.done()
    assert [work.n_begun(unit) for unit in range(7)] == [1, 1, 2, 1, 1, 1, 1]


def test_units_that_fail_or_kill_each_time_stop_after_their_attempts_and_the_rest_is_done(
    tmp_path: Path,
):
    work = PlantedWork(folder=tmp_path, fails=(1,), dies_always=(4,))
    done: list[int] = []
    with pytest.raises(WorkError, match="2 of 7 units of work failed 2 times each") as raised:
        done.extend(found.unit for found in EXECUTOR.map(work.open, range(7)))
    assert "unit 1: ValueError: unit 1 is poison; unit 4: its worker died each time" in str(
        raised.value
    )
    assert 'raise ValueError(f"unit {unit} is poison")' in raised.value.__notes__[0]
    assert sorted(done) == sorted(work.done()) == [0, 2, 3, 5, 6]
    assert [work.n_begun(unit) for unit in range(7)] == [1, 2, 1, 1, 2, 1, 1]


def test_work_that_cannot_begin_ends_the_run_with_its_reason(tmp_path: Path):
    work = PlantedWork(folder=tmp_path, cannot_begin=True)
    with pytest.raises(WorkError, match="could not begin: OSError: no weights here"):
        list(EXECUTOR.map(work.open, range(7)))
    assert work.done() == {}


def test_a_store_that_two_workers_write_is_the_one_that_one_process_writes(
    tiny_llama: Path, tmp_path: Path
):
    """Also when one of them is killed in the middle of a shard."""
    subject = Subject.load(tiny_llama)
    texts = ["plan hide records now " * (1 + index % 4) for index in range(12)]
    transcripts = [
        Transcript(
            id=f"t{index}",
            messages=number_turns(
                [
                    Message(role="user", content="task"),
                    Message(role="assistant", reasoning=text.strip(), content="done"),
                ]
            ),
        )
        for index, text in enumerate(texts)
    ]

    def run(folder: Path, executor: Any) -> dict[str, bytes]:
        capture(
            transcripts,
            subject,
            ["blocks.0.hook_out", "blocks.1.hook_out"],
            folder,
            batch_tokens=32,
            shard_tokens=24,
            executor=executor,
        )
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    alone = run(tmp_path / "alone", LocalExecutor())
    dying = DyingExecutor(inner=EXECUTOR, shard=1, folder=tmp_path)
    assert run(tmp_path / "two", dying) == alone
    assert (tmp_path / "died").exists()
    assert sum(name.endswith(".safetensors") for name in alone) > 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "died", "two"]


def test_workers_that_would_wait_for_ever_are_refused(tmp_path: Path):
    work = PlantedWork(folder=tmp_path)
    for executor, what in (
        (RayExecutor(workers=3), "3 workers with 1 CPUs each need 3, and the Ray cluster has 2"),
        (RayExecutor(workers=2, gpus_per_worker=0.5), "with 0.5 GPUs each need 1, and .* has 0"),
    ):
        with pytest.raises(ConfigError, match=what):
            list(executor.map(work.open, range(2)))
