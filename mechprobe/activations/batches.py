"""The order in which rows are read for training: permuted shards, then permuted rows of a few shards."""

from collections.abc import Iterable, Iterator
from itertools import count

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

BLOCK_ROWS = 1 << 17
"""Rows that are permuted together; as many shards as it takes are read for them."""


def shuffled_blocks(
    rows: Int[np.ndarray, "row"],
    row_bounds: Int[np.ndarray, "shard_bound"],
    *,
    batch_size: int,
    seed: int | None,
    epochs: int | None,
) -> Iterator[Int[np.ndarray, "block"]]:
    """Row numbers, block by block, for each epoch; in the order given where there is no seed."""
    rng = None if seed is None else np.random.default_rng(seed)
    for _ in range(epochs) if epochs is not None else count():
        if rng is None:
            # Small pieces: memory that is used again and again is much faster than fresh memory.
            yield from np.split(rows, range(batch_size, len(rows), batch_size))
        else:
            yield from _epoch(rows, row_bounds, rng)


def _epoch(
    rows: Int[np.ndarray, "row"],
    row_bounds: Int[np.ndarray, "shard_bound"],
    rng: np.random.Generator,
) -> Iterator[Int[np.ndarray, "block"]]:
    by_shard = np.split(np.sort(rows), np.searchsorted(np.sort(rows), row_bounds[1:-1]))
    waiting: list[np.ndarray] = []
    for index in rng.permutation(len(by_shard)):
        waiting.append(by_shard[index])
        if sum(map(len, waiting)) >= BLOCK_ROWS:
            yield rng.permutation(np.concatenate(waiting))
            waiting = []
    if sum(map(len, waiting)):
        yield rng.permutation(np.concatenate(waiting))


def split_in_batches(
    blocks: Iterable[Float[Tensor, "block d"]], batch_size: int, *, drop_last: bool
) -> Iterator[Float[Tensor, "case d"]]:
    """Cut a stream of blocks into batches of one size; what a block leaves over joins the next."""
    rest: Tensor | None = None
    for block in blocks:
        joined = block if rest is None else torch.cat([rest, block])
        *full, last = joined.split(batch_size)
        yield from full
        rest = last
        if len(last) == batch_size:
            yield last
            rest = None
    if rest is not None and not drop_last:
        yield rest
