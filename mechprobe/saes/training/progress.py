"""The state of a run on disk, so that it can be killed at any moment and goes on.

One folder for each state, complete before it gets its name: tensors in safetensors, numbers in JSON with a digest of
the tensors. Nothing is unpickled.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash
from safetensors.torch import load_file, save_file
from torch import Tensor

from mechprobe.errors import CheckpointError

FOLDER = ".progress"
_TENSORS, _NUMBERS = "state.safetensors", "state.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """A state that was read back."""

    position: int
    """Batches that were read."""
    tensors: Mapping[str, Mapping[str, Tensor]]
    """Name of the SAE -> its tensors."""
    numbers: Mapping[str, Mapping[str, Any]]
    """Name of the SAE -> its numbers."""


def save_progress(
    folder: Path,
    run: str,
    position: int,
    states: Mapping[str, tuple[Mapping[str, Tensor], Mapping[str, Any]]],
) -> None:
    """Write the state of all SAEs of a run, then remove the state before it.

    Args:
        run: digest of what is trained on what.
        states: name of each SAE -> what `Trainer.state` gave.
    """
    scratch = folder / ".writing"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    tensors = {f"{name}/{key}": t for name, state in states.items() for key, t in state[0].items()}
    save_file(tensors, scratch / _TENSORS)
    numbers = {
        "run": run,
        "position": position,
        "xxh3": _digest(scratch / _TENSORS),
        "saes": {name: state[1] for name, state in states.items()},
    }
    (scratch / _NUMBERS).write_text(json.dumps(numbers))
    for path in (scratch / _TENSORS, scratch / _NUMBERS, scratch):
        _flush(path)
    final = folder / f"{position:010d}"
    shutil.rmtree(final, ignore_errors=True)
    scratch.rename(final)
    _flush(folder)
    for old in _states(folder)[:-1]:
        shutil.rmtree(old)


def load_progress(folder: Path, run: str) -> Progress | None:
    """The last state of this very run; None where there is none, or one of another run.

    Raises:
        CheckpointError: the state is damaged.
    """
    states = _states(folder)
    if not states:
        return None
    where = states[-1]
    try:
        numbers = json.loads((where / _NUMBERS).read_text())
        if numbers["run"] != run:
            return None
        if numbers["xxh3"] != _digest(where / _TENSORS):
            raise ValueError(f"{_TENSORS} is not what was written")
        flat = load_file(where / _TENSORS)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"the training state {where} is damaged ({error}); delete {folder} to train from the start."
        ) from error
    tensors: dict[str, dict[str, Tensor]] = {name: {} for name in numbers["saes"]}
    for key, tensor in flat.items():
        name, _, own = key.rpartition("/")
        tensors[name][own] = tensor
    return Progress(position=numbers["position"], tensors=tensors, numbers=numbers["saes"])


def clear_progress(folder: Path) -> None:
    """Remove the states of a run."""
    shutil.rmtree(folder, ignore_errors=True)


def _states(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("[0-9]*") if path.is_dir())


def _digest(path: Path) -> str:
    digest = xxhash.xxh3_64()
    with path.open("rb") as stream:
        while block := stream.read(1 << 24):
            digest.update(block)
    return digest.hexdigest()


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
