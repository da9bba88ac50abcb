import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc_curve

from mechprobe.errors import LabelError, ShapeError
from mechprobe.evaluation.metrics import auroc, quantile_point, roc_curve, tpr_at_fpr
from mechprobe.evaluation.units import (
    Turns,
    Units,
    highest_of_many_chance,
    mixed_chance,
    mixed_chance_across,
    mixed_units,
    transcript_chance,
    transcript_units,
    turn_units,
)

tied_cases = st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=2, max_size=40).filter(
    lambda cases: len({label for _, label in cases}) == 2
)


def arrays(cases: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([float(score) for score, _ in cases]), np.array([label for _, label in cases])


@given(tied_cases)
def test_auroc_agrees_with_sklearn_even_on_ties(cases: list[tuple[int, bool]]) -> None:
    scores, labels = arrays(cases)
    assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


@given(tied_cases)
def test_roc_curve_agrees_with_sklearn_and_encloses_the_auroc(
    cases: list[tuple[int, bool]],
) -> None:
    scores, labels = arrays(cases)
    curve = roc_curve(scores, labels)
    fpr, tpr, _ = sklearn_roc_curve(labels, scores, drop_intermediate=False)
    assert np.interp(fpr, curve.fpr, curve.tpr).max() <= 1
    assert set(zip(curve.fpr, curve.tpr, strict=True)) <= set(zip(fpr, tpr, strict=True))
    assert np.trapezoid(curve.tpr, curve.fpr) == pytest.approx(auroc(scores, labels))


@given(tied_cases)
def test_each_point_of_the_curve_is_what_its_threshold_does(cases: list[tuple[int, bool]]) -> None:
    scores, labels = arrays(cases)
    curve = roc_curve(scores, labels)
    for fpr, tpr, threshold in zip(curve.fpr, curve.tpr, curve.threshold, strict=True):
        fired = scores > threshold
        assert (fired[~labels].mean(), fired[labels].mean()) == (fpr, tpr)


@given(tied_cases, st.sampled_from([0.0, 0.01, 0.1, 0.34, 0.5, 1.0]))
def test_the_threshold_holds_its_false_positive_rate_and_no_lower_one_does(
    cases: list[tuple[int, bool]], target: float
) -> None:
    scores, labels = arrays(cases)
    point = tpr_at_fpr(scores, labels, target)
    assert point.fpr <= target
    assert point.fpr == (scores[~labels] > point.threshold).mean()
    lower = scores[~labels][scores[~labels] < point.threshold]
    assert all((scores[~labels] > candidate).mean() > target for candidate in lower)


def test_equal_scores_are_chance_in_any_order() -> None:
    for labels in ([True, False, False], [False, False, True]):
        assert auroc(np.zeros(3), np.array(labels)) == 0.5


def test_unusable_scores_are_refused_with_their_numbers() -> None:
    with pytest.raises(LabelError, match="3 of 3 units are positive"):
        auroc(np.arange(3.0), np.ones(3, dtype=bool))
    with pytest.raises(LabelError, match="1 of 2 scores are not finite"):
        auroc(np.array([np.nan, 1.0]), np.array([True, False]))


def random_turns(rng: np.random.Generator, n_transcripts: int) -> Turns:
    n_turns = rng.integers(1, 7, size=n_transcripts)
    transcript = np.repeat(np.arange(n_transcripts), n_turns)
    in_positive = (np.arange(n_transcripts) % 2 == 0)[transcript]
    is_positive = in_positive & (rng.random(len(transcript)) < 0.5)
    return Turns(transcript=transcript, is_positive=is_positive, in_positive=in_positive)


@pytest.mark.parametrize("n_transcripts", [3, 8, 60])
def test_scores_that_know_nothing_have_the_closed_form_mixed_auroc(n_transcripts: int) -> None:
    rng = np.random.default_rng(n_transcripts)
    turns = random_turns(rng, n_transcripts)
    drawn = []
    for _ in range(4000 // n_transcripts + 200):
        units = mixed_units(rng.normal(size=len(turns.transcript)), turns)
        drawn.append(auroc(units.scores, units.is_positive))
    error = np.std(drawn) / np.sqrt(len(drawn))
    assert np.mean(drawn) == pytest.approx(mixed_chance(turns), abs=4 * error)
    assert mixed_chance(turns) > 0.55


def test_mixed_chance_of_one_turn_a_transcript_is_a_half() -> None:
    turns = Turns(
        transcript=np.arange(4),
        is_positive=np.array([True, False, False, True]),
        in_positive=np.array([True, False, False, True]),
    )
    assert mixed_chance(turns) == 0.5


def test_without_negative_turns_of_their_own_positive_transcripts_have_the_simple_chance() -> None:
    turns = Turns(
        transcript=np.array([0, 1, 1, 1, 2, 2]),
        is_positive=np.array([True, True, True, True, False, False]),
        in_positive=np.array([True, True, True, True, False, False]),
    )
    # One turn beats another with 1/2, the highest of three with 3/4.
    assert mixed_chance(turns) == mixed_chance_across(turns) == (1 / 2 + 3 / 4) / 2


def test_turn_scores_that_know_nothing_rank_long_transcripts_high() -> None:
    rng = np.random.default_rng(4)
    n_turns = np.r_[rng.integers(1, 4, size=30), rng.integers(3, 9, size=50)]
    transcript = np.repeat(np.arange(80), n_turns)
    positive = transcript < 30
    turns = Turns(transcript=transcript, is_positive=positive, in_positive=positive)
    drawn = []
    for _ in range(400):
        units = transcript_units(rng.normal(size=len(transcript)), turns)
        drawn.append(auroc(units.scores, units.is_positive))
    error = np.std(drawn) / np.sqrt(len(drawn))
    assert np.mean(drawn) == pytest.approx(transcript_chance(turns), abs=4 * error)
    assert transcript_chance(turns) < 0.35


def test_the_highest_of_two_beats_one_and_three_as_often_as_worked_out() -> None:
    chance = highest_of_many_chance(np.array([2]), np.array([1, 3, 3]))
    assert chance == pytest.approx((2 / 3 + 2 * 2 / 5) / 3)
    assert np.isnan(highest_of_many_chance(np.array([2]), np.array([], dtype=np.int64)))


@given(tied_cases)
def test_negated_scores_turn_the_auroc_over(cases: list[tuple[int, bool]]) -> None:
    scores, labels = arrays(cases)
    assert auroc(-scores, labels) == pytest.approx(1 - auroc(scores, labels))


def test_units_of_a_small_case_are_those_of_the_paper() -> None:
    turns = Turns(
        transcript=np.array([0, 0, 1, 1]),
        is_positive=np.array([False, True, False, False]),
        in_positive=np.array([True, True, False, False]),
    )
    scores = np.array([3.0, 1.0, 2.0, 0.0])
    mixed = mixed_units(scores, turns)
    assert mixed.scores.tolist() == [3.0, 3.0, 2.0, 0.0]
    assert mixed.is_positive.tolist() == [True, False, False, False]
    assert mixed.clusters.tolist() == [0, 0, 1, 1]
    assert transcript_units(scores, turns).scores.tolist() == [3.0, 2.0]
    assert turn_units(scores, turns).is_positive.tolist() == [False, True, False, False]


def test_contradictory_turn_labels_are_refused() -> None:
    with pytest.raises(LabelError, match="1 positive turns stand in negative"):
        Turns(
            transcript=np.zeros(1, dtype=np.int64),
            is_positive=np.array([True]),
            in_positive=np.array([False]),
        )
    turns = Turns(
        transcript=np.zeros(1, dtype=np.int64),
        is_positive=np.array([True]),
        in_positive=np.array([True]),
    )
    with pytest.raises(ShapeError, match="2 scores for 1 turns"):
        turn_units(np.zeros(2), turns)


@pytest.mark.parametrize(
    ("name", "scorer"),
    [("qwen_dev_probe_L23_full", "probe_or_fused_max18"), ("glm_dev_judge_haiku", "judge_haiku")],
)
def test_published_scores_give_the_authors_own_figures(
    shared_data: Path, name: str, scorer: str
) -> None:
    golden = json.loads((shared_data / "scores" / "golden_metrics.json").read_text())[name]
    table = pd.read_parquet(shared_data / "scores" / "turn_scores.parquet")
    table = table[(table["scorer"] == scorer) & ~table["excluded"]]
    turns = Turns(
        transcript=table.groupby(["dataset", "variation", "repetition"]).ngroup().to_numpy(),
        is_positive=table["gt_misaligned"].to_numpy(),
        in_positive=table["transcript_pos"].to_numpy(),
    )
    scores = table["score"].to_numpy()
    mixed = mixed_units(scores, turns)
    assert (mixed.is_positive.sum(), (~mixed.is_positive).sum()) == (
        golden["n_pos"],
        golden["n_neg"],
    )
    figures = {"mixed_auroc": mixed, "turn_auroc": turn_units(scores, turns)}
    figures["transcript_auroc"] = transcript_units(scores, turns)
    assert len(figures["transcript_auroc"].scores) == golden["n_transcripts"]
    for key, units in figures.items():
        assert auroc(units.scores, units.is_positive) == pytest.approx(golden[key], abs=1e-9)
    for target in (0.01, 0.05, 0.1):
        point = quantile_point(mixed.scores, mixed.is_positive, target)
        expected = golden[f"tpr@{target}"]
        assert point.threshold == pytest.approx(expected["thr"], abs=1e-9)
        assert (point.fpr, point.tpr) == pytest.approx((expected["fpr"], expected["tpr"]), abs=1e-9)
        assert tpr_at_fpr(mixed.scores, mixed.is_positive, target).fpr <= target


def test_the_papers_metric_on_its_own_data_has_the_chance_level_that_was_measured(
    shared_data: Path,
) -> None:
    table = pd.read_parquet(shared_data / "scores" / "turn_scores.parquet")
    for scorer, measured in (("judge_haiku", 0.700), ("probe_or_fused_max18", 0.642)):
        part = table[(table["scorer"] == scorer) & ~table["excluded"]]
        turns = Turns(
            transcript=part.groupby(["dataset", "variation", "repetition"]).ngroup().to_numpy(),
            is_positive=part["gt_misaligned"].to_numpy(),
            in_positive=part["transcript_pos"].to_numpy(),
        )
        assert mixed_chance(turns) == pytest.approx(measured, abs=0.01)


@settings(max_examples=20)
@given(tied_cases)
def test_auroc_does_not_change_under_a_monotone_map(cases: list[tuple[int, bool]]) -> None:
    scores, labels = arrays(cases)
    units = Units(scores=np.exp(scores), is_positive=labels, clusters=np.arange(len(labels)))
    assert auroc(units.scores, units.is_positive) == pytest.approx(auroc(scores, labels))
