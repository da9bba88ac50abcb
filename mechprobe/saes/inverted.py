"""The feature-major side of a feature store: for each feature the rows that it is active on, without scanning.

It is derived from the row-major shards, can be deleted, and is built again when it is asked for and missing or older than
they are. Building sorts one shard at a time by feature into scratch files and then gathers bands of features from them, so
that memory holds one shard and one band: 4 million activations, or a 256th of all where that is more.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Int

from mechprobe.activations.durable import write_json_durably
from mechprobe.activations.lock import StoreLock
from mechprobe.activations.shards import (
    SCHEMA,
    Sidecar,
    commit_shard,
    content_problem,
    finished_shard,
    map_tensors,
    read_header,
    read_sidecars,
    safetensors_chunks,
    shard_name,
    size_problem,
)
from mechprobe.errors import StoreError
from mechprobe.records import digest_json
from mechprobe.saes.codes import Arrays

KIND = "mechprobe features by feature"
HEADER_NAME = "index.json"
_BAND_ENTRIES = 1 << 22
"""Activations of one band (25 MB); a feature with more makes a band of its own."""
_MOST_BANDS = 256
"""Above so many, bands are larger instead, since each band reads from the sorted copy of every shard."""
_SCRATCH = "sorting.tmp"


@dataclass(frozen=True, kw_only=True)
class FeatureIndex:
    """Activations by feature on disk, in bands of neighbouring features."""

    folder: Path
    d_sae: int
    bands: tuple[Sidecar, ...]

    def feature(
        self, feature: int
    ) -> tuple[Int[np.ndarray, "active"], Float[np.ndarray, "active"]]:
        """Rows of the activation store that a feature is active on, ascending, and its activation there."""
        band = int(np.searchsorted(self._first, feature, side="right")) - 1
        return _of_feature(self._arrays(band), feature - int(self._first[band]))

    def in_order(
        self,
    ) -> Iterator[tuple[int, Int[np.ndarray, "active"], Float[np.ndarray, "active"]]]:
        """All features one after another, with what `feature` gives; one band is mapped at a time."""
        for band, sidecar in enumerate(self.bands):
            arrays = _map_band(self.folder, sidecar)
            for at in range(sidecar.n_rows):
                yield (int(self._first[band]) + at, *_of_feature(arrays, at))

    def counts(self) -> Int[np.ndarray, "d_sae"]:
        """On how many rows each feature is active."""
        bands = [_map_band(self.folder, sidecar)["indptr"] for sidecar in self.bands]
        return np.concatenate([np.diff(bounds) for bounds in bands])

    def problem(self) -> str | None:
        """What is wrong with the bytes, read in full; None when nothing is."""
        found = (content_problem(self.folder, band) for band in self.bands)
        return next((problem for problem in found if problem), None)

    @cached_property
    def _first(self) -> Int[np.ndarray, "band"]:
        return np.array([band.facts["first_feature"] for band in self.bands], dtype=np.int64)

    def _arrays(self, band: int) -> Arrays:
        if band not in self._opened:
            self._opened[band] = _map_band(self.folder, self.bands[band])
        return self._opened[band]

    @cached_property
    def _opened(self) -> dict[int, Arrays]:
        return {}


def rows_digest(shards: Sequence[Sidecar]) -> str:
    """Digest of the row-major shards, by which an index knows what it was built from."""
    stamps = [{name: stamp.xxh3 for name, stamp in shard.files.items()} for shard in shards]
    return digest_json([[shard.config for shard in shards], stamps])


def open_index(folder: Path, *, source: str, d_sae: int) -> FeatureIndex | None:
    """The index in a folder; None where there is none, or it is unfinished, cut off or built from other shards."""
    if not (folder / HEADER_NAME).is_file():
        return None
    try:
        header = read_header(folder / HEADER_NAME, KIND)
        bands = read_sidecars(folder, KIND)
    except StoreError:
        return None  # a derived file is not mended but built again
    is_whole = header["source"] == source and len(bands) == header["n_bands"]
    if not is_whole or any(b.config != source or size_problem(folder, b) for b in bands):
        return None
    return FeatureIndex(folder=folder, d_sae=d_sae, bands=tuple(bands))


def build_index(
    folder: Path,
    shards: Callable[[], Iterable[tuple[np.ndarray, sp.csr_matrix]]],
    *,
    source: str,
    d_sae: int,
) -> FeatureIndex:
    """Sort the activations of all shards by feature; bands that are there and of this source are kept.

    Args:
        shards: gives row numbers and activations of each shard, in order of rows.
        source: digest of the shards (`rows_digest`).

    Raises:
        StoreError: the folder cannot be written to, or another process builds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = StoreLock.take(folder)
    scratch = folder / _SCRATCH
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        pieces = [
            _sort_shard(scratch / f"{at:05d}", rows, active)
            for at, (rows, active) in enumerate(shards())
        ]
        counts = np.zeros(d_sae, np.int64)
        for piece in pieces:
            counts += np.diff(np.load(piece / "bounds.npy", mmap_mode="r"))
        edges = _band_edges(counts)
        for old in folder.glob("shard-*"):
            if int(old.name[6:11]) >= len(edges) - 1:
                old.unlink()
        for at in range(len(edges) - 1):
            if not _is_finished(folder, at, source, edges[at]):
                _write_band(folder, at, pieces, counts, (edges[at], edges[at + 1]), source)
        header = {"kind": KIND, "schema": SCHEMA, "source": source, "n_bands": len(edges) - 1}
        write_json_durably(folder / HEADER_NAME, header)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        lock.release()
    return FeatureIndex(folder=folder, d_sae=d_sae, bands=tuple(read_sidecars(folder, KIND)))


