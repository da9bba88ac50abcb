"""Rates of yes-no items and their differences, with intervals for items that come in clusters.

Wilson's interval with the number of items that the clusters are worth (Rao and Scott's design effect), and Newcombe's
interval of a difference between two rates of the same items (Statistics in Medicine 17, 1998, 2635, method 10).
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from statsmodels.stats.proportion import proportion_confint

from mechprobe.causal.verdicts.statistics import Interval, cluster_totals
from mechprobe.errors import ShapeError


def cluster_rate(
    happens: Bool[np.ndarray, "item"], clusters: Sequence[str], *, level: float = 0.95
) -> Interval:
    """Share of the items with Wilson's interval; all NaN without items.

    Raises:
        ShapeError: there are not as many clusters as items.
    """
    _check(happens, clusters)
    if not len(happens):
        return Interval(value=math.nan, low=math.nan, high=math.nan)
    rate = float(happens.mean())
    n = effective_n(happens, clusters)
    bounds = np.array(proportion_confint(rate * n, n, alpha=1 - level, method="wilson"), float)
    return Interval(value=rate, low=float(bounds[0]), high=float(bounds[1]))


def rate_difference(
    first: Bool[np.ndarray, "item"],
    second: Bool[np.ndarray, "item"],
    clusters: Sequence[str],
    *,
    level: float = 0.95,
) -> Interval:
    """Rate of the second minus rate of the first over the same items, with Newcombe's paired interval.

    Raises:
        ShapeError: the numbers of items and clusters differ.
    """
    _check(first, clusters)
    _check(second, clusters)
    before, after = (cluster_rate(items, clusters, level=level) for items in (first, second))
    difference = after.value - before.value
    if not math.isfinite(difference):
        return Interval(value=math.nan, low=math.nan, high=math.nan)
    link = _correlation(first, second, clusters)

    def reach(up: float, down: float) -> float:
        return math.sqrt(max(up**2 - 2 * link * up * down + down**2, 0.0))

    low = reach(after.value - after.low, before.high - before.value)
    high = reach(after.high - after.value, before.value - before.low)
    return Interval(value=difference, low=difference - low, high=difference + high)


def effective_n(happens: Bool[np.ndarray, "item"], clusters: Sequence[str]) -> float:
    """Independent items that these are worth; the number of clusters where the items are all alike."""
    totals, counts = cluster_totals(happens.astype(float), clusters)
    n, rate = len(happens), float(happens.mean())
    if counts.max() == 1:
        return float(n)
    if rate in (0.0, 1.0) or len(totals) < 2:
        return float(len(totals))
    spread = len(totals) / (len(totals) - 1) * ((totals - rate * counts) ** 2).sum() / n**2
    design_effect = spread / (rate * (1 - rate) / n)
    return n / max(design_effect, 1.0)


def _correlation(
    first: Bool[np.ndarray, "item"], second: Bool[np.ndarray, "item"], clusters: Sequence[str]
) -> float:
    means: list[Float[np.ndarray, "cluster"]] = []
    for items in (first, second):
        totals, counts = cluster_totals(items.astype(float), clusters)
        means.append(totals / counts)
    if min(np.ptp(means[0]), np.ptp(means[1])) < 1e-12:
        return 0.0
    return float(np.corrcoef(means[0], means[1])[0, 1])


def _check(items: Bool[np.ndarray, "item"], clusters: Sequence[str]) -> None:
    if len(items) != len(clusters):
        raise ShapeError(f"{len(items)} items have {len(clusters)} clusters; name one for each.")
