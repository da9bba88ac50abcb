"""How well directions were planted: measured on scenes that training did not draw."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mechprobe.models.organism.flips import FlipBatch, flip_batches
from mechprobe.models.organism.planted import (
    PlantConfig,
    answer_mask,
    run_rest,
    shake_rest,
    swap_subspace,
)
from mechprobe.models.organism.roles import RoleTable

HELD_OUT = 99


@dataclass(frozen=True, kw_only=True, slots=True)
class PlantedFigures:
    """What the planted subspace does, and what the rest of the activation at the site does."""

    interchange_action: float
    """Share of actions that are the flipped run's after a swap of the subspace."""
    interchange_action_changed: float
    """The same, where the flip changes the action."""
    interchange_audit: float
    """The same, for audit answers."""
    interchange_audit_changed: float
    """The same, for audit answers that the flip changes."""
    strict_action: float
    """Share of actions that stay right when everything but the subspace is changed."""
    strict_audit: float
    """The same, for audit answers."""
    coordinate_error: float
    """Root mean squared error of the coordinates, as a share of a held thought's coordinate."""
    cosine_mean: float
    """Cosine of the difference of means at the site with the planted direction, mean over thoughts."""
    cosine_min: float
    """The smallest of them."""


@torch.no_grad()
def measure_planted(
    model: Any,
    roles: RoleTable,
    directions: Float[Tensor, "indicator d"],
    config: PlantConfig,
    *,
    n_batches: int = 12,
) -> PlantedFigures:
    """Swap, shake and read the site on held-out scenes."""
    model.eval()
    rng = np.random.default_rng([config.training.seed, HELD_OUT])
    noise = torch.Generator().manual_seed(HELD_OUT)
    batches = flip_batches(roles, config.site, 32, rng)
    found = [_measure(model, next(batches), directions, config, noise) for _ in range(n_batches)]
    cosines = _cosines(found, directions)
    shares = {
        field.name: float(torch.cat([part.right[field.name] for part in found]).float().mean())
        for field in fields(PlantedFigures)
        if field.name in found[0].right
    }
    errors = torch.cat([part.acts @ directions.T - config.scale * part.held for part in found])
    return PlantedFigures(
        **shares,
        coordinate_error=float(errors.square().mean().sqrt()) / config.scale,
        cosine_mean=float(cosines.mean()),
        cosine_min=float(cosines.min()),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Part:
    right: dict[str, Bool[Tensor, "answer"]]
    acts: Float[Tensor, "clause d"]
    held: Float[Tensor, "clause indicator"]


def _measure(
    model: Any,
    batch: FlipBatch,
    directions: Float[Tensor, "indicator d"],
    config: PlantConfig,
    noise: torch.Generator,
) -> _Part:
    layer = config.site.layer
    hidden = model(batch.token_ids, output_hidden_states=True).hidden_states[layer + 1]
    wanted = batch.token_ids.roll(batch.n_scenes, dims=0)[:, 1:]
    swapped = run_rest(model, swap_subspace(hidden, batch, directions), layer)[:, :-1].argmax(-1)
    shaken = run_rest(model, shake_rest(hidden, batch, directions, noise), layer)
    own = batch.token_ids[:, 1:]
    is_answer = answer_mask(batch.weights)
    is_action = is_answer & (is_answer.cumsum(1) == 1)
    changed = wanted != own
    right: dict[str, Tensor] = {}
    for name, chosen in (("action", is_action), ("audit", is_answer & ~is_action)):
        right[f"interchange_{name}"] = (swapped == wanted)[chosen]
        right[f"interchange_{name}_changed"] = (swapped == wanted)[chosen & changed]
        right[f"strict_{name}"] = (shaken[:, :-1].argmax(-1) == own)[chosen]
    return _Part(right=right, acts=hidden[batch.at_site], held=batch.held)


def _cosines(
    found: Sequence[_Part], directions: Float[Tensor, "indicator d"]
) -> Float[Tensor, "indicator"]:
    acts = torch.cat([part.acts for part in found])
    held = torch.cat([part.held for part in found])
    means = held.T @ acts / held.sum(0)[:, None]
    others = (1 - held).T @ acts / (1 - held).sum(0)[:, None]
    return torch.nn.functional.cosine_similarity(means - others, directions, dim=1)
