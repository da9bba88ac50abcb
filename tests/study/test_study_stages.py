"""Stages: skipped when current, rerun when anything that decides them changed, resumed after a kill."""

from pathlib import Path

import pytest

from mechprobe.records import read_record
from mechprobe.study.stages import Stage, ensure_stage


class Work:
    """A stage's work that counts how often it is done, and can be killed half way."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.done = 0
        self.is_killed = False

    def __call__(self) -> dict[str, object]:
        self.done += 1
        bits = self.folder / "bits"
        bits.mkdir(parents=True, exist_ok=True)
        found = len(list(bits.iterdir()))
        (bits / f"{found}.txt").write_text("x")
        if self.is_killed:
            raise KeyboardInterrupt
        (self.folder / "out.txt").write_text(f"bits {len(list(bits.iterdir()))}")
        return {"figure": 1.5}


def stage(work: Work, *, size: int = 1, source: str = "a") -> Stage:
    return Stage(
        name="work",
        folder=work.folder,
        config={"size": size},
        inputs={"source": source},
        run=work,
        outputs=(work.folder / "out.txt",),
        partial=(work.folder / "bits",),
    )


def test_a_current_stage_is_not_run_again_and_a_changed_one_is(tmp_path):
    work, lines = Work(tmp_path / "work"), []
    first = ensure_stage(stage(work), lines.append)
    assert ensure_stage(stage(work), lines.append) == first and work.done == 1
    assert lines == ["work: running", "work: up to date"]
    assert read_record(work.folder).metrics["figure"] == 1.5
    assert ensure_stage(stage(work, size=2), lines.append) != first
    assert ensure_stage(stage(work, size=2, source="b"), lines.append) != first
    assert work.done == 3


def test_a_missing_or_changed_output_is_made_again(tmp_path):
    work = Work(tmp_path / "work")
    digest = ensure_stage(stage(work), lambda _: None)
    (work.folder / "out.txt").write_text("tampered")
    ensure_stage(stage(work), lambda _: None)
    (work.folder / "out.txt").unlink()
    ensure_stage(stage(work), lambda _: None)
    assert work.done == 3 and digest


def test_a_killed_stage_goes_on_with_its_partial_results_but_not_with_those_of_other_settings(
    tmp_path,
):
    work = Work(tmp_path / "work")
    work.is_killed = True
    with pytest.raises(KeyboardInterrupt):
        ensure_stage(stage(work), lambda _: None)
    assert not (work.folder / "record.json").exists()
    work.is_killed = False
    ensure_stage(stage(work), lambda _: None)
    assert (work.folder / "out.txt").read_text() == "bits 2"
    ensure_stage(stage(work, size=9), lambda _: None)
    assert (work.folder / "out.txt").read_text() == "bits 1"
