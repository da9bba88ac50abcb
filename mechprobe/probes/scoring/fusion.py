"""Many probes, one alarm: how the scores of several indicators become one score of a turn.

"or_tuned" and "max_raw" are the two fusions that arXiv 2606.24251 both calls its probes' score: an OR over probes
with tuned thresholds, and the highest raw logit. The others work on calibrated probabilities.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Integer
from scipy.special import logit
from sklearn.linear_model import LogisticRegression

from mechprobe.errors import ConfigError, DataError, LabelError, ShapeError
from mechprobe.probes.scoring.calibration import check_calibratable
from mechprobe.probes.scoring.thresholds import (
    ThresholdRule,
    effective_units,
    n_allowed,
    negatives_needed,
    upper_bound,
)

Allotment = Literal["each", "bonferroni", "joint"]

PAPER_TARGETS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.1, 0.2, 0.3)
"""False-positive targets to which the paper tunes each probe."""
_CLIP = 1e-6
"""Probabilities are kept this far from 0 and 1, so that no single probe can settle the log-odds."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class OrRule:
    """Fire where any probe is above its threshold."""

    thresholds: Float64[np.ndarray, "probe"]
    """Infinite for a probe that never fires."""
    fpr_target: float
    """Of the fused detector, except by allotment "each", where it is that of every probe."""
    allotment: Allotment
    probe_fpr: float
    """Share of the negatives that each probe may fire on by itself."""
    fpr: float
    """Share of the negatives that the fused detector fires on."""
    fpr_upper: float
    """One-sided upper confidence bound (Clopper-Pearson) on that rate for new negatives. By "joint" the
    thresholds were fitted to the same negatives, all in one number; measure again on others to be sure."""
    n_negatives: int
    n_effective: float
    """Independent negatives that tell as much."""

    def fires(self, scores: Float[np.ndarray, "unit probe"]) -> Bool[np.ndarray, "unit"]:
        """Whether the fused detector fires; a missing score (NaN) does not."""
        if scores.shape[1] != len(self.thresholds):
            raise ShapeError(
                f"the rule has {len(self.thresholds)} probes, got scores of {scores.shape[1]}."
            )
        return np.asarray((scores > self.thresholds).any(axis=1))


def tune_or(
    negatives: Float[np.ndarray, "unit probe"],
    fpr_target: float,
    *,
    allotment: Allotment = "joint",
    rule: ThresholdRule = "empirical",
    level: float = 0.95,
    clusters: Integer[np.ndarray, "unit"] | None = None,
) -> OrRule:
    """Thresholds for an OR over probes.

    "each" gives every probe the whole target, as the paper does: the fused rate is whatever comes of it.
    "bonferroni" gives each an equal part of it: the fused rate holds whatever the probes share. "joint" gives
    all probes the same rate, the highest at which the fused rate holds among the negatives: more than the
    equal part, since probes fire together.

    Args:
        negatives: neutral units, kept apart from those tested on; a column of NaN is a probe that is missing.
        rule: "empirical" or "conformal"; see `thresholds`.
        clusters: transcript of each unit, for the bound.

    Raises:
        ConfigError: the target is not between 0 and 1, or the rule is "certified".
        LabelError: there are too few negatives for what each probe is allotted, or no probe has scores.
    """
    if rule == "certified":
        raise ConfigError(
            "an OR is tuned by rule 'empirical' or 'conformal'; its bound is measured."
        )
    present = _present(negatives)
    n_units, n_probes = len(negatives), len(present)
    allotted = fpr_target / n_probes if allotment == "bonferroni" else fpr_target
    n_needed = negatives_needed(allotted, rule, level)
    if n_units < n_needed:
        raise LabelError(
            f"{n_units} negatives cannot resolve a false-positive rate of {allotted:g} for each of "
            f"{n_probes} probes; give at least {n_needed}."
        )
    n_fired = n_allowed(n_units, allotted, rule)
    if allotment == "joint":
        # Where the fused detector may fire on n, the common count is just below the (n + 1)-th unit's.
        n_fired = int(np.sort(counts_above(negatives, negatives))[n_fired]) - 1
    ordered = np.sort(negatives[:, present], axis=0)[::-1]
    thresholds = np.full(negatives.shape[1], np.inf)
    thresholds[present] = ordered[n_fired]
    fired = np.asarray((negatives > thresholds).any(axis=1))
    n_effective = effective_units(fired, clusters)
    return OrRule(
        thresholds=thresholds,
        fpr_target=fpr_target,
        allotment=allotment,
        probe_fpr=n_fired / n_units,
        fpr=float(fired.mean()),
        fpr_upper=upper_bound(float(fired.mean()) * n_effective, n_effective, level),
        n_negatives=n_units,
        n_effective=n_effective,
    )


