"""The figures of the falsifiers with their intervals, resampled by whole transcripts, and what they are read as.

Every set of scores is resampled by the same draws of transcripts, so that a share and its control, or an AUROC
before and after an alteration, are compared on the same ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mechprobe.evaluation.bootstrap import cluster_draws, resampled_aurocs
from mechprobe.evaluation.metrics import auroc
from mechprobe.evaluation.units import Units
from mechprobe.falsifiers.config import FAILS, SURVIVES, UNCLEAR

LEVEL = 0.95


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Estimate:
    """A figure with its draws."""

    value: float
    draws: Float[np.ndarray, "draw"]
    """The figure on each resample; NaN where it has none."""

    @property
    def bounds(self) -> tuple[float, float]:
        """Two-sided percentile bounds; NaN without draws."""
        kept = self.draws[np.isfinite(self.draws)]
        if not len(kept) or not np.isfinite(self.value):
            return float("nan"), float("nan")
        low, high = np.quantile(kept, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return float(low), float(high)

    def minus(self, other: "Estimate") -> "Estimate":
        """The difference, on the same draws."""
        return Estimate(value=self.value - other.value, draws=self.draws - other.draws)

    def over(self, other: "Estimate") -> "Estimate":
        """The ratio, on the same draws; NaN where the other is 0."""
        shape = np.broadcast_shapes(self.draws.shape, other.draws.shape)
        draws = np.divide(
            self.draws, other.draws, out=np.full(shape, np.nan), where=other.draws != 0
        )
        value = self.value / other.value if other.value else float("nan")
        return Estimate(value=value, draws=draws)


NOTHING = Estimate(value=float("nan"), draws=np.full(1, np.nan))
"""A figure that there is not."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Resampling:
    """Draws of transcripts that all figures of an indicator share."""

    names: tuple[str, ...]
    """Ids of the transcripts, sorted."""
    counts: Float[np.ndarray, "draw cluster"]

    @classmethod
    def of(cls, ids: Sequence[str], *, n_boot: int, seed: int) -> "Resampling":
        """Draws of all the transcripts that occur."""
        names = tuple(sorted(set(ids)))
        return cls(names=names, counts=cluster_draws(len(names), n_boot, seed))

    def codes(self, ids: Sequence[str]) -> Int[np.ndarray, "unit"]:
        """Number of each unit's transcript."""
        return np.searchsorted(self.names, ids).astype(np.int64)

    def mean(self, values: Float[np.ndarray, "unit"], ids: Sequence[str]) -> Estimate:
        """Mean of some units."""
        if not len(values):
            return NOTHING
        codes, n = self.codes(ids), len(self.names)
        sums = self.counts @ np.bincount(codes, weights=values, minlength=n)
        sizes = self.counts @ np.bincount(codes, minlength=n)
        draws = np.divide(sums, sizes, out=np.full(len(sums), np.nan), where=sizes > 0)
        return Estimate(value=float(values.mean()), draws=draws)

    def share(self, altered: Estimate, base: Estimate, positive: Estimate) -> Estimate:
        """How far the altered text goes from the base to the positives: 0 not at all, 1 all the way.

        The transfer ratio of the authors' code to arXiv 2601.05679.
        """
        return altered.minus(base).over(positive.minus(base))

    def auroc(
        self,
        positive: Float[np.ndarray, "pos"],
        pos_ids: Sequence[str],
        negative: Float[np.ndarray, "neg"],
        neg_ids: Sequence[str],
    ) -> Estimate:
        """AUROC of some units against others."""
        if not len(positive) or not len(negative):
            return NOTHING
        units = self.units(positive, pos_ids, negative, neg_ids)
        return Estimate(
            value=auroc(units.scores, units.is_positive),
            draws=resampled_aurocs(units, units.clusters, self.counts),
        )

    def units(
        self,
        positive: Float[np.ndarray, "pos"],
        pos_ids: Sequence[str],
        negative: Float[np.ndarray, "neg"],
        neg_ids: Sequence[str],
    ) -> Units:
        """The two sets as units of a ranking."""
        return Units(
            scores=np.r_[positive, negative].astype(np.float64),
            is_positive=np.arange(len(positive) + len(negative)) < len(positive),
            clusters=self.codes([*pos_ids, *neg_ids]),
        )

    def stratified_auroc(
        self,
        positive: Float[np.ndarray, "pos"],
        pos_ids: Sequence[str],
        pos_strata: Int[np.ndarray, "pos"],
        negative: Float[np.ndarray, "neg"],
        neg_ids: Sequence[str],
        neg_strata: Int[np.ndarray, "neg"],
    ) -> Estimate:
        """AUROC over the pairs of a positive and a negative of one stratum only."""
        value, n_pairs = 0.0, 0
        wins, pairs = np.zeros(len(self.counts)), np.zeros(len(self.counts))
        n = len(self.names)
        for stratum in np.intersect1d(pos_strata, neg_strata):
            pos = np.flatnonzero(pos_strata == stratum).tolist()
            neg = np.flatnonzero(neg_strata == stratum).tolist()
            of_pos, of_neg = [pos_ids[i] for i in pos], [neg_ids[i] for i in neg]
            found = self.auroc(positive[pos], of_pos, negative[neg], of_neg)
            here = len(pos) * len(neg)
            value, n_pairs = value + found.value * here, n_pairs + here
            drawn = (self.counts @ np.bincount(self.codes(of_pos), minlength=n)) * (
                self.counts @ np.bincount(self.codes(of_neg), minlength=n)
            )
            wins += np.where(drawn > 0, found.draws, 0.0) * drawn
            pairs += drawn
        if not n_pairs:
            return NOTHING
        draws = np.divide(wins, pairs, out=np.full(len(wins), np.nan), where=pairs > 0)
        return Estimate(value=value / n_pairs, draws=draws)


def kept_share(after: Estimate, before: Estimate) -> Estimate:
    """Share of the AUROC above one half that is left."""
    half = Estimate(value=0.5, draws=np.full(1, 0.5))
    return after.minus(half).over(before.minus(half))


def cohens_d(first: Float[np.ndarray, "unit"], second: Float[np.ndarray, "other"]) -> float:
    """Difference of the means in pooled standard deviations; NaN without any spread."""
    if min(len(first), len(second)) < 2:
        return float("nan")
    n, m = len(first) - 1, len(second) - 1
    pooled = np.sqrt((n * first.var(ddof=1) + m * second.var(ddof=1)) / (n + m))
    return float((first.mean() - second.mean()) / pooled) if pooled > 0 else float("nan")


def read_small(figure: Estimate, control: Estimate, limit: float) -> str:
    """Read a figure that must be small: it fails where it is surely above its limit and above its control."""
    low, high = figure.bounds
    if high < limit:
        return SURVIVES
    return FAILS if low > limit and _surely_above(figure, control) else UNCLEAR


def read_large(figure: Estimate, control: Estimate, limit: float) -> str:
    """Read a figure that must be large: it fails where it is surely below its limit and below its control."""
    low, high = figure.bounds
    if low > limit:
        return SURVIVES
    return FAILS if high < limit and _surely_above(control, figure) else UNCLEAR


def _surely_above(first: Estimate, second: Estimate) -> bool:
    """Whether the difference is above 0 on nearly all draws; true where there is nothing to compare with."""
    low, _ = first.minus(second).bounds
    return bool(low > 0) or not np.isfinite(second.value) or not np.isfinite(first.value)
