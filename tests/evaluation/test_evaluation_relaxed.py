import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mechprobe.errors import LabelError, ShapeError
from mechprobe.evaluation.metrics import tpr_at_fpr
from mechprobe.evaluation.relaxed import (
    EarlierAlarm,
    Negatives,
    RelaxedPoint,
    prior_fire_at_fpr,
    prior_fire_point,
    transcript_relaxed_units,
)
from mechprobe.evaluation.units import Turns
from tests.evaluation.planted_turns import planted_turns

# A positive transcript: quiet negative, alarm on a negative, miss, hit, miss; and a clean one of two turns.
TURNS = Turns(
    transcript=np.array([0, 0, 0, 0, 0, 1, 1]),
    is_positive=np.array([False, False, True, True, True, False, False]),
    in_positive=np.array([True, True, True, True, True, False, False]),
)
SCORES = np.array([0.0, 9.0, 1.0, 8.0, 2.0, 6.0, 0.5])
NUMBER = np.array([1, 2, 3, 4, 5, 1, 2])


def counted(point: RelaxedPoint) -> tuple[float, float, int, int, int]:
    return point.tpr, point.fpr, point.n_pos, point.n_excused, point.n_neg


def test_a_small_transcript_is_counted_as_the_paper_counts_it() -> None:
    # Turn 2 has a doubtful label: it does not count, nor does its alarm. Turn 3 is missed before any alarm that
    # counts, turn 4 is a hit, and turn 5 is excused by it.
    assert counted(prior_fire_point(SCORES, TURNS, NUMBER, 5.0)) == (1 / 2, 1 / 2, 2, 1, 2)
    # Any alarm excuses: turn 3 too, after the false one of turn 2.
    point = prior_fire_point(SCORES, TURNS, NUMBER, 5.0, earlier="any")
    assert counted(point) == (1.0, 1 / 2, 1, 2, 2)
    # With every negative counted, turn 2 is a false alarm, and excuses what follows.
    point = prior_fire_point(SCORES, TURNS, NUMBER, 5.0, negatives="all")
    assert counted(point) == (1.0, 2 / 4, 1, 2, 4)


def test_the_order_of_turns_is_their_number_and_not_their_row() -> None:
    turned = np.arange(7)[::-1]
    turns = Turns(
        transcript=TURNS.transcript[turned],
        is_positive=TURNS.is_positive[turned],
        in_positive=TURNS.in_positive[turned],
    )
    point = prior_fire_point(SCORES[turned], turns, NUMBER[turned], 5.0)
    assert point == prior_fire_point(SCORES, TURNS, NUMBER, 5.0)


def test_a_hit_excuses_later_misses_and_not_earlier_ones() -> None:
    turns = Turns(
        transcript=np.zeros(4, dtype=np.int64),
        is_positive=np.ones(4, dtype=bool),
        in_positive=np.ones(4, dtype=bool),
    )
    point = prior_fire_point(np.array([0.0, 1.0, 0.0, 0.0]), turns, np.arange(4), 0.5)
    assert (point.n_pos, point.n_excused, point.tpr) == (2, 2, 0.5)
    assert np.isnan(point.fpr) and point.n_neg == 0


def described(
    scores: np.ndarray, turns: Turns, number: np.ndarray, threshold: float, earlier: str
) -> tuple[int, int, int, int]:
    """Hits, misses, false alarms and silences, turn by turn as the rule says."""
    hits = misses = alarms = silences = 0
    for transcript in np.unique(turns.transcript):
        rows = np.flatnonzero(turns.transcript == transcript)
        is_warned = False
        for row in rows[np.argsort(number[rows])]:
            fires = scores[row] > threshold
            counts = turns.is_positive[row] or not turns.in_positive[row]
            if turns.is_positive[row]:
                hits += fires
                misses += not fires and not is_warned
            elif counts:
                alarms += fires
                silences += not fires
            is_warned = is_warned or (fires and (counts or earlier == "any"))
    return hits, misses, alarms, silences


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(["counted", "any"]), st.integers(-1, 2))
def test_the_rates_are_those_of_walking_through_each_transcript(
    seed: int, earlier: EarlierAlarm, threshold: int
) -> None:
    rng = np.random.default_rng(seed)
    turns, number = planted_turns(rng, 10)
    scores = np.round(rng.normal(size=len(number)))
    hits, misses, alarms, silences = described(scores, turns, number, threshold, earlier)
    point = prior_fire_point(scores, turns, number, float(threshold), earlier=earlier)
    assert (point.n_pos, point.n_neg) == (hits + misses, alarms + silences)
    assert point.fpr == alarms / (alarms + silences)
    if hits + misses:
        assert point.tpr == hits / (hits + misses)
    else:
        assert np.isnan(point.tpr)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.05, 0.2, 0.5]), st.sampled_from(["clean", "all"]))
def test_relaxing_never_lowers_the_rate_and_holds_the_false_alarms(
    seed: int, target: float, negatives: Negatives
) -> None:
    rng = np.random.default_rng(seed)
    turns, number = planted_turns(rng, 12)
    if not turns.is_positive.any():
        return
    scores = np.round(rng.normal(size=len(number)) + turns.is_positive, 1)
    point = prior_fire_at_fpr(scores, turns, number, target, negatives=negatives)
    assert point.fpr <= target
    strict = (scores[turns.is_positive] > point.threshold).mean()
    assert np.isnan(point.tpr) or point.tpr >= strict
    if negatives == "clean":
        units = transcript_relaxed_units(scores, turns)
        assert tpr_at_fpr(units.scores, units.is_positive, target).threshold == point.threshold


def test_relaxed_units_leave_out_the_doubtful_turns() -> None:
    units = transcript_relaxed_units(SCORES, TURNS)
    assert units.scores.tolist() == [1.0, 8.0, 2.0, 6.0, 0.5]
    assert units.is_positive.tolist() == [True, True, True, False, False]
    assert units.clusters.tolist() == [0, 0, 0, 1, 1]
    assert units.chance == 0.5


def test_unusable_turns_are_refused() -> None:
    with pytest.raises(LabelError, match="1 turns have the number of another"):
        prior_fire_point(SCORES, TURNS, np.array([1, 2, 3, 4, 4, 1, 2]), 5.0)
    with pytest.raises(LabelError, match="1 of 7 scores are not finite"):
        prior_fire_point(np.r_[SCORES[:-1], np.nan], TURNS, NUMBER, 5.0)
    with pytest.raises(ShapeError, match="6 scores and 6 turn numbers for 7 turns"):
        prior_fire_point(SCORES[:-1], TURNS, NUMBER[:-1], 5.0)
    positive = Turns(
        transcript=np.zeros(2, dtype=np.int64),
        is_positive=np.array([True, False]),
        in_positive=np.ones(2, dtype=bool),
    )
    with pytest.raises(LabelError, match="none of 2 turns is negative"):
        prior_fire_at_fpr(np.arange(2.0), positive, np.arange(2), 0.1)