def counts_above(
    scores: Float[np.ndarray, "unit probe"], negatives: Float[np.ndarray, "neutral probe"]
) -> Int[np.ndarray, "unit"]:
    """For each unit the fewest negatives at or above its score in any probe; a probe whose threshold lets n
    negatives fire fires on the unit if this is at most n."""
    least = np.full(len(scores), len(negatives) + 1, dtype=np.int64)
    for at in _present(negatives):
        ordered = np.sort(negatives[:, at])
        n_at_or_above = len(ordered) - np.searchsorted(ordered, scores[:, at], side="left")
        known = np.isfinite(scores[:, at])
        least[known] = np.minimum(least[known], n_at_or_above[known])
    return least


def or_tuned(
    scores: Float[np.ndarray, "unit probe"],
    negatives: Float[np.ndarray, "neutral probe"],
    targets: Sequence[float] = PAPER_TARGETS,
) -> Float64[np.ndarray, "unit"]:
    """Minus the least target at which an OR of probes, each tuned to it, fires; -1 where it never does.

    Ranking by it gives the curve through the paper's operating points. A target that the negatives cannot
    resolve counts as one at which nothing fires.
    """
    least = counts_above(scores, negatives)
    found = np.full(len(scores), -1.0)
    for target in sorted(targets, reverse=True):
        if len(negatives) >= negatives_needed(target):
            found[least <= n_allowed(len(negatives), target)] = -target
    return found


def max_raw(scores: Float[np.ndarray, "unit probe"]) -> Float[np.ndarray, "unit"]:
    """The highest score, as the probes give it; NaN where there is none."""
    return np.fmax.reduce(scores, axis=1)


def noisy_or(probabilities: Float[np.ndarray, "unit probe"]) -> Float[np.ndarray, "unit"]:
    """Probability that any indicator is there if they occur independently; NaN where nothing is known.

    Between the highest of the probabilities and the lesser of 1 and their sum.
    """
    known = np.isfinite(probabilities)
    absent = np.where(known, 1 - probabilities, 1.0).prod(axis=1)
    return np.where(known.any(axis=1), 1 - absent, np.nan)


def mean_log_odds(probabilities: Float[np.ndarray, "unit probe"]) -> Float[np.ndarray, "unit"]:
    """Mean of the log-odds of the probes that are there (nats); NaN where there is none."""
    known = np.isfinite(probabilities)
    odds = np.where(known, _log_odds(probabilities), 0.0).sum(axis=1)
    n_known = known.sum(axis=1)
    return np.divide(odds, n_known, out=np.full(len(odds), np.nan), where=n_known > 0)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LogisticStack:
    """A logistic regression on the log-odds of several probes."""

    weight: Float64[np.ndarray, "probe"]
    offset: float

    def apply(self, probabilities: Float[np.ndarray, "unit probe"]) -> Float64[np.ndarray, "unit"]:
        """Log-odds (nats) that any indicator is there; a missing probability counts as a half."""
        known = np.isfinite(probabilities)
        return np.where(known, _log_odds(probabilities), 0.0) @ self.weight + self.offset

    def to_json(self) -> str:
        """Text that `stack_from_json` turns into an equal stack."""
        return json.dumps({"weight": self.weight.tolist(), "offset": self.offset})


def fit_stack(
    probabilities: Float[np.ndarray, "unit probe"], is_positive: Bool[np.ndarray, "unit"]
) -> LogisticStack:
    """Learn how much each probe's log-odds say; L2 penalty of strength 1, as in scikit-learn.

    Args:
        probabilities: of units that are not tested on.

    Raises:
        LabelError: there are fewer than 5 positives, no negative, or all rows are the same.
    """
    known = np.isfinite(probabilities)
    X = np.where(known, _log_odds(probabilities), 0.0)
    check_calibratable(X.sum(axis=1), is_positive)
    fitted = LogisticRegression(C=1.0, tol=1e-8, max_iter=1000).fit(X, is_positive)
    return LogisticStack(
        weight=np.asarray(fitted.coef_[0], dtype=np.float64), offset=float(fitted.intercept_[0])
    )


def stack_from_json(text: str) -> LogisticStack:
    """The stack that `to_json` wrote.

    Raises:
        DataError: the text holds none.
    """
    try:
        value = json.loads(text)
        weight = np.array(value["weight"], dtype=np.float64)
        return LogisticStack(weight=weight, offset=float(value["offset"]))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{text[:60]!r} holds no stack of probes: {error}.") from error


def _log_odds(probabilities: np.ndarray) -> np.ndarray:
    return np.asarray(logit(np.clip(probabilities.astype(np.float64), _CLIP, 1 - _CLIP)))


def _present(negatives: np.ndarray) -> np.ndarray:
    """Columns with scores."""
    finite = np.isfinite(negatives)
    present = np.flatnonzero(finite.any(axis=0))
    if not len(present) or not finite[:, present].all():
        raise LabelError(
            f"{int((~finite).any(axis=0).sum())} of {negatives.shape[1]} probes lack scores of some "
            "negatives; score all units with a probe or with none."
        )
    return present
