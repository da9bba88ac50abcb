"""How far directions tell the two sides of pairs apart, and how far an interchange moves them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import einsum
from jaxtyping import Float
from scipy.stats import mannwhitneyu
from torch import Tensor

from mechprobe.causal.cases import Case
from mechprobe.causal.directions import Direction
from mechprobe.causal.places.sites import SiteActs


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Coordinates:
    """Mean coordinate over the site's tokens, along each direction, in each case and in its partner."""

    own: Float[Tensor, "direction case"]
    partner: Float[Tensor, "direction case"]
    is_positive: tuple[bool, ...]

    def by_label(self) -> tuple[Float[Tensor, "direction case"], Float[Tensor, "direction case"]]:
        """The coordinates of the sides that hold the indicator, and of those that lack it."""
        is_positive = torch.tensor(self.is_positive)
        held = torch.where(is_positive, self.own, self.partner)
        return held, torch.where(is_positive, self.partner, self.own)

    def auroc(self) -> Float[np.ndarray, "direction"]:
        """AUROC of each direction on the matched pairs."""
        held, lacking = (side.double().numpy() for side in self.by_label())
        larger = mannwhitneyu(held, lacking, axis=1).statistic
        return np.asarray(larger) / held.shape[1] ** 2

    def moved(self) -> Float[np.ndarray, "direction"]:
        """Mean change by the interchange, in standard deviations of the coordinate."""
        spread = torch.cat([self.own, self.partner], 1).double().std(1, correction=0)
        change = (self.own - self.partner).double().abs().mean(1)
        return (change / spread.clamp(min=1e-12)).numpy()


def coordinates_along(
    acts: SiteActs, cases: Sequence[Case], vectors: Float[Tensor, "direction d"]
) -> Coordinates:
    """Projections on unit vectors."""
    own, partner = (
        einsum(side, vectors, "case site d, direction d -> direction case site")
        for side in (acts.own, acts.partner)
    )
    return _coordinates(acts, cases, own, partner)


def coordinates_of(
    acts: SiteActs, cases: Sequence[Case], directions: Sequence[Direction]
) -> Coordinates:
    """The coordinates that the directions themselves read, be they projections or features."""
    own, partner = (
        torch.stack([direction.coordinate(side) for direction in directions])
        for side in (acts.own, acts.partner)
    )
    return _coordinates(acts, cases, own, partner)


def _coordinates(
    acts: SiteActs,
    cases: Sequence[Case],
    own: Float[Tensor, "direction case site"],
    partner: Float[Tensor, "direction case site"],
) -> Coordinates:
    is_token = (acts.positions >= 0).float()
    means = [(side * is_token).sum(-1) / is_token.sum(-1) for side in (own, partner)]
    return Coordinates(
        own=means[0],
        partner=means[1],
        is_positive=tuple(case.side == "positive" for case in cases),
    )
