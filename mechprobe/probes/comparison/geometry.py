"""How the directions of a bank lie to each other: cosines, how many dimensions they span, what they share.

Three spaces, told apart by name. raw: the weights on raw activations. z_scored: the weights on activations that each
indicator's own scaling has brought to unit variance, which is where the probes of arXiv 2606.24251 are stored and
where its figures are. whitened: activations whose covariance is the identity; a cosine there is the correlation of two
probes' scores over the rows that gave the covariance.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64

from mechprobe.errors import ConfigError, ShapeError
from mechprobe.probes.matrix import Matrix, column_means, size_of
from mechprobe.probes.probe_set import ProbeSet
from mechprobe.probes.solving.standardise import Scaling

Space = Literal["raw", "z_scored", "whitened"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Geometry:
    """Figures of the directions of one set of probes in one space."""

    space: Space
    indicators: tuple[str, ...]
    cosines: Float64[np.ndarray, "indicator indicator"]
    eigenvalues: Float64[np.ndarray, "indicator"]
    """Of the cosine matrix, the largest first; they add up to the number of indicators."""
    loadings: Float64[np.ndarray, "indicator"]
    """Cosine of each direction with the shared one: the first principal direction of the unit directions."""

    @property
    def participation_ratio(self) -> float:
        """How many directions of equal weight would spread as these do: from 1 to the number of indicators."""
        return float(self.eigenvalues.sum() ** 2 / np.square(self.eigenvalues).sum())

    @property
    def shared_share(self) -> float:
        """Share of the unit directions' squared length that lies along the shared direction."""
        return float(self.eigenvalues[0] / self.eigenvalues.sum())

    def mean_cosine(self, groups: Mapping[str, str], *, within: bool) -> float | None:
        """Mean cosine of the pairs whose indicators are, or are not, of one group; None if there is no such pair.

        Args:
            groups: indicator -> its group in the taxonomy.
        """
        names = np.array([groups[indicator] for indicator in self.indicators])
        first, second = np.triu_indices(len(names), k=1)
        is_chosen = (names[first] == names[second]) == within
        chosen = self.cosines[first, second][is_chosen]
        return float(chosen.mean()) if len(chosen) else None


def geometry_of(
    one: ProbeSet,
    *,
    space: Space = "raw",
    scalings: Sequence[Scaling] = (),
    rows: Matrix | None = None,
) -> Geometry:
    """The geometry of a set of linear probes.

    Args:
        scalings: for z_scored: one for each indicator, in order.
        rows: for whitened: activations at the set's hook point, whose covariance is used.

    Raises:
        ConfigError: a probe is not linear or reads nothing, or what the space needs is not given.
        ShapeError: the rows are of another width.
    """
    weight = one.weight.astype(np.float64).T
    if not (lengths := np.linalg.norm(weight, axis=1)).all():
        empty = one.indicators[int(np.argmin(lengths))]
        raise ConfigError(
            f"the probe for {empty!r} has no direction (all weights are 0); leave it out."
        )
    gram = _gram(one, weight, space, scalings, rows)
    lengths = np.sqrt(np.diag(gram))
    cosines = gram / np.outer(lengths, lengths)
    eigenvalues, vectors = np.linalg.eigh(cosines)
    # The shared direction is made of the unit directions with these coefficients.
    first = vectors[:, -1] * (np.sign(vectors[:, -1].sum()) or 1.0)
    return Geometry(
        space=space,
        indicators=one.indicators,
        cosines=cosines,
        eigenvalues=np.maximum(eigenvalues[::-1], 0),
        loadings=first * np.sqrt(max(eigenvalues[-1], 0)),
    )


def _gram(
    one: ProbeSet,
    weight: Float64[np.ndarray, "indicator d"],
    space: Space,
    scalings: Sequence[Scaling],
    rows: Matrix | None,
) -> Float64[np.ndarray, "indicator indicator"]:
    """Inner products of the directions in a space."""
    if space == "z_scored":
        scaled = weight * _scales(one, scalings)
        return scaled @ scaled.T
    if space == "whitened":
        if rows is None:
            raise ConfigError("the whitened space needs rows of activations; give some.")
        scores = score_deviations(one, rows)
        return scores.T @ scores
    return weight @ weight.T


def score_deviations(one: ProbeSet, rows: Matrix) -> Float64[np.ndarray, "tok indicator"]:
    """Scores less their mean, in float64: their inner products are those of the whitened directions."""
    weight = one.weight.astype(np.float64)
    if size_of(rows)[1] != len(weight):
        raise ShapeError(
            f"the probes at {one.hook_name} read width {len(weight)}, the rows have {size_of(rows)[1]}; give rows of "
            "the same hook point."
        )
    return np.asarray(rows @ weight, dtype=np.float64) - column_means(rows) @ weight


def _scales(one: ProbeSet, scalings: Sequence[Scaling]) -> Float64[np.ndarray, "indicator d"]:
    """One over each scaling's factor: what turns a raw weight into one on scaled activations."""
    if len(scalings) != len(one.indicators):
        raise ConfigError(
            f"the z-scored space needs a scaling for each of the {len(one.indicators)} probes at {one.hook_name}, "
            f"there are {len(scalings)}; ask for raw, or import the probes from files that hold their scalers."
        )
    factor = np.stack([scaling.factor for scaling in scalings]).astype(np.float64)
    return np.divide(1.0, factor, out=np.zeros_like(factor), where=factor > 0)
