"""Two scorers on the same units: the difference of their AUROCs, with an interval, two tests and multiplicity."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mechprobe.evaluation.bootstrap import auroc_difference, pair_auroc
from mechprobe.evaluation.delong import delong_difference
from mechprobe.evaluation.swapping import swap_p_value
from mechprobe.evaluation.units import Units


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """AUROC of one scorer minus that of another."""

    first: float
    second: float
    value: float
    low: float
    """Percentile interval of the paired bootstrap over transcripts."""
    high: float
    p_value: float
    """Of swapping the two within transcripts, two-sided."""
    p_delong: float
    """Of the normal approximation with transcripts as clusters (Obuchowski 1997), two-sided."""
    n_clusters: int


def difference_of(
    first: Units,
    second: Units,
    *,
    n_boot: int = 1000,
    n_permutations: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> Difference:
    """Compare two scorers of the same units.

    Raises:
        ShapeError, LabelError: the units are not the same, or cannot be ranked.
    """
    resampled = auroc_difference(first, second, n_boot=n_boot, seed=seed, level=level)
    return Difference(
        first=pair_auroc(first),
        second=pair_auroc(second),
        value=resampled.value,
        low=resampled.low,
        high=resampled.high,
        p_value=swap_p_value(first, second, n_permutations=n_permutations, seed=seed),
        p_delong=delong_difference(first, second, level=level).p_value,
        n_clusters=len(np.unique(first.clusters)),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values of one family; a NaN was not tested and does not count."""
    # statsmodels' multipletests collects garbage at each call: half a second in a process that holds a model,
    # and there are as many families as hook points. The tests hold this to statsmodels.
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)[: int(np.isfinite(p).sum())]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted = np.full(len(p), np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted.tolist()
