"""How sparse rows lie in a file: fixed-k where every row has about as many active features, ragged where not.

Fixed-k pads short rows with value 0 and needs no row bounds; ragged keeps the bounds. The shorter one is taken for each
shard, so a TopK SAE gives fixed-k and a JumpReLU SAE ragged rows. Indices are uint16 or int32, values float16.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Int
from torch import Tensor

_MAX_UINT16 = 1 << 16
_BOUND_BYTES, _VALUE_BYTES = 8, 2

Arrays = Mapping[str, np.ndarray]
"""The tensors of a shard: `row`, `index` and `value`, and `indptr` where the rows are ragged."""
Active = tuple[Int[np.ndarray, "row"], Int[np.ndarray, "active"], Float[np.ndarray, "active"]]
"""How many features are active in each row, which, and how much."""


def pack_rows(features: sp.csr_matrix, numbers: Int[np.ndarray, "row"]) -> dict[str, Tensor]:
    """The tensors of a shard; what is 0 in float16 is left out, too large a value becomes infinite.

    Args:
        numbers: the row of the activation store that each row is.
    """
    narrow = np.uint16 if width_of(features) <= _MAX_UINT16 else np.int32
    with np.errstate(over="ignore"):
        values = features.data.astype(np.float16)
    kept = values != 0
    counts = _counts(np.asarray(features.indptr, np.int64), kept)
    index, values = features.indices[kept].astype(narrow), values[kept]
    if _is_fixed(counts, narrow().itemsize):
        arrays = _padded(counts, index, values)
    else:
        bounds = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        arrays = {"indptr": bounds, "index": index, "value": values}
    arrays = {"row": numbers.astype(np.int64), **arrays}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def unpack_rows(arrays: Arrays, local: Int[np.ndarray, "row"] | None = None) -> Active:
    """Read some rows of a shard by their place in it, or all."""
    if "indptr" not in arrays:
        index, value = (
            arrays[name] if local is None else arrays[name][local] for name in ("index", "value")
        )
        kept = value != 0
        return kept.sum(axis=1), index[kept].astype(np.int32), value[kept].astype(np.float32)
    if local is None:
        counts, where = np.diff(arrays["indptr"]), slice(None)
    else:
        starts, ends = arrays["indptr"][local], arrays["indptr"][local + 1]
        counts = ends - starts
        offsets = np.cumsum(counts) - counts
        where = np.repeat(starts - offsets, counts) + np.arange(counts.sum())
    return (
        counts,
        arrays["index"][where].astype(np.int32),
        arrays["value"][where].astype(np.float32),
    )


def width_of(features: sp.csr_matrix) -> int:
    """How many features a sparse matrix has columns for."""
    shape: Any = features.shape
    return int(shape[1])


def _counts(bounds: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """How many entries of each row are kept."""
    before = np.concatenate([np.zeros(1, np.int64), np.cumsum(kept)])
    return np.diff(before[bounds])


def _is_fixed(counts: np.ndarray, index_bytes: int) -> bool:
    widest = int(counts.max(initial=0))
    padding = (len(counts) * widest - int(counts.sum())) * (index_bytes + _VALUE_BYTES)
    return widest > 0 and padding <= len(counts) * _BOUND_BYTES


def _padded(counts: np.ndarray, index: np.ndarray, values: np.ndarray) -> dict[str, np.ndarray]:
    is_filled = np.arange(counts.max())[None] < counts[:, None]
    padded = {"index": np.zeros(is_filled.shape, index.dtype)}
    padded["value"] = np.zeros(is_filled.shape, values.dtype)
    padded["index"][is_filled], padded["value"][is_filled] = index, values
    return padded
