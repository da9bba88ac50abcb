"""The activation store: rows of activations at named hook points, with a table that says what each row is.

A folder of shards (`shards.py`): per shard one safetensors file with a `[tok, d]` tensor for each hook point, one
Parquet token table, and a small file with each column's mean and summed squares. `blocks` maps the files and copies
nothing; `acts` and `batches` copy the rows asked for; `shuffling.py` reads for training.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.activations.batches import shuffled_blocks, split_in_batches
from mechprobe.activations.gathering import ascends, copy_rows, is_run, read_run
from mechprobe.activations.moments import Moments
from mechprobe.activations.places import Place, read_places
from mechprobe.activations.shards import Sidecar, map_tensors, read_sidecars
from mechprobe.activations.store_header import (
    KIND,
    MOMENTS_SUFFIX,
    check_complete,
    read_store_header,
)
from mechprobe.errors import HookError, ShapeError, StoreError
from mechprobe.records import digest_json

_CODED = ["transcript_id", "role", "section"]

Rows = slice | np.ndarray | None
"""Which rows of a store: None for all, a slice, row numbers, or one boolean for each row."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StoreBlock:
    """Consecutive rows of one shard, mapped and not copied: copy what you change or keep."""

    first_row: int
    acts: Mapping[str, Float[Tensor, "tok _"]]
    """Hook point -> rows, in the dtype of the store."""


