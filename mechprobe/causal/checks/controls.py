"""Directions that should do nothing: random ones and ones fitted to permuted labels.

A null must match the operation: random directions are put through the same interchange as the real one. A shove of
the real one's length along a random direction is another question ("fragility"), and is reported apart.
"""

import torch
from einops import einsum
from jaxtyping import Bool, Float
from torch import Tensor


def random_directions(n: int, width: int, *, seed: int) -> Float[Tensor, "draw d"]:
    """Unit directions spread evenly over the sphere."""
    drawn = torch.randn(n, width, generator=torch.Generator().manual_seed(seed))
    return drawn / drawn.norm(dim=-1, keepdim=True)


def covariance_matched_directions(
    acts: Float[Tensor, "row d"], n: int, *, seed: int
) -> Float[Tensor, "draw d"]:
    """Unit directions drawn as activations vary, Sigma^(1/2) z: a harder null, for it stays on the data."""
    centred = (acts - acts.mean(0)).float()
    weights = torch.randn(n, len(acts), generator=torch.Generator().manual_seed(seed))
    drawn = einsum(weights, centred, "draw row, row d -> draw d")
    return drawn / drawn.norm(dim=-1, keepdim=True).clamp(min=1e-12)


def shuffled_label_directions(
    acts: Float[Tensor, "row d"], is_present: Bool[Tensor, "row"], n: int, *, seed: int
) -> Float[Tensor, "draw d"]:
    """Unit differences of means under labels that tell nothing about the indicator.

    The labels are permuted so that each false class has equal shares of both true classes. A free permutation
    leaves a chance share of the true difference in the means, and scaling to unit length would blow it up into the
    true direction wherever that is the main way in which the activations vary.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn: list[Tensor] = []
    for _ in range(n):
        halves = [_random_halves(acts[is_present == held], generator) for held in (True, False)]
        drawn.append(halves[0][0] + halves[1][0] - halves[0][1] - halves[1][1])
    stacked = torch.stack(drawn) if drawn else torch.zeros(0, acts.shape[-1])
    length = stacked.norm(dim=-1, keepdim=True)
    # What is left of a difference of equal means is rounding error, and no direction.
    is_noise = length <= 1e-5 * acts.float().norm(dim=-1).mean()
    return torch.where(is_noise, 0.0, stacked / length.clamp(min=1e-12))


def without(
    directions: Float[Tensor, "draw d"], direction: Float[Tensor, "d"]
) -> Float[Tensor, "draw d"]:
    """Take a unit direction out of others and give them unit length again.

    A control that overlaps with the real direction is no null: what it does, the real direction does through it.
    What remains zero is left zero.
    """
    overlap = einsum(directions, direction, "draw d, d -> draw")
    rest = directions - overlap[:, None] * direction
    length = rest.norm(dim=-1, keepdim=True)
    return torch.where(length > 1e-4, rest / length.clamp(min=1e-12), 0.0)


def _random_halves(
    acts: Float[Tensor, "row d"], generator: torch.Generator
) -> tuple[Float[Tensor, "d"], Float[Tensor, "d"]]:
    order = torch.randperm(len(acts), generator=generator)
    half = len(acts) // 2
    return acts[order[:half]].float().mean(0), acts[order[half:]].float().mean(0)
