"""Does an edited activation still lie where natural ones lie?

An effect that needs an activation which the model never makes says what the model does there, not what it does. Four
figures compare edited rows with natural ones of the same site: distance from the mean in units of the natural spread
(Mahalanobis), length of what lies outside the natural principal components, size, and what an SAE fails to reconstruct
(CAUSAL.md section 3.5; Makelov et al., arXiv 2311.17030, on why in-distribution edits matter).

Half of the natural rows fit the description; the other half sets each limit, at the rank that a new natural row exceeds
with chance 1 % at most, whatever the figure's distribution (split conformal prediction; Vovk et al. 2005).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from mechprobe.causal.directions import Direction
from mechprobe.causal.places.sites import SiteActs
from mechprobe.errors import DataError, ShapeError
from mechprobe.saes.lens import Sae

BEYOND_CHANCE = 0.01
"""Share of natural rows that lie beyond a limit."""
COMPONENT_VARIANCE = 0.99
"""Share of the natural variance that the principal components hold."""
OFF_SHARE = 0.25
"""Share of edited rows beyond a limit from which the edit counts as off the manifold. A verdict needs an effect of a
quarter of the natural one (CAUSAL.md section 6); fewer rows, each moved by about one natural effect, cannot make it."""
MIN_ROWS = 200
"""Natural rows that are needed: of the half that sets the limits, one row in a hundred must lie beyond."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ManifoldFigures:
    """Shares of edited rows beyond what 99 % of natural rows keep to."""

    mahalanobis_beyond: float
    residual_beyond: float
    norm_beyond: float
    """Rows too long or too short."""
    sae_error_beyond: float
    """NaN without an SAE."""
    is_off_manifold: bool
    """At least one of the shares is OFF_SHARE or more."""
    n: int
    """Edited rows."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Manifold:
    """Where natural activations lie; `fit_manifold` makes one."""

    mean: Float[Tensor, "d"]
    precision: Float[Tensor, "d d"]
    """Inverse of the shrunk covariance."""
    components: Float[Tensor, "component d"]
    norm: float
    """Median length of natural rows."""
    sae: Sae | None
    limits: Mapping[str, float]

    def compare(self, edited: Float[Tensor, "row d"]) -> ManifoldFigures:
        """How many of the edited rows lie beyond each limit.

        Raises:
            ShapeError: the rows are not as wide as the natural ones, or there are none.
        """
        if edited.shape[1] != len(self.mean) or len(edited) == 0:
            raise ShapeError(
                f"{len(edited)} edited rows of width {edited.shape[1]} are compared with natural rows of width "
                f"{len(self.mean)}; give at least one row of the same site."
            )
        found = _figures(edited, self.mean, self.precision, self.components, self.norm, self.sae)
        beyond = {
            name: float((values > self.limits[name]).float().mean())
            for name, values in found.items()
        }
        return ManifoldFigures(
            mahalanobis_beyond=beyond["mahalanobis"],
            residual_beyond=beyond["residual"],
            norm_beyond=beyond["norm"],
            sae_error_beyond=beyond.get("sae_error", math.nan),
            is_off_manifold=max(beyond.values()) >= OFF_SHARE,
            n=len(edited),
        )


def fit_manifold(
    natural: Float[Tensor, "row d"], sae: Sae | None = None, *, seed: int = 0
) -> Manifold:
    """Describe where natural activations of a site lie; rows of the fit split, at the tokens that are edited.

    Raises:
        DataError: there are fewer than MIN_ROWS rows, or a value is not finite.
    """
    if len(natural) < MIN_ROWS or not bool(natural.isfinite().all()):
        raise DataError(
            f"{len(natural)} natural activations were given to compare edited ones with, "
            f"{int((~natural.isfinite()).any(1).sum())} of them not finite; a limit that 1 % of rows exceed needs "
            f"at least {MIN_ROWS} finite ones: capture more spans of the fit split."
        )
    order = torch.randperm(len(natural), generator=torch.Generator().manual_seed(seed))
    fit, held_out = natural[order].double().tensor_split(2)
    mean = fit.mean(0)
    precision = torch.linalg.inv(shrunk_covariance(fit))
    components = _components(fit - mean)
    norm = float(fit.norm(dim=-1).median())
    found = _figures(held_out, mean, precision, components, norm, sae)
    return Manifold(
        mean=mean,
        precision=precision,
        components=components,
        norm=norm,
        sae=sae,
        limits={name: _limit(values) for name, values in found.items()},
    )


def manifold_figures(
    natural: Float[Tensor, "row d"],
    edited: Float[Tensor, "edited d"],
    sae: Sae | None = None,
    *,
    seed: int = 0,
) -> ManifoldFigures:
    """Compare one set of edited rows with natural ones; `fit_manifold` once serves many sets.

    Raises:
        DataError, ShapeError: see `fit_manifold` and `Manifold.compare`.
    """
    return fit_manifold(natural, sae, seed=seed).compare(edited)


def edited_acts(
    acts: SiteActs, direction: Direction, *, strengths: Sequence[float] = (1.0, 2.0, 4.0)
) -> dict[str, Float[Tensor, "row d"]]:
    """What the edits of the protocol write at a site: one row a case and token.

    Args:
        strengths: steering adds strength * gap along the direction, to the partner's side.
    """
    is_token = acts.positions >= 0
    own, partner = acts.own[is_token], acts.partner[is_token]
    change = direction.part(partner) - direction.part(own)
    found = {"unedited": own, "whole_patch": partner, "interchange": own + change}
    towards = einsum(change, direction.vector, "row d, d -> row").sign() * abs(direction.gap)
    for strength in strengths:
        found[f"steering {strength:g}"] = own + strength * towards[:, None] * direction.vector
    return found


def manifold_rows(
    manifold: Manifold,
    acts: SiteActs,
    direction: Direction,
    *,
    strengths: Sequence[float] = (1.0, 2.0, 4.0),
) -> list[dict[str, object]]:
    """A table row for each edit along a direction; "unedited" and "whole_patch" show what natural rows give."""
    return [
        {
            "indicator": direction.indicator,
            "direction": direction.name,
            "operation": name,
            **asdict(manifold.compare(rows)),
            "chance": BEYOND_CHANCE,
        }
        for name, rows in edited_acts(acts, direction, strengths=strengths).items()
    ]


def shrunk_covariance(rows: Float[Tensor, "row d"]) -> Float[Tensor, "d d"]:
    """The covariance shrunk towards its mean variance by what is best on average (Ledoit and Wolf 2004, section 3)."""
    centred = rows - rows.mean(0)
    n_rows, width = centred.shape
    covariance = einsum(centred, centred, "row a, row b -> a b") / n_rows
    target = covariance.trace() / width * torch.eye(width, dtype=rows.dtype)
    distance = (covariance - target).pow(2).sum()
    # Spread of each row's outer product around the covariance, without making the products.
    spread = (centred.pow(2).sum(1).pow(2).sum() / n_rows - covariance.pow(2).sum()) / n_rows
    shrinkage = float((spread / distance).clamp(0, 1)) if float(distance) > 0 else 1.0
    shrunk = (1 - shrinkage) * covariance + shrinkage * target
    # Where rows do not vary at all the inverse must still exist.
    return shrunk + 1e-10 * (covariance.trace() / width + 1e-30) * torch.eye(
        width, dtype=rows.dtype
    )


def _components(centred: Float[Tensor, "row d"]) -> Float[Tensor, "component d"]:
    _left, sizes, directions = torch.linalg.svd(centred, full_matrices=False)
    held = sizes.pow(2).cumsum(0) / sizes.pow(2).sum().clamp(min=1e-30)
    n_kept = int((held < COMPONENT_VARIANCE).sum()) + 1
    return directions[:n_kept]


def _figures(
    rows: Float[Tensor, "row d"],
    mean: Float[Tensor, "d"],
    precision: Float[Tensor, "d d"],
    components: Float[Tensor, "component d"],
    norm: float,
    sae: Sae | None,
) -> dict[str, Float[Tensor, "row"]]:
    """Each figure grows with the distance from natural rows."""
    centred = rows.double() - mean
    weighted = einsum(centred, precision, "row a, a b -> row b")
    inside = einsum(centred, components, "row d, component d -> row component")
    rebuilt = einsum(inside, components, "row component, component d -> row d")
    found = {
        "mahalanobis": (weighted * centred).sum(1).clamp(min=0).sqrt(),
        "residual": (centred - rebuilt).norm(dim=1),
        "norm": (rows.double().norm(dim=1).clamp(min=1e-30) / max(norm, 1e-30)).log().abs(),
    }
    if sae is not None:
        with torch.no_grad():
            acts = rows.to(sae.W_dec.dtype)
            found["sae_error"] = (acts - sae.decode(sae.encode(acts))).double().norm(dim=1)
    return found


def _limit(held_out: Float[Tensor, "row"]) -> float:
    """The rank that a new exchangeable row exceeds with chance BEYOND_CHANCE at most."""
    n_rows = len(held_out)
    rank = min(n_rows, math.ceil((n_rows + 1) * (1 - BEYOND_CHANCE)))
    return float(np.sort(held_out.numpy())[rank - 1])
