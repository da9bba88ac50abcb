"""Units on Ray: workers may die and units may fail, and what is written is what one process writes."""

from pathlib import Path

import pytest

from mechprobe.errors import ConfigError, WorkError
from mechprobe.executors.ray_cluster import RayExecutor
from tests.executors.planted_work import PlantedWork

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
    assert "the first is 1: ValueError: unit 1 is poison" in str(raised.value)
    assert 'raise ValueError(f"unit {unit} is poison")' in raised.value.__notes__[0]
    assert sorted(done) == sorted(work.done()) == [0, 2, 3, 5, 6]
    assert [work.n_begun(unit) for unit in range(7)] == [1, 2, 1, 1, 2, 1, 1]


def test_a_unit_that_kills_its_worker_is_said_to(tmp_path: Path):
    work = PlantedWork(folder=tmp_path, dies_always=(0,))
    with pytest.raises(WorkError, match="the first is 0: its worker died each time"):
        list(EXECUTOR.map(work.open, [0]))


def test_work_that_cannot_begin_ends_the_run_with_its_reason(tmp_path: Path):
    work = PlantedWork(folder=tmp_path, cannot_begin=True)
    with pytest.raises(WorkError, match="could not begin: OSError: no weights here"):
        list(EXECUTOR.map(work.open, range(7)))
    assert work.done() == {}


def test_workers_that_would_wait_for_ever_are_refused(tmp_path: Path):
    work = PlantedWork(folder=tmp_path)
    for executor, what in (
        (RayExecutor(workers=3), "3 workers with 1 CPUs each need 3, and the Ray cluster has 2"),
        (RayExecutor(workers=2, gpus_per_worker=0.5), "with 0.5 GPUs each need 1, and .* has 0"),
    ):
        with pytest.raises(ConfigError, match=what):
            list(executor.map(work.open, range(2)))
