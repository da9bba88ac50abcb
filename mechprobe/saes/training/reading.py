"""Batches of activations in a shuffled order, from any batch on, for several hook points at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.activations.shuffling import ShuffledReader
from mechprobe.activations.store import ActivationStore, Rows
from mechprobe.errors import ShapeError, StoreError

_MAX_BATCHES = 64
_MAX_NUMBERS = 1 << 26
"""How much is read to estimate the mean and the spread (256 MiB)."""


@dataclass(frozen=True, kw_only=True)
class TrainingRows:
    """Rows of a store in batches, without end, each epoch in another order."""

    store: ActivationStore
    numbers: Int[np.ndarray, "row"]
    hook_names: tuple[str, ...]
    batch_size: int
    seed: int

    @classmethod
    def of(
        cls,
        store: ActivationStore,
        rows: Rows,
        hook_names: Sequence[str],
        *,
        batch_size: int,
        seed: int,
    ) -> "TrainingRows":
        """Select rows.

        Raises:
            HookError: nothing is stored for a hook point.
            ShapeError: no rows are selected.
        """
        for hook_name in hook_names:
            store.width(hook_name)
        numbers = store.row_numbers(rows)
        if not len(numbers):
            raise ShapeError("no rows to train on; select at least one.")
        unique = tuple(dict.fromkeys(hook_names))
        return cls(
            store=store, numbers=numbers, hook_names=unique, batch_size=batch_size, seed=seed
        )

    def batches(self, start: int = 0) -> ShuffledReader:
        """Hook point -> batch, from a number on; a batch is valid until the next one is asked for."""
        reader = ShuffledReader(
            self.store,
            self.hook_names,
            self.numbers,
            batch_size=self.batch_size,
            seed=self.seed,
            dtype=torch.float32,
        )
        reader.seek_batch(start)
        return reader

    def n_sample(self) -> int:
        """Batches that the mean and the spread are estimated from."""
        in_one_pass = -(-len(self.numbers) // self.batch_size)
        width = sum(self.store.width(name) for name in self.hook_names)
        in_memory = max(1, _MAX_NUMBERS // (width * self.batch_size))
        return min(_MAX_BATCHES, in_one_pass, in_memory)

    def sample(self) -> Mapping[str, Float[Tensor, "case _"]]:
        """Hook point -> its first batches, put together.

        Raises:
            StoreError: they are no activations that an SAE can learn from.
        """
        parts: dict[str, list[Tensor]] = {name: [] for name in self.hook_names}
        for batch in islice(self.batches(), self.n_sample()):
            for name, acts in batch.items():
                parts[name].append(acts.clone())
        sample = {name: torch.cat(acts) for name, acts in parts.items()}
        for name, acts in sample.items():
            _check_usable(name, acts)
        return sample


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """Where activations lie."""

    mean: Float[Tensor, "d"]
    distance: float
    """Mean distance from the mean."""

    @classmethod
    def of(cls, sample: Float[Tensor, "case d"]) -> "Spread":
        """Measure it on a sample."""
        mean = sample.mean(0)
        distance = float((sample - mean).norm(dim=-1).mean())
        return cls(mean=mean, distance=max(distance, 1e-12))

    @property
    def scale(self) -> float:
        """What makes the mean distance the root of the width, as sae-lens scales."""
        return len(self.mean) ** 0.5 / self.distance


def _check_usable(hook_name: str, acts: Float[Tensor, "case d"]) -> None:
    finite = acts.isfinite().all(1)
    if not finite.all():
        raise StoreError(
            f"{int((~finite).sum())} of {len(acts)} rows of activations at {hook_name} hold NaN or infinite numbers; "
            "find out why the model makes them, and capture again without those tokens."
        )
    constant = (acts == acts[:, :1]).all(1)
    if acts.shape[1] > 1 and 2 * int(constant.sum()) > len(acts):
        raise StoreError(
            f"{int(constant.sum())} of {len(acts)} rows of activations at {hook_name} are one number in every "
            "dimension, as padding leaves them; capture again, or leave these rows out."
        )
    if len(acts) > 1 and (acts == acts[0]).all():
        raise StoreError(
            f"all {len(acts)} rows of activations at {hook_name} are the same, so that there is nothing to learn; "
            "capture other tokens."
        )