def _is_finished(folder: Path, band: int, source: str, first: int) -> bool:
    try:
        found = finished_shard(folder, band, kind=KIND, config=source)
    except StoreError:
        return False
    return found is not None and found.facts["first_feature"] == first


def _sort_shard(piece: Path, rows: np.ndarray, active: sp.csr_matrix) -> Path:
    by_feature = active.tocsc()
    kind = np.int32 if not len(rows) or rows[-1] <= np.iinfo(np.int32).max else np.int64
    piece.mkdir()
    np.save(piece / "bounds.npy", by_feature.indptr.astype(np.int64))
    np.save(piece / "row.npy", rows.astype(kind)[by_feature.indices])
    np.save(piece / "value.npy", by_feature.data.astype(np.float16))
    return piece


def _band_edges(counts: Int[np.ndarray, "d_sae"]) -> list[int]:
    most = max(_BAND_ENTRIES, -(-int(counts.sum()) // _MOST_BANDS))
    edges, held = [0], 0
    for feature, count in enumerate(counts.tolist()):
        if held and held + count > most:
            edges.append(feature)
            held = 0
        held += count
    return [*edges, len(counts)]


def _write_band(
    folder: Path,
    band: int,
    pieces: Sequence[Path],
    counts: Int[np.ndarray, "d_sae"],
    edges: tuple[int, int],
    source: str,
) -> None:
    first, stop = edges
    bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts[first:stop])])
    kinds = [np.load(piece / "row.npy", mmap_mode="r").dtype for piece in pieces]
    rows = np.empty(bounds[-1], max(kinds, default=np.dtype(np.int32)))
    values = np.empty(bounds[-1], np.float16)
    free = bounds[:-1].copy()
    for piece in pieces:
        of_piece = np.load(piece / "bounds.npy", mmap_mode="r")[first : stop + 1]
        part = slice(int(of_piece[0]), int(of_piece[-1]))
        n_each = np.diff(of_piece)
        place = np.repeat(free - (of_piece[:-1] - of_piece[0]), n_each) + np.arange(n_each.sum())
        rows[place] = np.load(piece / "row.npy", mmap_mode="r")[part]
        values[place] = np.load(piece / "value.npy", mmap_mode="r")[part]
        free += n_each
    arrays = {"indptr": bounds, "row": rows, "value": values}
    commit_shard(
        folder,
        shard_name(band),
        {".safetensors": safetensors_chunks({k: torch.from_numpy(a) for k, a in arrays.items()})},
        kind=KIND,
        config=source,
        n_rows=stop - first,
        facts={"first_feature": first, "n_active": int(bounds[-1])},
    )


def _map_band(folder: Path, sidecar: Sidecar) -> Arrays:
    tensors = map_tensors(folder / f"{sidecar.name}.safetensors")
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def _of_feature(arrays: Arrays, at: int) -> tuple[np.ndarray, np.ndarray]:
    part = slice(int(arrays["indptr"][at]), int(arrays["indptr"][at + 1]))
    return arrays["row"][part].astype(np.int64), arrays["value"][part].astype(np.float32)
