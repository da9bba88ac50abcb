"""A key-value cache of few sequences that many runs read, repeated for one layer at a time."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer


class RepeatedLayer(DynamicLayer):
    """Keys and values of sequences that stay as they are; each run gets those of its own sequence before its new ones."""

    def __init__(
        self,
        *,
        keys: Float[Tensor, "case head before d_head"],
        values: Float[Tensor, "case head before d_head"],
        case: Int[Tensor, "row"],
    ) -> None:
        super().__init__()
        self.keys, self.values = keys, values
        self._old = keys, values
        self.dtype, self.device = keys.dtype, keys.device
        self.is_initialized = True
        self._case = case

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Keys and values of the rows, old before new; nothing is kept, so that only one layer is ever repeated."""
        keys, values = self._old
        return _continued(keys, key_states, self._case), _continued(
            values, value_states, self._case
        )


def empty_cache() -> DynamicCache:
    """A cache that keeps every token, also in layers that attend to a window only (the mask sees to that)."""
    return DynamicCache()


def repeated_cache(cache: DynamicCache, n_before: int, case: Int[Tensor, "row"]) -> DynamicCache:
    """The first `n_before` columns of a cache for each of many runs.

    Args:
        case: which sequence of the cache each run continues.
    """
    repeated = DynamicCache()
    layers: list[Any] = list(cache.layers)
    repeated.layers.extend(
        RepeatedLayer(
            keys=layer.keys[:, :, :n_before].contiguous(),
            values=layer.values[:, :, :n_before].contiguous(),
            case=case,
        )
        for layer in layers
    )
    return repeated


def _continued(
    old: Float[Tensor, "case head before d_head"],
    new: Float[Tensor, "row head after d_head"],
    case: Int[Tensor, "row"],
) -> Float[Tensor, "row head pos d_head"]:
    """The old states of each row's case, then its new ones, written in place: repeating first would copy twice."""
    n_before = old.shape[2]
    whole = new.new_empty(*new.shape[:2], n_before + new.shape[2], new.shape[3])
    torch.index_select(old, 0, case, out=whole[:, :, :n_before])
    whole[:, :, n_before:] = new
    return whole
