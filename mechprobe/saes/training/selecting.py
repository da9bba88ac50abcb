"""Which features are active on which tokens: the encoder's product, a part of the batch at a time.

What is left of a part are the few numbers that can be among the largest, so that no array of all tokens x features is
ever in memory, and the search for the largest reads numbers that are still in the processor's cache.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import embedding_bag

_DENSE_NUMBERS = 1 << 22
"""How many pre-activations of a CPU batch are in memory at once (16 MiB of float32, about a last-level cache)."""
_DENSE_NUMBERS_GPU = 1 << 28
_GROUPS_PER_ACTIVE = 4
"""The k-th largest of 4 k group maxima leaves about 1.2 k candidates."""
_MARGIN = 0.8
"""The next cut-off is looked for above this share of the last one; if it is lower, the batch is encoded again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ActivePairs:
    """The active (token, feature) pairs of a batch, by token and then by feature."""

    token: Int[Tensor, "pair"]
    feature: Int[Tensor, "pair"]
    act: Float[Tensor, "pair"]
    """Feature activations, all positive."""
    n_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoder:
    """What turns tokens into pre-activations: x @ rows.T + bias."""

    rows: Float[Tensor, "d_sae d_in"]
    bias: Float[Tensor, "d_sae"]
    coarse: bool = False
    """Look for the active features in bfloat16; their activations are computed in full all the same."""

    def parts(self, x: Float[Tensor, "tok d_in"]) -> Iterator[Float[Tensor, "part d_sae"]]:
        """Pre-activations of consecutive parts of the batch; each is overwritten by the next."""
        numbers = _DENSE_NUMBERS if x.device.type == "cpu" else _DENSE_NUMBERS_GPU
        size = max(64, numbers // len(self.rows))
        rows = self.rows.bfloat16() if self.coarse else self.rows
        held = x.new_empty(min(size, len(x)), len(self.rows))
        for part in x.split(size):
            out = held[: len(part)]
            if self.coarse:
                torch.add(part.bfloat16() @ rows.T, self.bias, out=out)
            else:
                torch.addmm(self.bias, part, rows.T, out=out)
            yield out

    def exact(
        self, x: Float[Tensor, "tok d_in"], token: Int[Tensor, "pair"], feature: Int[Tensor, "pair"]
    ) -> Float[Tensor, "pair"]:
        """Pre-activations of single pairs that are sorted by token, in full precision."""
        weight = torch.ones(len(token), dtype=x.dtype, device=x.device, requires_grad=True)
        starts = torch.searchsorted(token, torch.arange(len(x), device=x.device))
        with torch.enable_grad():
            sums = embedding_bag(feature, self.rows, starts, per_sample_weights=weight, mode="sum")
            (dots,) = torch.autograd.grad(sums, weight, x)
        return dots + self.bias[feature]


Selector = Callable[[Encoder, Tensor], ActivePairs]
"""(encoder, tokens [tok, d_in]) -> the active pairs; those of zero or less are left out."""


class TopKSelector:
    """The k largest of each token, as sae-lens' TopK (arXiv 2406.04093)."""

    def __init__(self, k: int) -> None:
        self.k = k

    def __call__(self, encoder: Encoder, x: Float[Tensor, "tok d_in"]) -> ActivePairs:
        """The active pairs; those of zero or less are left out."""
        largest = _row_largest if x.device.type == "cpu" else _row_largest_sorted
        return _collected(encoder, x, lambda part: largest(part, self.k))


class BatchTopKSelector:
    """The k x n_tokens largest of the batch, as sae-lens' BatchTopK (arXiv 2412.06410).

    Of equal numbers at the cut-off sae-lens keeps some; here all are kept, so that no order decides.
    """

    def __init__(self, k: int) -> None:
        self.k = k
        self._floor: float | None = None
        """A number that the cut-off is hoped to be above. It decides how fast the search is, never what it finds."""

    def __call__(self, encoder: Encoder, x: Float[Tensor, "tok d_in"]) -> ActivePairs:
        """The active pairs; those of zero or less are left out."""
        n_kept = self.k * len(x)
        if self._floor is None:
            self._floor = _guessed_floor(next(encoder.parts(x)), self.k)
        floor = self._floor
        found = _collected(encoder, x, lambda part: _above(part, floor))
        while len(found.act) < n_kept and floor > 0:
            floor = floor * _MARGIN**2 if floor > 1e-3 * self._floor else 0.0
            found = _collected(encoder, x, lambda part, floor=floor: _above(part, floor))
        if len(found.act) == 0:
            return found
        cutoff = float(found.act.topk(min(n_kept, len(found.act)), sorted=False).values.min())
        self._floor = _MARGIN * cutoff
        kept = found.act >= cutoff
        return ActivePairs(
            token=found.token[kept],
            feature=found.feature[kept],
            act=found.act[kept],
            n_tokens=len(x),
        )


Found = tuple[Tensor, Tensor]
"""Flat places in a part, ascending, and the numbers there."""


def _collected(
    encoder: Encoder, x: Float[Tensor, "tok d_in"], find: Callable[[Tensor], Found]
) -> ActivePairs:
    """What a search finds in each part of the batch, put together."""
    places, acts, start = list[Tensor](), list[Tensor](), 0
    for part in encoder.parts(x):
        place, act = find(part)
        places.append(place + start)
        acts.append(act)
        start += part.numel()
    place, act = torch.cat(places), torch.cat(acts)
    d_sae = len(encoder.rows)
    token = torch.div(place, d_sae, rounding_mode="floor")
    feature = place - token * d_sae
    if encoder.coarse:
        act = encoder.exact(x, token, feature)
        positive = act > 0
        token, feature, act = token[positive], feature[positive], act[positive]
    return ActivePairs(token=token, feature=feature, act=act, n_tokens=len(x))


def _above(part: Float[Tensor, "part d_sae"], floor: float | Tensor) -> Found:
    """The numbers above a floor, for all rows or for each, that are positive."""
    if part.device.type == "cpu":  # numpy compares and searches booleans several times as fast
        bound = floor.numpy() if isinstance(floor, Tensor) else np.float32(floor)
        place = torch.from_numpy(np.flatnonzero(part.numpy() > bound))
    else:
        place = (part > floor).flatten().nonzero().squeeze(1)
    return place, part.flatten()[place]


def _row_largest(part: Float[Tensor, "part d_sae"], k: int) -> Found:
    """The k largest of each row, those that are positive."""
    n_groups = _GROUPS_PER_ACTIVE * k
    if part.shape[1] < 4 * n_groups:
        return _row_largest_sorted(part, k)
    whole = part[:, : part.shape[1] // n_groups * n_groups]
    maxima = whole.unflatten(1, (-1, n_groups)).amax(1)
    bound = maxima.topk(k, sorted=False).values.amin(1, keepdim=True)
    # At least k numbers reach the bound, so none below it is among the k largest.
    below = torch.nextafter(bound, torch.full_like(bound, -math.inf)).clamp_(min=0)
    place, act = _above(part, below)
    row = torch.div(place, part.shape[1], rounding_mode="floor")
    counts = torch.bincount(row, minlength=len(part))
    if int(counts.max()) <= k:
        return place, act
    slot = torch.arange(len(row)) - (counts.cumsum(0) - counts)[row]
    table = part.new_full((len(part), int(counts.max())), -math.inf)
    table[row, slot] = act
    kept = torch.zeros_like(table, dtype=torch.bool)
    kept.scatter_(1, table.topk(k, sorted=False).indices, True)
    chosen = kept[row, slot]
    return place[chosen], act[chosen]


def _row_largest_sorted(part: Float[Tensor, "part d_sae"], k: int) -> Found:
    values, columns = part.topk(k, sorted=False)
    columns, order = columns.sort(dim=1)
    starts = torch.arange(len(part), device=part.device)[:, None] * part.shape[1]
    place, act = (columns + starts).flatten(), values.gather(1, order).flatten()
    positive = act > 0
    return place[positive], act[positive]


def _guessed_floor(part: Float[Tensor, "part d_sae"], k: int) -> float:
    kept = part.flatten().topk(k * len(part), sorted=False).values.min()
    return max(0.0, _MARGIN * float(kept))
