"""Many random directions, not one: a single draw with a fitted sign scores near 0 or 1 where the rows have few dimensions.

Draw number k is the probe that `fit_random_direction` makes with seed + k; the means and scales of the rows are computed
once for all.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from mechprobe.errors import ConfigError
from mechprobe.probes.linear import LinearProbe, check_width
from mechprobe.probes.matrix import Matrix, size_of
from mechprobe.probes.rows import LabelledRows
from mechprobe.probes.solving.moments import class_means
from mechprobe.probes.solving.standardise import scaling_of

N_DRAWS = 100


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RandomDirections:
    """Random directions in standardised coordinates, each turned to the side of its indicator's positives."""

    weight: Float32[np.ndarray, "d draw indicator"]
    bias: Float[np.ndarray, "draw indicator"]

    def score(self, X: Matrix) -> Float32[np.ndarray, "tok draw indicator"]:
        """Scores of all draws from one product with the rows.

        Raises:
            ShapeError: the rows are not as wide as those the directions were drawn for.
        """
        width, n_draws, n_indicators = self.weight.shape
        check_width(X, width, "a set of random directions")
        flat = np.asarray(X @ self.weight.reshape(width, n_draws * n_indicators))
        shifted = flat + self.bias.reshape(1, -1)
        return shifted.reshape(-1, n_draws, n_indicators).astype(np.float32)

    def probes(self, draw: int) -> tuple[LinearProbe, ...]:
        """One draw as probes, one for each indicator."""
        return tuple(
            LinearProbe(
                kind="random_direction",
                weight=np.ascontiguousarray(self.weight[:, draw, at]),
                bias=float(self.bias[draw, at]),
            )
            for at in range(self.bias.shape[1])
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class DrawSpread:
    """How a figure, such as an AUROC, spreads over draws that mean nothing."""

    n_draws: int
    mean: float
    std: float
    low: float
    """2.5 % of the draws lie below."""
    high: float
    """2.5 % of the draws lie above."""

    @property
    def standard_error(self) -> float:
        """Of the mean, from the number of draws."""
        return self.std / np.sqrt(self.n_draws)


def draw_directions(
    rows: LabelledRows, n_draws: int = N_DRAWS, *, seed: int = 0
) -> RandomDirections:
    """Random directions for every indicator.

    Raises:
        ConfigError: there is no draw.
    """
    if n_draws < 1:
        raise ConfigError(f"n_draws is {n_draws}; it must be at least 1 (100 is a good value).")
    shape = size_of(rows.X)[1], len(rows.indicators)
    drawn = np.stack(
        [np.random.default_rng(seed + draw).normal(size=shape) for draw in range(n_draws)], axis=1
    )
    flat = drawn.reshape(shape[0], -1)
    weight, bias = scaling_of(rows.X).fold(flat, np.zeros(flat.shape[1]))
    weight, bias = weight.reshape(drawn.shape), bias.reshape(n_draws, shape[1])
    gap = np.einsum("dkn,dn->kn", weight, class_means(rows).difference)
    side = np.where(gap < 0, -1.0, 1.0)
    return RandomDirections(weight=(weight * side).astype(np.float32), bias=bias * side)


def spread_of(figures: Float[np.ndarray, "draw"]) -> DrawSpread:
    """Mean and spread of a figure over draws.

    Raises:
        ConfigError: there are fewer than two draws, of which no spread can be told.
    """
    if len(figures) < 2:
        raise ConfigError(
            f"{len(figures)} draws have no spread; draw at least 2 (100 is a good value)."
        )
    low, high = np.quantile(figures, [0.025, 0.975])
    return DrawSpread(
        n_draws=len(figures),
        mean=float(figures.mean()),
        std=float(figures.std(ddof=1)),
        low=float(low),
        high=float(high),
    )


def share_at_least(figures: Float[np.ndarray, "draw"], observed: float) -> float:
    """Chance that a draw that means nothing does as well: (1 + draws at least as high) / (1 + draws).

    The 1 counts the observed figure among the draws, so that the share is never 0 (Phipson and Smyth 2010).
    """
    return float((1 + (figures >= observed).sum()) / (1 + len(figures)))
