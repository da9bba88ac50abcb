"""The activation store: rows of activations at named hook points, with a table that says what each row is.

A folder of shards (`shards.py`): per shard one safetensors file with a `[tok, d]` tensor for each hook point
and one Parquet token table. Reading maps the files; only the rows asked for are copied.
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
from mechprobe.activations.shards import (
    Sidecar,
    content_problem,
    map_tensors,
    read_header,
    read_sidecars,
    size_problem,
)
from mechprobe.errors import HookError, ShapeError, StoreError
from mechprobe.records import digest_json

KIND = "mechprobe activations"
HEADER_NAME = "store.json"
_CODED = ["transcript_id", "role", "section"]

Rows = slice | np.ndarray | None
"""Which rows of a store: None for all, a slice, row numbers, or one boolean for each row."""


@dataclass(frozen=True, kw_only=True)
class ActivationStore:
    """Activations on disk, opened for reading by `ActivationStore.open`."""

    folder: Path
    hooks: Mapping[str, int]
    """Hook point -> width of its activations."""
    dtype: str
    config: Mapping[str, Any]
    """What the activations were captured with."""
    shards: tuple[Sidecar, ...]

    @classmethod
    def open(cls, folder: Path) -> "ActivationStore":
        """Open a complete store.

        Raises:
            StoreError: there is none, it is unfinished, of a newer schema, or files are missing or cut off.
        """
        header = read_store_header(folder)
        shards = read_sidecars(folder, KIND)
        _check_complete(folder, header, shards)
        return cls(
            folder=folder,
            hooks=header["hooks"],
            dtype=header["dtype"],
            config=header["config"],
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
        out_shape = self.width(hook_name)
        numbers = self.row_numbers(rows)
        out = torch.empty(len(numbers), out_shape, dtype=dtype)
        order = np.arange(len(numbers)) if _ascends(numbers) else np.argsort(numbers, kind="stable")
        ends = np.searchsorted(numbers[order], self.row_bounds)
        for index, (start, end) in enumerate(pairwise(ends)):
            if start < end:
                where = order[start:end]
                local = numbers[where] - self.row_bounds[index]
                _copy_rows(self._mapped(index, hook_name), local, out, where)
        return out

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

    def verify(self) -> None:
        """Read every file and compare it with its digest.

        Raises:
            StoreError: one differs; the message names it.
        """
        for shard in self.shards:
            if problem := content_problem(self.folder, shard):
                raise StoreError(
                    f"{problem}; delete {shard.name}.* and capture again, which writes only what is missing."
                )

    def _mapped(self, index: int, hook_name: str) -> Tensor:
        return self._maps(index)[hook_name]

    def _maps(self, index: int) -> dict[str, Tensor]:
        if index not in self._opened:
            path = self.folder / f"{self.shards[index].name}.safetensors"
            self._opened[index] = map_tensors(path)
        return self._opened[index]

    @cached_property
    def _opened(self) -> dict[int, dict[str, Tensor]]:
        return {}


def read_store_header(folder: Path) -> dict[str, Any]:
    """The header of a store folder.

    Raises:
        StoreError: the folder is missing, or holds something else.
    """
    if not folder.is_dir():
        raise StoreError(f"{folder} does not exist; capture activations into it first.")
    if not (folder / HEADER_NAME).is_file():
        found = ", ".join(sorted(path.name for path in folder.iterdir())[:3]) or "nothing"
        raise StoreError(
            f"{folder} is no activation store: it has no {HEADER_NAME} (found: {found}); "
            "point to a folder that `mechprobe capture` wrote."
        )
    return read_header(folder / HEADER_NAME, KIND)


def _check_complete(folder: Path, header: dict[str, Any], shards: Sequence[Sidecar]) -> None:
    conversation = 0
    for shard in shards:
        if shard.config != header["digest"]:
            raise StoreError(
                f"{folder / shard.name}.json belongs to a store of other settings; delete the folder "
                "and capture again."
            )
        if problem := size_problem(folder, shard):
            raise StoreError(f"{problem}; capture again, which writes only what is missing.")
        if shard.facts["first_conversation"] != conversation:
            break
        conversation += len(shard.facts["transcript_ids"])
    if conversation != header["n_conversations"]:
        raise StoreError(
            f"{folder} is unfinished: it holds the first {conversation} of "
            f"{header['n_conversations']} conversations; capture again, which writes only what is missing."
        )


def _copy_rows(
    source: Tensor, local: Int[np.ndarray, "row"], out: Tensor, where: Int[np.ndarray, "row"]
) -> None:
    if _is_run(local) and _is_run(where):
        out[where[0] : where[-1] + 1].copy_(source[local[0] : local[-1] + 1])
    else:
        out[torch.from_numpy(where)] = source[torch.from_numpy(local)].to(out.dtype)


def _ascends(numbers: Int[np.ndarray, "row"]) -> bool:
    return len(numbers) < 2 or bool((np.diff(numbers) > 0).all())


def _is_run(numbers: Int[np.ndarray, "row"]) -> bool:
    return int(numbers[-1]) - int(numbers[0]) + 1 == len(numbers) and _ascends(numbers)


def _stamps(shard: Sidecar) -> dict[str, str]:
    return {name: stamp.xxh3 for name, stamp in shard.files.items()}
