"""Thresholds, fusions and grains on made turn scores whose truth is known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mechprobe.evaluation.turns.calibration_table import (
    calibration_rows,
    calibration_table,
    reliability_table,
)
from mechprobe.evaluation.turns.decomposition import (
    decomposition_rows,
    decomposition_table,
    unions_of,
)
from mechprobe.evaluation.turns.operating_points import (
    THRESHOLD_COLUMNS,
    or_rows,
    threshold_rows,
    threshold_table,
)
from mechprobe.evaluation.turns.scored_turns import ScoredTurns, TurnFolds, calibrate
from mechprobe.evaluation.turns.turn_fusion import FUSIONS, fuse
from mechprobe.evaluation.turns.turn_units import TurnTruth
from mechprobe.probes.scoring.thresholds import threshold_at
from mechprobe.taxonomy import load_taxonomy

N_TALKS, N_TURNS = 300, 3
NAMES = ("a", "b", "misaligned")
SINGLE = 2


def made(seed: int = 0, lift: float = 3.0) -> tuple[ScoredTurns, TurnFolds]:
    """300 talks of 3 turns in 5 folds; every other talk has "a" or "b" in its second turn, which lifts its score."""
    rng = np.random.default_rng(seed)
    talk = np.repeat(np.arange(N_TALKS), N_TURNS)
    turn = np.tile(np.arange(1, N_TURNS + 1), N_TALKS)
    bad = talk % 2 == 0
    which = talk // 2 % 2
    labels = np.zeros((len(talk), 3), dtype=np.int8)
    for at in range(2):
        labels[bad & (turn == 2) & (which == at), at] = 1
    labels[:, SINGLE] = labels.any(axis=1)
    in_positive = np.stack([bad & (which == 0), bad & (which == 1), bad], axis=1)
    truth = TurnTruth(
        columns=NAMES,
        turns=pd.DataFrame({"conversation": talk, "turn": turn, "transcript_id": talk.astype(str)}),
        labels=labels,
        in_positive=in_positive,
        neutral=~bad,
    )
    scores = rng.normal(size=(len(talk), 4))
    scores[:, :3] += lift * labels
    scores[:, 3] += lift * labels[:, SINGLE]
    folds = TurnFolds(truth=truth, fold=talk % 5, unions={"both": ("a", "b")})
    # Raw scores of "b" are on another scale: one that drowns those of "a".
    raw = scores * np.array([1.0, 50.0, 1.0, 1.0])
    one = ScoredTurns(scorer="made", hook_name="blocks.0", view="full", scores=scores, raw=raw)
    return one, folds


def row_of(table: pd.DataFrame, **values: object) -> pd.Series:
    chosen = np.ones(len(table), dtype=bool)
    for name, value in values.items():
        chosen &= (table[name] == value).to_numpy()
    (found,) = np.flatnonzero(chosen)
    return table.iloc[found]


def test_thresholds_come_from_neutral_turns_of_other_folds_and_rates_from_the_tested_one() -> None:
    one, folds = made()
    table = threshold_table(list(threshold_rows(one, folds, 0, targets=(0.05,), rule="empirical")))
    assert tuple(table.columns) == THRESHOLD_COLUMNS
    found = row_of(table, unit="turn")
    scores, talk = one.scores[:, 0], folds.truth.turns["conversation"].to_numpy()
    fired, values = np.zeros(len(scores), dtype=bool), []
    for fold in range(5):
        neutral = folds.truth.neutral & (folds.fold != fold)
        values.append(threshold_at(scores[neutral], 0.05).value)
        fired[folds.fold == fold] = scores[folds.fold == fold] > values[-1]
    is_a = folds.truth.labels[:, 0] == 1
    assert found["value"] == np.median(values)
    assert found["tpr"] == fired[is_a].mean() and found["fpr_test"] == fired[~is_a].mean()
    assert found["fpr_test_neutral"] == fired[folds.truth.neutral].mean()
    assert found["n_neutral"] == 360 and found["n_pos"] == 75 and found["n_neg"] == 825
    assert found["tpr_low"] < found["tpr"] < found["tpr_high"]
    # A transcript scores its highest turn, of three, so its threshold lies higher.
    whole = row_of(table, unit="transcript")
    assert whole["value"] > found["value"] and whole["n_neutral"] == 120
    assert len(np.unique(talk)) == whole["n_pos"] + whole["n_neg"] == N_TALKS


def test_too_few_neutral_units_are_refused_with_the_reason_and_no_rate() -> None:
    one, folds = made()
    table = threshold_table(list(threshold_rows(one, folds, 0, targets=(0.002,), rule="certified")))
    assert table["refused"].str.contains("negatives cannot resolve").all()
    assert table[["tpr", "value", "fpr_test"]].isna().all(axis=None)
    none = replace(folds, truth=replace(folds.truth, neutral=np.zeros(900, dtype=bool)))
    rows = [*threshold_rows(one, none, 0, targets=(0.05,), rule="conformal")]
    rows += or_rows(one, none, none.fine, targets=(0.05,), rule="conformal")
    assert all(row["refused"] for row in rows)


def test_fewer_than_five_positives_have_no_true_positive_rate() -> None:
    one, folds = made()
    labels = folds.truth.labels.copy()
    labels[np.flatnonzero(labels[:, 0] == 1)[4:], 0] = -1
    few = replace(folds, truth=replace(folds.truth, labels=labels))
    (turn, _) = threshold_rows(one, few, 0, targets=(0.05,), rule="conformal")
    assert turn["n_pos"] == 4 and "tpr" not in turn and turn["fpr_test"] > 0


def test_the_or_holds_its_target_where_it_is_allotted_and_exceeds_it_where_it_is_not() -> None:
    one, folds = made()
    table = threshold_table(
        list(or_rows(one, folds, folds.fine, targets=(0.05,), rule="empirical"))
    )
    rates = {
        how: row_of(table, unit="turn", scorer=f"made_or_{how}")
        for how in ("each", "bonferroni", "joint")
    }
    assert rates["each"]["fpr_neutral"] > 0.08 and rates["each"]["probe_fpr"] == 0.05
    assert rates["bonferroni"]["fpr_neutral"] <= rates["joint"]["fpr_neutral"] <= 0.05
    for row in rates.values():
        assert row["fpr_test_neutral"] == pytest.approx(row["fpr_neutral"], abs=0.02)
        assert row["indicator"] == "misaligned" and row["tpr"] > 0.7


def test_every_fusion_finds_what_its_members_find_and_only_the_raw_one_is_drowned() -> None:
    one, folds = made()
    label = folds.truth.labels[:, SINGLE] == 1

    def auroc(values: np.ndarray) -> float:
        wins = values[label][:, None] - values[~label]
        return float((wins > 0).mean() + (wins == 0).mean() / 2)

    found = {fusion: auroc(fuse(fusion, one, folds, folds.fine)) for fusion in FUSIONS}
    assert min(value for name, value in found.items() if name != "max_raw") > 0.9
    assert found["max_raw"] < 0.85


def test_a_fusion_learns_nothing_from_the_fold_that_it_scores() -> None:
    one, folds = made()
    tested = folds.fold == 0
    labels = folds.truth.labels.copy()
    labels[tested] = 1 - labels[tested]
    flipped = replace(
        folds,
        truth=replace(folds.truth, labels=labels, neutral=folds.truth.neutral | tested),
    )
    for fusion in FUSIONS:
        before, after = (fuse(fusion, one, each, folds.fine) for each in (folds, flipped))
        assert (before[tested] == after[tested]).all()


def test_a_member_without_scores_is_left_out_and_a_turn_without_any_has_no_score() -> None:
    one, folds = made()
    scores = one.scores.copy()
    scores[:, 1], scores[5] = np.nan, np.nan
    lacking = replace(one, scores=scores, raw=scores)
    for fusion in FUSIONS:
        fused = fuse(fusion, lacking, folds, folds.fine)
        assert np.flatnonzero(np.isnan(fused)).tolist() == [5]


def test_calibrations_are_out_of_fold_and_say_when_they_have_too_little() -> None:
    one, folds = made()
    rows = calibration_rows(one, folds, n_boot=100, seed=0)
    table = calibration_table(rows.errors)
    platt = row_of(table, indicator="a", method="platt")
    assert platt["ece"] < 0.05 and platt["brier"] < 0.5 * platt["brier_of_rate"]
    assert (platt["n_pos"], platt["n_neg"]) == (75, 825)
    assert set(table["indicator"]) == set(NAMES)  # a union is no row
    curves = reliability_table(rows.curves)
    assert set(curves["indicator"]) == {NAMES[folds.single]}
    own = curves[curves["method"] == "platt"]
    gaps = (own["observed"] - own["stated"]).abs()
    ece = row_of(table, indicator=NAMES[folds.single], method="platt")["ece"]
    # The error of calibration is the mean gap of the curve, each bin by its turns.
    assert np.average(gaps, weights=own["n"]) == pytest.approx(ece)
    assert ((own["low"] <= own["observed"]) & (own["observed"] <= own["high"])).all()
    labels = folds.labels
    few = labels.copy()
    few[np.flatnonzero(few[:, 0] == 1)[4:], 0] = 0
    found = calibrate(one.scores, few, np.ones(900, dtype=bool))
    assert found.refused[0].startswith("4 positive and 896 negative") and not found.refused[1]
    assert np.isnan(found.values[:, 0]).all() and np.isfinite(found.values[:, 1]).all()


def test_grains_are_compared_on_the_same_turns() -> None:
    one, folds = made()
    table = decomposition_table(
        list(decomposition_rows(one, folds, targets=(0.05,), n_boot=200, seed=0))
    )
    fine, coarse, single = (
        row_of(table, fusion="fused", unit="turn", grain=grain)
        for grain in ("fine", "coarse", "single")
    )
    assert [row["n_probes"] for row in (fine, coarse, single)] == [2, 1, 1]
    # Two noisy probes of which one knows, against one that knows: the planted loss of the OR.
    assert fine["auroc"] < coarse["auroc"] and coarse["minus_fine_low"] > 0
    assert coarse["minus_fine"] == pytest.approx(coarse["auroc"] - fine["auroc"])
    assert np.isnan(fine["minus_fine"]) and fine["tpr"] <= single["tpr"]


def test_labels_of_a_union_are_unknown_only_where_they_could_be_either() -> None:
    _, folds = made()
    labels = folds.truth.labels[:4].copy()
    labels[:, :2] = [[1, -1], [0, -1], [0, 0], [0, 1]]
    some = replace(
        folds,
        truth=replace(
            folds.truth,
            turns=folds.truth.turns.iloc[:4],
            labels=labels,
            in_positive=folds.truth.in_positive[:4],
            neutral=folds.truth.neutral[:4],
        ),
        fold=folds.fold[:4],
    )
    assert some.labels[:, 3].tolist() == [1, -1, 0, 1]


def test_the_unions_of_the_taxonomy_are_its_five_behaviours() -> None:
    taxonomy = load_taxonomy()
    unions = unions_of(taxonomy, taxonomy.slugs)
    assert len(unions) == 5 and set().union(*unions.values()) == set(taxonomy.slugs)
    assert unions["sandbagging"] >= ("error_calibration",)
    assert unions_of(taxonomy, ["error_calibration"]) == {"sandbagging": ("error_calibration",)}
