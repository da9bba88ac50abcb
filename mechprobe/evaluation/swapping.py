"""Is one scorer better than another? A permutation test that swaps the two within whole transcripts.

If two scorers are equally good in the sense that their ranks could be exchanged, then swapping them in any set of
transcripts changes nothing (after Venkatraman & Begg, Biometrika 83, 1996). Scores are ranked first, since a logit
and a judge's 1-10 cannot be swapped. Swapping changes which pairs are compared, yet the difference of the two
AUROCs stays linear in the signs of the transcripts: what a transcript contributes, over all pairs of one fold that it
is in, is the mean of the two kinds of pairs

    (first against first - second against second) and, with the sign of its side, (first against second - second
    against first),

so that all swaps together are one matrix product.
"""

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

from mechprobe.evaluation.bootstrap import check_paired
from mechprobe.evaluation.metrics import check_scores
from mechprobe.evaluation.units import Units

_MOST_EXACT = 12
"""Up to so many transcripts every swap is tried."""
_BLOCK = 1 << 22
"""Largest number of float64 entries held at once."""


def swap_p_value(
    first: Units, second: Units, *, n_permutations: int = 10_000, seed: int = 0
) -> float:
    """Two-sided p-value of the difference of two AUROCs on the same units.

    With at most twelve transcripts all swaps are tried and the value is exact; else it is
    (1 + swaps at least as extreme) / (1 + swaps).

    Raises:
        ShapeError, LabelError: the units are not the same, or cannot be ranked.
    """
    shares = contributions(first, second)
    # Sums of equal magnitude differ in their last bits.
    observed = abs(float(shares.sum())) - 1e-12
    if len(shares) <= _MOST_EXACT:
        codes = np.arange(1 << len(shares))[:, None] >> np.arange(len(shares))
        return float((np.abs((1.0 - 2 * (codes & 1)) @ shares) >= observed).mean())
    rng = np.random.default_rng(seed)
    step = max(1, _BLOCK // len(shares))
    n_extreme = 0
    for start in range(0, n_permutations, step):
        n_here = min(step, n_permutations - start)
        signs = 1.0 - 2 * rng.integers(2, size=(n_here, len(shares)))
        n_extreme += int((np.abs(signs @ shares) >= observed).sum())
    return (1 + n_extreme) / (1 + n_permutations)


def contributions(first: Units, second: Units) -> Float[np.ndarray, "cluster"]:
    """What each transcript adds to the difference of the AUROCs; swapping it turns the sign."""
    check_paired(first, second)
    codes = np.unique(first.clusters)
    total = np.zeros(len(codes))
    if first.fold is None:
        _add_wins(total, codes, first, second)
        return total / (2 * int(first.is_positive.sum()) * int((~first.is_positive).sum()))
    for mine, theirs in zip(first.parts(), second.parts(), strict=True):
        _add_wins(total, codes, mine, theirs)
    return total / (2 * first.n_pairs)


def _add_wins(
    total: Float[np.ndarray, "cluster"], codes: np.ndarray, first: Units, second: Units
) -> None:
    """Add the pairs that one fit has scored."""
    for units in (first, second):
        check_scores(units.scores, units.is_positive)
    positive = first.is_positive
    cluster = np.searchsorted(codes, first.clusters)
    ranks = [rankdata(units.scores) for units in (first, second)]
    for mine, sign in ((0, 1), (1, -1)):
        for other in (0, 1):
            wins = _share_below(ranks[mine][positive], ranks[other][~positive])
            total += sign * np.bincount(cluster[positive], weights=wins, minlength=len(total))
            # A negative of the first scorer loses to positives of either, and the other way round.
            losses = -_share_below(ranks[mine][~positive], ranks[other][positive])
            total += sign * np.bincount(cluster[~positive], weights=losses, minlength=len(total))


def _share_below(values: np.ndarray, others: np.ndarray) -> Float[np.ndarray, "unit"]:
    """How many of the others lie below each value, ties half."""
    ordered = np.sort(others)
    left, right = (np.searchsorted(ordered, values, side=side) for side in ("left", "right"))
    return (left + right) / 2
