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
    """Unit differences of means between classes whose labels were permuted."""
    generator = torch.Generator().manual_seed(seed)
    drawn: list[Tensor] = []
    for _ in range(n):
        labels = is_present[torch.randperm(len(is_present), generator=generator)]
        drawn.append(acts[labels].float().mean(0) - acts[~labels].float().mean(0))
    stacked = torch.stack(drawn) if drawn else torch.zeros(0, acts.shape[-1])
    return stacked / stacked.norm(dim=-1, keepdim=True).clamp(min=1e-12)