@dataclass(frozen=True, kw_only=True)
class ActivationStore:
    """Activations on disk, opened for reading by `ActivationStore.open`."""

    folder: Path
    hooks: Mapping[str, int]
    """Hook point -> width of its activations."""
    dtype: str
    config: Mapping[str, Any]
    """What the activations were captured with."""
    record: Mapping[str, Any]
    """What else was known when the store was begun: versions of packages, and what the capture adds."""
    shards: tuple[Sidecar, ...]

    @classmethod
    def open(cls, folder: Path) -> "ActivationStore":
        """Open a complete store.

        Raises:
            StoreError: there is none, it is unfinished, of another schema, or files are missing or cut off.
        """
        header = read_store_header(folder)
        shards = read_sidecars(folder, KIND)
        check_complete(folder, header, shards)
        return cls(
            folder=folder,
            hooks=header["hooks"],
            dtype=header["dtype"],
            config=header["config"],
            record=header["record"],
            shards=tuple(shards),
        )

    @property
    def hook_names(self) -> tuple[str, ...]:
        """The hook points that activations are stored for."""
        return tuple(self.hooks)

    @property
    def n_tokens(self) -> int:
        """How many tokens (rows) are stored."""
        return int(self.row_bounds[-1])

    @cached_property
    def row_bounds(self) -> Int[np.ndarray, "shard_bound"]:
        """First row of each shard, and at the end the number of rows."""
        return np.concatenate([[0], np.cumsum([shard.n_rows for shard in self.shards])]).astype(
            np.int64
        )

    @cached_property
    def transcript_ids(self) -> tuple[str, ...]:
        """Ids of the transcripts, in the order that the `conversation` column counts them."""
        return tuple(name for shard in self.shards for name in shard.facts["transcript_ids"])

    @property
    def n_dropped(self) -> int:
        """How many texts of the transcripts the chat template did not render, such as old reasoning."""
        return sum(shard.facts["n_dropped"] for shard in self.shards)

    @cached_property
    def digest(self) -> str:
        """Digest of everything stored, from the sidecars."""
        return digest_json([[shard.config, _stamps(shard)] for shard in self.shards])

    @cached_property
    def tokens(self) -> pd.DataFrame:
        """The token table: one row for each stored token, in row order."""
        paths = [self.folder / f"{shard.name}.parquet" for shard in self.shards]
        try:
            tables = [pq.read_table(path, read_dictionary=_CODED) for path in paths]
        except (OSError, pa.ArrowException) as error:
            raise StoreError(
                f"a token table in {self.folder} cannot be read ({error}); run verify() to see which."
            ) from error
        return pa.concat_tables(tables).unify_dictionaries().to_pandas()

    def width(self, hook_name: str) -> int:
        """Width of the activations at a hook point.

        Raises:
            HookError: nothing is stored for it.
        """
        if hook_name not in self.hooks:
            raise HookError(
                f"{self.folder} holds no activations of {hook_name!r}; it holds "
                f"{', '.join(self.hooks)}. Name one of these, or capture that hook point."
            )
        return self.hooks[hook_name]

    def acts(
        self, hook_name: str, rows: Rows = None, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "tok d"]:
        """Activations of some rows, in the order asked for.

        Raises:
            HookError: nothing is stored for the hook point.
            ShapeError: a row number is outside the store.
        """
        width, numbers = self.width(hook_name), self.row_numbers(rows)
        out = torch.empty(len(numbers), width, dtype=dtype)
        order = np.arange(len(numbers)) if ascends(numbers) else np.argsort(numbers, kind="stable")
        ends = np.searchsorted(numbers[order], self.row_bounds)
        for index, (start, end) in enumerate(pairwise(ends)):
            if start < end:
                where = order[start:end]
                local = numbers[where] - self.row_bounds[index]
                if is_run(local) and is_run(where):
                    part = out[where[0] : where[-1] + 1]
                    read_run(self.path(index), self.places(index)[hook_name], int(local[0]), part)
                else:
                    copy_rows(self._maps(index)[hook_name], local, out, where)
        return out

    def blocks(
        self, hook_names: Sequence[str] | None = None, *, max_rows: int = 65536
    ) -> Iterator[StoreBlock]:
        """All rows in order, several hook points side by side, mapped: nothing is copied or converted.

        Args:
            hook_names: by default all.
            max_rows: a block has at most so many rows, and never more than its shard.

        Raises:
            HookError: nothing is stored for a hook point.
        """
        names = self.hook_names if hook_names is None else tuple(hook_names)
        for name in names:
            self.width(name)
        return self._blocks(names, max_rows)

    def _blocks(self, names: Sequence[str], max_rows: int) -> Iterator[StoreBlock]:
        for index, shard in enumerate(self.shards):
            # Mapped here and not kept, since pages that were read count as memory until they are unmapped.
            mapped = map_tensors(self.path(index))
            for start in range(0, shard.n_rows, max_rows):
                yield StoreBlock(
                    first_row=int(self.row_bounds[index]) + start,
                    acts={name: mapped[name][start : start + max_rows] for name in names},
                )

    def moments(self, hook_name: str) -> Moments:
        """Count, mean and summed squared deviations of each column, merged from those of the shards.

        Raises:
            HookError: nothing is stored for the hook point.
        """
        width = self.width(hook_name)
        parts: list[Moments] = []
        for shard in self.shards:
            found = map_tensors(self.folder / f"{shard.name}{MOMENTS_SUFFIX}")
            mean, m2 = found[f"{hook_name}.mean"], found[f"{hook_name}.m2"]
            parts.append(Moments(count=shard.n_rows, mean=mean, m2=m2))
        return Moments.merged(parts, width)

    def batches(
        self,
        hook_name: str,
        rows: Rows = None,
        *,
        batch_size: int,
        seed: int | None = None,
        epochs: int | None = 1,
        drop_last: bool = False,
    ) -> Iterator[Float[Tensor, "case d"]]:
        """Activations in batches: in row order, or with a seed shuffled anew in each epoch.

        The shuffle permutes shards, then rows inside a few shards at a time, since rows gathered from
        everywhere would read the whole store for each batch.

        Args:
            epochs: passes over the rows; None never ends.
            drop_last: leave out a last batch that is not full.
        """
        self.width(hook_name)
        numbers = self.row_numbers(rows)
        if not len(numbers):
            raise ShapeError("no rows to make batches of; select at least one.")
        blocks = shuffled_blocks(
            numbers, self.row_bounds, batch_size=batch_size, seed=seed, epochs=epochs
        )
        acts = (self.acts(hook_name, block) for block in blocks)
        return split_in_batches(acts, batch_size, drop_last=drop_last)

    def row_numbers(self, rows: Rows) -> Int[np.ndarray, "row"]:
        """The row numbers that a selection means.

        Raises:
            ShapeError: a row number is outside the store, or a mask has another length.
        """
        if rows is None or isinstance(rows, slice):
            return np.arange(self.n_tokens)[slice(None) if rows is None else rows]
        if rows.dtype == bool:
            if rows.shape != (self.n_tokens,):
                raise ShapeError(
                    f"a mask of shape {rows.shape} selects among {self.n_tokens} rows; "
                    "give one boolean for each row of the store."
                )
            return np.flatnonzero(rows)
        if len(rows) and (rows.min() < 0 or rows.max() >= self.n_tokens):
            raise ShapeError(
                f"rows {rows.min()} to {rows.max()} were asked for; the store has rows 0 to "
                f"{self.n_tokens - 1}."
            )
        return rows.astype(np.int64, copy=False)

    def path(self, index: int) -> Path:
        """The file with the activations of a shard."""
        return self.folder / f"{self.shards[index].name}.safetensors"

    def places(self, index: int) -> dict[str, Place]:
        """Where the hook points stand in the file of a shard."""
        if index not in self._places:
            self._places[index] = read_places(self.path(index))
        return self._places[index]

    def verify(self) -> None:
        """Read every file and compare it with its digests; `verification.find_damage` lists all that is wrong.

        Raises:
            StoreError: one differs; the message names file, hook point and rows.
        """
        from mechprobe.activations.verification import find_damage

        if damage := find_damage(self.folder):
            raise StoreError(
                f"{damage[0]}; delete the files of that shard and capture again, which writes only what is missing."
            )

    def _maps(self, index: int) -> dict[str, Tensor]:
        if index not in self._opened:
            self._opened[index] = map_tensors(self.path(index))
        return self._opened[index]

    @cached_property
    def _opened(self) -> dict[int, dict[str, Tensor]]:
        return {}

    @cached_property
    def _places(self) -> dict[int, dict[str, Place]]:
        return {}


def _stamps(shard: Sidecar) -> dict[str, str]:
    return {name: stamp.xxh3 for name, stamp in shard.files.items()}
