"""How the probes of a bank rank the rows of every indicator, before and after what they share is projected out.

What the shared direction carries shows in what is lost without it; whether the rest of a probe is about its own
indicator shows in whether it still ranks that indicator better than the others.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int8

from mechprobe.errors import LabelError
from mechprobe.probes.comparison.shared_direction import shared_direction, without_direction
from mechprobe.probes.estimators import auroc_by_column
from mechprobe.probes.probe_set import ProbeSet
from mechprobe.probes.rows import LEFT_OUT, NEGATIVE, POSITIVE, LabelledRows

MIN_POSITIVES = 5
"""With fewer rows of a class an AUROC says nothing; it is NaN then."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CrossAuroc:
    """How each probe ranks the rows of each indicator; chance is 0.5 everywhere.

    These are figures of rows, for looking at a bank: rows of one transcript hang together, so no interval is given.
    """

    indicators: tuple[str, ...]
    matrix: Float64[np.ndarray, "probe indicator"]
    """AUROC of probe i on the labels of indicator j; NaN where j has fewer than 5 rows of a class."""
    apart: Float64[np.ndarray, "indicator"]
    """AUROC of probe i for rows of i against rows of other indicators that are none of i: 0.5 is "cannot tell which"."""

    @property
    def own(self) -> float:
        """Mean AUROC of the probes on their own indicator."""
        return _mean(np.diag(self.matrix))

    @property
    def others(self) -> float:
        """Mean AUROC of the probes on indicators that are not theirs."""
        return _mean(self.matrix[~np.eye(len(self.matrix), dtype=bool)])

    @property
    def best_is_own(self) -> float:
        """Share of the indicators that no other probe ranks better than their own; chance is one over their number."""
        judged = ~np.isnan(np.diag(self.matrix))
        if not judged.any():
            return float("nan")
        columns = self.matrix[:, judged]
        own = np.diag(self.matrix)[judged]
        return float(np.mean(own >= np.nanmax(columns, axis=0)))


def cross_auroc(one: ProbeSet, rows: LabelledRows) -> CrossAuroc:
    """Score rows with every probe, against the labels of every indicator of the set.

    Args:
        rows: with labels for the set's indicators, in any order and among others.

    Raises:
        ShapeError: the rows are of another width.
        LabelError: an indicator of the set has no labels.
    """
    if missing := [name for name in one.indicators if name not in rows.indicators]:
        raise LabelError(
            f"the rows have no labels for {missing[0]!r}; they have {', '.join(rows.indicators)}."
        )
    scores = one.score_all(rows.X)
    labels = rows.labels[:, [rows.indicators.index(name) for name in one.indicators]]
    n = len(one.indicators)
    matrix = np.full((n, n), np.nan)
    for at in range(n):
        matrix[:, at] = _auroc(scores, labels[:, at])
    apart = [_auroc(scores[:, [at]], _against_others(labels, at))[0] for at in range(n)]
    return CrossAuroc(indicators=one.indicators, matrix=matrix, apart=np.array(apart))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Removal:
    """What rows say before and after the shared direction is projected out."""

    before: CrossAuroc
    after: CrossAuroc
    after_random: CrossAuroc
    """After a random direction is projected out instead: what taking away just any direction does."""
    shared_alone: Float64[np.ndarray, "indicator"]
    """AUROC of the shared direction itself on each indicator's labels."""


def compare_removal(one: ProbeSet, rows: LabelledRows, *, seed: int = 0) -> Removal:
    """Score rows with a set, without what it shares, without a random direction, and by what it shares alone.

    Args:
        seed: of the random direction, which has the variance of a standard normal in every coordinate.

    Raises:
        See `cross_auroc` and `shared_direction`.
    """
    direction = shared_direction(one)
    random = np.random.default_rng(seed).normal(size=len(direction))
    before = cross_auroc(one, rows)
    along = np.asarray(rows.X @ direction.astype(np.float32))[:, None]
    labels = rows.labels[:, [rows.indicators.index(name) for name in one.indicators]]
    return Removal(
        before=before,
        after=cross_auroc(without_direction(one, direction), rows),
        after_random=cross_auroc(without_direction(one, random, suffix="without_random"), rows),
        shared_alone=np.array([_auroc(along, column)[0] for column in labels.T]),
    )


def _against_others(labels: Int8[np.ndarray, "tok indicator"], at: int) -> Int8[np.ndarray, "tok"]:
    """Labels of one indicator among the rows that hold some indicator; rows of none are left out."""
    others = np.delete(labels, at, axis=1)
    is_other = (labels[:, at] == NEGATIVE) & (others == POSITIVE).any(axis=1)
    kept = (labels[:, at] == POSITIVE) | is_other
    return np.where(kept, labels[:, at], LEFT_OUT).astype(np.int8)


def _auroc(
    scores: Float32[np.ndarray, "tok probe"], labels: Int8[np.ndarray, "tok"]
) -> Float64[np.ndarray, "probe"]:
    used = labels != LEFT_OUT
    is_positive = labels[used] == POSITIVE
    n_positive = int(is_positive.sum())
    if min(n_positive, len(is_positive) - n_positive) < MIN_POSITIVES:
        return np.full(scores.shape[1], np.nan)
    return auroc_by_column(scores[used], is_positive)


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
