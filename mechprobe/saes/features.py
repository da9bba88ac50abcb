"""Feature activations on disk: sparse rows, and for each feature the tokens that it is active on.

The shards hold rows (`encoding.py` writes them, `codes.py` says how they lie); the folder `by_feature` beside them holds
the same numbers sorted by feature (`inverted.py`), so that reading some rows and reading one feature are both short.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from jaxtyping import Float, Int

from mechprobe.activations.shards import (
    Sidecar,
    content_problem,
    map_tensors,
    read_header,
    read_sidecars,
    size_problem,
)
from mechprobe.errors import ShapeError, StoreError
from mechprobe.saes.codes import Arrays, unpack_rows
from mechprobe.saes.examples import FeatureExample, TokenContext
from mechprobe.saes.inverted import FeatureIndex, build_index, open_index, rows_digest

KIND = "mechprobe features"
HEADER_NAME = "features.json"
INDEX_FOLDER = "by_feature"


@dataclass(frozen=True, kw_only=True)
class FeatureStore:
    """Sparse features on disk; `FeatureStore.open` reads one that `encode_store` wrote."""

    folder: Path
    hook_name: str
    d_sae: int
    config: Mapping[str, Any]
    """The header: digests of the SAE, the activations and the rows."""
    shards: tuple[Sidecar, ...]

    @classmethod
    def open(cls, folder: Path) -> "FeatureStore":
        """Open a complete feature store.

        Raises:
            StoreError: there is none, it is unfinished, of a newer schema, or files are missing or cut off.
        """
        if not (folder / HEADER_NAME).is_file():
            raise StoreError(
                f"{folder} is no feature store: it has no {HEADER_NAME}; encode into it first."
            )
        header = read_header(folder / HEADER_NAME, KIND)
        shards = read_sidecars(folder, KIND)
        for shard in shards:
            if problem := size_problem(folder, shard):
                raise StoreError(f"{problem}; encode again, which writes only what is missing.")
        if len(shards) != header["n_shards"] or {s.config for s in shards} != {header["digest"]}:
            raise StoreError(
                f"{folder} is unfinished or mixed: {len(shards)} of {header['n_shards']} shards; encode "
                "again, which writes only what is missing."
            )
        return cls(
            folder=folder,
            hook_name=header["hook_name"],
            d_sae=header["d_sae"],
            config=header,
            shards=tuple(shards),
        )

    @property
    def n_tokens(self) -> int:
        """How many rows are encoded."""
        return sum(shard.n_rows for shard in self.shards)

    @cached_property
    def rows(self) -> Int[np.ndarray, "tok"]:
        """The rows of the activation store that are encoded, ascending."""
        return np.concatenate([part["row"] for part in self._arrays])

    def csr(self, rows: Int[np.ndarray, "row"] | None = None) -> sp.csr_matrix:
        """Feature activations [tok, d_sae] in float32, of all encoded rows or of some, in their order.

        Args:
            rows: row numbers of the activation store.

        Raises:
            ShapeError: a row was not encoded.
        """
        wanted = self.rows if rows is None else np.asarray(rows, dtype=np.int64)
        places = self._places(wanted)
        shard = np.searchsorted(self._bounds, places, side="right") - 1
        columns: list[np.ndarray] = []
        values: list[np.ndarray] = []
        counts = np.zeros(len(wanted), np.int64)
        # Runs of rows from one shard are read together and stay in the order asked for.
        cuts = np.flatnonzero(np.diff(shard)) + 1
        for run in np.split(np.arange(len(wanted)), cuts):
            if len(run):
                arrays = self._arrays[shard[run[0]]]
                local = places[run] - self._bounds[shard[run[0]]]
                counts[run], index, value = unpack_rows(arrays, local)
                columns.append(index)
                values.append(value)
        return sp.csr_matrix(
            (
                np.concatenate([np.zeros(0, np.float32), *values]),
                np.concatenate([np.zeros(0, np.int32), *columns]),
                np.concatenate([[0], np.cumsum(counts)]),
            ),
            shape=(len(wanted), self.d_sae),
        )

    def feature(
        self, feature: int
    ) -> tuple[Int[np.ndarray, "active"], Float[np.ndarray, "active"]]:
        """Rows of the activation store that a feature is active on, and its activation there.

        Raises:
            ShapeError: there is no such feature.
        """
        if not 0 <= feature < self.d_sae:
            raise ShapeError(f"feature {feature} of an SAE with features 0 to {self.d_sae - 1}.")
        return self.index.feature(feature)

    @cached_property
    def index(self) -> FeatureIndex:
        """The activations by feature; built here where they are missing or older than the rows."""
        folder, source = self.folder / INDEX_FOLDER, rows_digest(self.shards)
        found = open_index(folder, source=source, d_sae=self.d_sae)
        return found or build_index(folder, self.blocks, source=source, d_sae=self.d_sae)

    def blocks(self) -> Iterator[tuple[Int[np.ndarray, "row"], sp.csr_matrix]]:
        """Row numbers and feature activations shard by shard, in order of rows."""
        for arrays in self._arrays:
            counts, columns, values = unpack_rows(arrays)
            bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
            shape = (len(arrays["row"]), self.d_sae)
            yield arrays["row"], sp.csr_matrix((values, columns, bounds), shape=shape)

    def top_examples(
        self, feature: int, n: int = 10, *, tokens: pd.DataFrame, context: int = 12
    ) -> list[FeatureExample]:
        """The tokens that a feature is most active on, the best one of each transcript.

        Args:
            tokens: the token table of the activation store.
            context: how many stored tokens to show on either side.
        """
        context_of = TokenContext.of(tokens)
        rows, values = self.feature(feature)
        return context_of.examples(context_of.top_rows(rows, values, n), rows, values, context)

    def verify(self) -> None:
        """Read every file and compare it with its digest.

        Raises:
            StoreError: one differs; the message names it.
        """
        for shard in self.shards:
            if problem := content_problem(self.folder, shard):
                raise StoreError(f"{problem}; delete {shard.name}.* and encode again.")
        if problem := self.index.problem():
            raise StoreError(
                f"{problem}; delete {self.folder / INDEX_FOLDER}, which is built again from the rows."
            )

    def _places(self, wanted: Int[np.ndarray, "row"]) -> Int[np.ndarray, "row"]:
        places = np.searchsorted(self.rows, wanted)
        found = (
            self.rows[np.minimum(places, len(self.rows) - 1)] if len(self.rows) else wanted * 0 - 1
        )
        if (lost := wanted[found != wanted]).size:
            raise ShapeError(
                f"row {lost[0]} is not among the {self.n_tokens} rows that {self.folder} holds; encode it too."
            )
        return places

    @cached_property
    def _bounds(self) -> Int[np.ndarray, "shard_bound"]:
        return np.cumsum([0, *(shard.n_rows for shard in self.shards)])

    @cached_property
    def _arrays(self) -> list[Arrays]:
        paths = [self.folder / f"{shard.name}.safetensors" for shard in self.shards]
        return [{name: t.numpy() for name, t in map_tensors(path).items()} for path in paths]
