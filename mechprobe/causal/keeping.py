"""Keep what took long to measure, one file a piece, so that a killed run goes on where it stopped."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import torch

from mechprobe.records import atomic_write_bytes

Kept = TypeVar("Kept")


def kept(folder: Path | None, name: str, make: Callable[[], Kept]) -> Kept:
    """Read a piece back, or make and keep it. Whoever gives the folder sees that settings and inputs are the same.

    The files are this run's own and are written whole or not at all; they are read with pickle, so a folder from
    elsewhere must not be given.
    """
    if folder is None:
        return make()
    path = folder / f"{name}.pt"
    if path.is_file():
        return torch.load(path, weights_only=False)
    found = make()
    whole = BytesIO()
    torch.save(found, whole)
    atomic_write_bytes(path, whole.getvalue())
    return found
