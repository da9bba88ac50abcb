"""The order of rows for training: runs of consecutive rows in random order, then their rows mixed in a buffer.

Reading rows from everywhere would read the whole store for each batch; runs of a megabyte or two are as fast as reading
in order, and a buffer holds runs from all over the store. The order of an epoch depends on the seed and its number alone,
and that of a block on its number too, so that reading can begin anywhere.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Int

CHUNK_BYTES = 2 << 20
"""About so much of the widest hook point is read in one go."""
_MIN_CHUNK_ROWS = 16


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Run:
    """Selected rows of one shard, ascending and near each other."""

    shard: int
    rows: Int[np.ndarray, "row"]
    """Numbers inside the shard."""
    slots: Int[np.ndarray, "row"]
    """Where each goes in the buffer."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ChunkOrder:
    """All orders of the rows of a store, epoch by epoch."""

    numbers: Int[np.ndarray, "row"]
    """The selected rows, ascending, each once."""
    row_bounds: Int[np.ndarray, "shard_bound"]
    """First row of each shard, and at the end the number of rows."""
    starts: Int[np.ndarray, "chunk"]
    """Place in `numbers` of the first row of each chunk."""
    ends: Int[np.ndarray, "chunk"]
    block_rows: int
    """Rows that are mixed together."""
    seed: int

    @classmethod
    def of(
        cls,
        numbers: Int[np.ndarray, "row"],
        row_bounds: Int[np.ndarray, "shard_bound"],
        *,
        row_bytes: int,
        block_rows: int,
        seed: int,
    ) -> "ChunkOrder":
        """Cut the selected rows into chunks that do not cross shards."""
        unique = np.unique(numbers)
        step = max(_MIN_CHUNK_ROWS, CHUNK_BYTES // max(row_bytes, 1))
        starts = [
            np.arange(first, last, step)
            for first, last in pairwise(np.searchsorted(unique, row_bounds))
        ]
        joined = np.concatenate(starts) if starts else np.zeros(0, np.int64)
        ends = np.append(joined[1:], len(unique))
        return cls(
            numbers=unique,
            row_bounds=row_bounds,
            starts=joined,
            ends=ends,
            block_rows=block_rows,
            seed=seed,
        )

    @property
    def n_rows(self) -> int:
        """Rows of an epoch."""
        return len(self.numbers)

    @property
    def n_blocks(self) -> int:
        """Blocks of an epoch."""
        return -(-self.n_rows // self.block_rows)

    def block_length(self, block: int) -> int:
        """Rows of a block; the last of an epoch may be short."""
        return min(self.block_rows, self.n_rows - block * self.block_rows)

    def runs(self, epoch: int, block: int) -> list[Run]:
        """What a block is read from, in the order of the files, and where each row goes."""
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.starts))
        lengths = (self.ends - self.starts)[order]
        begins = np.cumsum(lengths) - lengths
        first = block * self.block_rows
        last = first + self.block_length(block)
        touched = np.flatnonzero((begins < last) & (begins + lengths > first))
        slots = np.random.default_rng([self.seed, epoch, block + 1]).permutation(last - first)
        runs: list[Run] = []
        for place in touched:
            begin, length = int(begins[place]), int(lengths[place])
            skipped = max(first - begin, 0)
            kept = min(length, last - begin) - skipped
            at = begin + skipped - first
            start = int(self.starts[order[place]]) + skipped
            runs.append(self._run(start, kept, slots[at : at + kept]))
        return sorted(runs, key=lambda run: (run.shard, run.rows[0]))

    def _run(self, start: int, length: int, slots: Int[np.ndarray, "row"]) -> Run:
        rows = self.numbers[start : start + length]
        shard = int(np.searchsorted(self.row_bounds, rows[0], side="right")) - 1
        return Run(shard=shard, rows=rows - self.row_bounds[shard], slots=slots)
