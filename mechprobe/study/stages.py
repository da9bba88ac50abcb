"""One stage of a study: run it, or see that its result is there already.

A stage is current when its record names the same configuration and the same inputs, and every file that it wrote is
still what the record says. So a study that was killed goes on where it stopped, and a changed setting reruns exactly the
stages that it reaches.
"""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mechprobe.records import (
    RECORD_NAME,
    atomic_write_text,
    digest_file,
    digest_json,
    is_current,
    make_record,
    read_record,
    write_record,
)

OUTPUTS = "outputs"
BEGUN_NAME = "begun.txt"


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """What a stage is called, where its record lies, and how it is run."""

    name: str
    folder: Path
    """Where `record.json` goes."""
    config: Mapping[str, Any]
    """Everything that decides the result besides the inputs."""
    inputs: Mapping[str, str]
    """Name of each thing read -> digest."""
    run: Callable[[], Mapping[str, Any]]
    """Does the work and returns the figures worth a line in the record."""
    outputs: tuple[Path, ...] = ()
    """Files that the stage writes."""
    partial: tuple[Path, ...] = ()
    """Folders that the stage fills bit by bit: it goes on with them after a kill, and clears them when the
    configuration or an input is another than when they were begun."""
    seed: int | None = None


def ensure_stage(stage: Stage, say: Callable[[str], None]) -> str:
    """Run a stage unless its result is current; return the digest that later stages name as their input."""
    if _is_intact(stage):
        say(f"{stage.name}: up to date")
    else:
        say(f"{stage.name}: running")
        (stage.folder / RECORD_NAME).unlink(missing_ok=True)
        _begin(stage)
        metrics = dict(stage.run())
        metrics[OUTPUTS] = {path.name: digest_file(path) for path in stage.outputs}
        record = make_record(
            stage.name, stage.config, seed=stage.seed, inputs=stage.inputs, metrics=metrics
        )
        write_record(stage.folder, record)
    return stage_digest(stage.folder)


def stage_digest(folder: Path) -> str:
    """What a stage made, in one digest: of its outputs if it names some, else of its configuration and inputs."""
    record = read_record(folder)
    return digest_json([record.stage, record.config, record.inputs, record.metrics.get(OUTPUTS)])


def _begin(stage: Stage) -> None:
    """Keep partial results of this very configuration and these inputs; clear those of any other."""
    path = stage.folder / BEGUN_NAME
    wanted = digest_json([stage.config, stage.inputs])
    if not path.is_file() or path.read_text() != wanted:
        for folder in stage.partial:
            shutil.rmtree(folder, ignore_errors=True)
        atomic_write_text(path, wanted)


def _is_intact(stage: Stage) -> bool:
    if not is_current(stage.folder, stage.name, stage.config, stage.inputs):
        return False
    digests = read_record(stage.folder).metrics.get(OUTPUTS, {})
    return all(
        path.is_file() and digest_file(path) == digests.get(path.name) for path in stage.outputs
    )
