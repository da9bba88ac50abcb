"""The paper's forgiving counts: turns with a doubtful label do not count, nor does a miss after an earlier alarm.

Two relaxations, as the authors' code has them (arXiv 2606.24251, `build_transcript_relaxed_points` and
`_prior_fire_relaxation`):

- transcript-relaxed: positives are the positive turns, negatives the turns of transcripts without any; the other
  turns of a positive transcript are left out, since a detector may fire there or not.
- prior fire: a positive turn that does not fire is left out, rather than counted as a miss, if an earlier turn of
  its transcript fired. Hits all count, before the first alarm and after it, and so do false alarms and
  silent negatives. In the authors' sweep the earlier turn must be one that counts itself (after the relaxation
  above: a positive one); a variant of theirs takes any turn.

The number of positives then depends on the threshold, and a lower one can lower the rate, so that there is no ROC
curve and no AUROC of it: only points.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int, Num

from mechprobe.errors import LabelError, ShapeError
from mechprobe.evaluation.metrics import threshold_at_fpr
from mechprobe.evaluation.units import Turns, Units, turn_units

Negatives = Literal["clean", "all"]
"""Turns that count as negative: those of transcripts without a positive turn, or every one that is not positive."""
EarlierAlarm = Literal["counted", "any"]
"""Which earlier turns excuse a miss: those that count themselves, or any."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RelaxedPoint:
    """What a detector does at one threshold when misses after an alarm do not count."""

    threshold: float
    fpr: float
    """Share of the negatives that fire."""
    tpr: float
    """Share of the positive turns that fire, of those that are not excused; NaN where none is left."""
    n_pos: int
    """Positive turns that count."""
    n_excused: int
    """Positive turns that do not fire, after an earlier one that did."""
    n_neg: int


def transcript_relaxed_units(scores: Num[np.ndarray, "turn"], turns: Turns) -> Units:
    """Positive turns against the turns of transcripts without any.

    Raises:
        ShapeError: there is not one score for each turn.
    """
    units = turn_units(scores, turns)
    counts = turns.is_positive | ~turns.in_positive
    return Units(
        scores=units.scores[counts],
        is_positive=units.is_positive[counts],
        clusters=units.clusters[counts],
    )


def prior_fire_point(
    scores: Num[np.ndarray, "turn"],
    turns: Turns,
    turn_number: Int[np.ndarray, "turn"],
    threshold: float,
    *,
    negatives: Negatives = "clean",
    earlier: EarlierAlarm = "counted",
) -> RelaxedPoint:
    """Rates at a threshold; a detector fires above it.

    Args:
        turn_number: order of the turns within their transcript.

    Raises:
        ShapeError: the arrays differ in length.
        LabelError: two turns of a transcript have the same number, or a score is not finite.
    """
    _check(scores, turns, turn_number)
    is_negative = _negatives(turns, negatives)
    counts = turns.is_positive | is_negative
    fires = scores > threshold
    alarms = fires if earlier == "any" else fires & counts
    excused = turns.is_positive & ~fires & _is_after(alarms, turns.transcript, turn_number)
    n_pos = int(turns.is_positive.sum() - excused.sum())
    n_neg = int(is_negative.sum())
    return RelaxedPoint(
        threshold=threshold,
        fpr=float(fires[is_negative].mean()) if n_neg else float("nan"),
        tpr=int((turns.is_positive & fires).sum()) / n_pos if n_pos else float("nan"),
        n_pos=n_pos,
        n_excused=int(excused.sum()),
        n_neg=n_neg,
    )


def prior_fire_at_fpr(
    scores: Num[np.ndarray, "turn"],
    turns: Turns,
    turn_number: Int[np.ndarray, "turn"],
    fpr_target: float,
    *,
    negatives: Negatives = "clean",
    earlier: EarlierAlarm = "counted",
) -> RelaxedPoint:
    """`prior_fire_point` at the most lenient threshold that holds the false-positive rate; ties fire together.

    Raises:
        ShapeError: the arrays differ in length.
        LabelError: as `prior_fire_point`, or no turn is negative.
    """
    _check(scores, turns, turn_number)
    among = scores[_negatives(turns, negatives)]
    if not len(among):
        raise LabelError(
            f"none of {len(scores)} turns is negative; a false-positive rate needs turns of transcripts "
            'without a positive one (or negatives="all").'
        )
    threshold = threshold_at_fpr(among, fpr_target)
    return prior_fire_point(
        scores, turns, turn_number, threshold, negatives=negatives, earlier=earlier
    )


def _negatives(turns: Turns, negatives: Negatives) -> Bool[np.ndarray, "turn"]:
    return ~turns.is_positive if negatives == "all" else ~turns.in_positive


def _is_after(
    alarms: Bool[np.ndarray, "turn"],
    transcript: Int[np.ndarray, "turn"],
    turn_number: Int[np.ndarray, "turn"],
) -> Bool[np.ndarray, "turn"]:
    """Whether an earlier turn of the same transcript raised an alarm."""
    never = np.iinfo(np.int64).max
    numbers = pd.Series(np.where(alarms, turn_number, never))
    return turn_number > numbers.groupby(transcript).transform("min").to_numpy()


def _check(
    scores: Float[np.ndarray, "turn"] | np.ndarray, turns: Turns, turn_number: np.ndarray
) -> None:
    if not len(scores) == len(turn_number) == len(turns.transcript):
        raise ShapeError(
            f"{len(scores)} scores and {len(turn_number)} turn numbers for {len(turns.transcript)} turns; "
            "give one of each for each turn."
        )
    if not np.isfinite(scores).all():
        raise LabelError(
            f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are not finite; leave out turns "
            "that were not scored."
        )
    places = np.stack([turns.transcript, turn_number], axis=1)
    n_repeated = len(places) - len(np.unique(places, axis=0))
    if n_repeated:
        raise LabelError(
            f"{n_repeated} turns have the number of another turn of their transcript; earlier and later "
            "cannot be told, so number them apart."
        )
