"""Rows out of a shard: runs of them read straight from the file, single ones picked from the mapped tensor."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from mechprobe.activations.places import Place, opened, read_rows

_SCRATCH_NUMBERS = 1 << 19
"""Numbers that are read at once on the way to another dtype: they stay in a core's cache."""


def read_run(path: Path, place: Place, first: int, out: Tensor) -> None:
    """Fill `out` with consecutive rows from the file, converted a part at a time."""
    with opened(path) as handle:
        if out.dtype == place.dtype:
            read_rows(handle, place, first, out)
            return
        step = max(1, _SCRATCH_NUMBERS // max(place.width, 1))
        scratch = torch.empty(min(step, len(out)), place.width, dtype=place.dtype)
        for start in range(0, len(out), step):
            part = out[start : start + step]
            read_rows(handle, place, first + start, scratch[: len(part)])
            part.copy_(scratch[: len(part)])


def copy_rows(
    source: Tensor, local: Int[np.ndarray, "row"], out: Tensor, where: Int[np.ndarray, "row"]
) -> None:
    """Put single rows of a mapped tensor into places of `out`."""
    picked = source[torch.from_numpy(local)]
    if is_run(where):
        out[where[0] : where[-1] + 1].copy_(picked)
    else:
        out[torch.from_numpy(where)] = picked.to(out.dtype)


def ascends(numbers: Int[np.ndarray, "row"]) -> bool:
    """Whether each number is larger than the one before."""
    return len(numbers) < 2 or bool((np.diff(numbers) > 0).all())


def is_run(numbers: Int[np.ndarray, "row"]) -> bool:
    """Whether the numbers are consecutive."""
    return int(numbers[-1]) - int(numbers[0]) + 1 == len(numbers) and ascends(numbers)
