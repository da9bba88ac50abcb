"""What a feature's decoder row says by itself: the tokens that it raises and lowers, and the rows that lie nearest."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from mechprobe.errors import ConfigError
from mechprobe.models.readers import UNEMBEDDING, residual_readers
from mechprobe.models.subject import Subject

_CHUNK = 512
"""Features whose logits are in memory at once."""
N_BARS = 24


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LogitLens:
    """What one unit of each feature adds to the logits directly, up to the last norm's division by the stream's size.

    Only the path straight from the hook point to the logits counts; what later blocks make of the feature does not.
    """

    top_ids: Int[Tensor, "d_sae shown"]
    top: Float[Tensor, "d_sae shown"]
    bottom_ids: Int[Tensor, "d_sae shown"]
    bottom: Float[Tensor, "d_sae shown"]
    """Most negative first."""
    spread: Float[Tensor, "d_sae"]
    """Standard deviation over the vocabulary: how much a feature moves what is said next."""
    histogram: Float[Tensor, "d_sae bar"]
    """Tokens in each of N_BARS equal steps from the lowest to the highest logit."""


def unembedding(subject: Subject, hook_name: str) -> Float[Tensor, "vocab d_model"] | None:
    """The unembedding with the last norm's gain folded in; None where the model has none, or none reads the hook point."""
    if not subject.is_causal or subject.width(hook_name) != subject.d_model:
        return None
    readers = residual_readers(subject, hook_name)
    return next((one.weight.detach() for one in readers if one.name == UNEMBEDDING), None)


@torch.no_grad()
def logit_lens(
    rows: Float[Tensor, "d_sae d_model"], unembed: Float[Tensor, "vocab d_model"], n: int = 10
) -> LogitLens:
    """The tokens that each decoder row raises and lowers most, and how much it moves the logits in all.

    Raises:
        ConfigError: fewer tokens than are to be shown.
    """
    if not 1 <= n <= len(unembed):
        raise ConfigError(f"{n} tokens are to be shown of a vocabulary of {len(unembed)}.")
    parts: list[tuple[Tensor, ...]] = []
    for chunk in rows.split(_CHUNK):
        logits = chunk.to(unembed.dtype) @ unembed.T
        high, low = logits.topk(n), logits.topk(n, largest=False)
        centred = logits - logits.mean(1, keepdim=True)
        spread = centred.pow(2).mean(1).sqrt()
        parts.append((high.indices, high.values, low.indices, low.values, spread, _bars(logits)))
    found = [torch.cat(part) for part in zip(*parts, strict=True)]
    return LogitLens(
        top_ids=found[0],
        top=found[1],
        bottom_ids=found[2],
        bottom=found[3],
        spread=found[4],
        histogram=found[5],
    )


def _bars(logits: Float[Tensor, "feature vocab"]) -> Float[Tensor, "feature bar"]:
    low, high = logits.amin(1, keepdim=True), logits.amax(1, keepdim=True)
    step = (high - low).clamp_min(1e-12) / N_BARS
    bar = ((logits - low) / step).long().clamp(0, N_BARS - 1)
    counts = torch.zeros(len(logits), N_BARS)
    return counts.scatter_add_(1, bar, torch.ones_like(logits, dtype=torch.float32))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Neighbours:
    """The features whose decoder rows point most nearly the same way."""

    feature: Int[Tensor, "d_sae shown"]
    cosine: Float[Tensor, "d_sae shown"]


@torch.no_grad()
def nearest_rows(rows: Float[Tensor, "d_sae d_in"], n: int = 5) -> Neighbours:
    """The n other rows of largest cosine with each row, nearest first; fewer where there are fewer."""
    unit = normalize(rows.float(), dim=-1)
    n = min(n, len(unit) - 1)
    features: list[Tensor] = []
    cosines: list[Tensor] = []
    for first in range(0, len(unit), _CHUNK):
        near = unit[first : first + _CHUNK] @ unit.T
        own = torch.arange(len(near))
        near[own, own + first] = -torch.inf
        found = near.topk(n)
        features.append(found.indices)
        cosines.append(found.values)
    return Neighbours(feature=torch.cat(features), cosine=torch.cat(cosines))
