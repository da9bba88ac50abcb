"""The whole study of turns on planted conversations: views, fused scorers, thresholds, calibration, grain."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mechprobe.errors import ConfigError
from mechprobe.evaluation.detection import DETECTION_COLUMNS
from mechprobe.evaluation.folds import TokenSource
from mechprobe.evaluation.turns.calibration_table import CALIBRATION_COLUMNS
from mechprobe.evaluation.turns.decomposition import DECOMPOSITION_COLUMNS
from mechprobe.evaluation.turns.operating_points import THRESHOLD_COLUMNS
from mechprobe.evaluation.turns.turn_config import TurnDetectionConfig
from mechprobe.evaluation.turns.turn_detection import detect_turns, study_turns
from mechprobe.evaluation.turns.turn_fusion import FUSIONS
from mechprobe.evaluation.turns.turn_tables import TurnStudy
from mechprobe.evaluation.turns.turn_units import turn_truth
from mechprobe.probes.labels.labelling import LabelRule
from mechprobe.transcripts.asked import LABELLED_FOR
from mechprobe.transcripts.transcript import Transcript
from tests.evaluation.planted_conversations import (
    INDICATORS,
    Planted,
    conversations,
    span_table,
    word_tokens,
)

CONFIG = TurnDetectionConfig(
    estimators=("dense_logistic",),
    text_scorers=("length", "tfidf"),
    n_folds=3,
    n_boot=50,
    max_negatives=20,
    fpr_targets=(0.05, 0.2),
)
HOOKS = ("blocks.4.hook_out", "blocks.5.hook_out")


def material() -> tuple[pd.DataFrame, pd.DataFrame, list[Transcript]]:
    transcripts = conversations(60)
    tokens = word_tokens(transcripts)
    return tokens, span_table(tokens, transcripts), transcripts


@pytest.fixture(scope="module")
def study() -> TurnStudy:
    tokens, spans, transcripts = material()
    planted = Planted(tokens, spans)
    sources = [TokenSource(hook_name=name, acts=planted.acts) for name in HOOKS]
    return study_turns(
        tokens, spans, transcripts, INDICATORS, sources, CONFIG, unions={"both": INDICATORS}
    )


def rows(table: pd.DataFrame, **values: object) -> pd.DataFrame:
    for name, value in values.items():
        table = table[table[name] == value]
    return table


def test_the_signal_is_in_the_reasoning_and_the_views_show_it(study: TurnStudy) -> None:
    assert tuple(study.views.columns) == (*DETECTION_COLUMNS, "view")
    aurocs = {
        view: rows(
            study.views,
            view=view,
            scorer="dense_logistic",
            indicator="misaligned",
            unit="turn",
            hook_name=HOOKS[0],
        )["auroc"].item()
        for view in ("reasoning", "answer")
    }
    # The spans stand in the reasoning; the answers are the same words with noise.
    assert aurocs["reasoning"] > 0.95 and aurocs["answer"] < 0.75
    words = rows(study.views, scorer="tfidf", indicator="misaligned", unit="turn")
    # All answers are the same: words tell folds apart by their base rates and nothing else.
    assert words.set_index("view")["auroc"]["answer"] == pytest.approx(0.5, abs=0.05)


def test_every_fusion_is_a_scorer_of_misaligned_at_every_hook_point(study: TurnStudy) -> None:
    table = rows(study.detection.table, indicator="misaligned", unit="turn")
    for hook_name in HOOKS:
        scorers = set(rows(table, hook_name=hook_name)["scorer"])
        assert {f"dense_logistic_{fusion}" for fusion in FUSIONS} <= scorers
    fused = table[table["scorer"].isin([f"dense_logistic_{one}" for one in FUSIONS])]
    assert (fused["auroc"] > 0.9).all()
    hooks = {one.hook_name for one in study.detection.bank.sets}
    assert hooks == set(HOOKS)
    # Probes of unions serve the comparison of grains alone.
    assert {name for one in study.detection.bank.sets for name in one.indicators} == {
        *INDICATORS,
        "misaligned",
    }


def test_thresholds_hold_on_held_out_neutral_turns_or_say_why_there_is_none(
    study: TurnStudy,
) -> None:
    table = study.thresholds
    assert tuple(table.columns) == THRESHOLD_COLUMNS
    one = rows(
        table,
        scorer="dense_logistic",
        indicator="misaligned",
        view="full",
        unit="turn",
        fpr_target=0.05,
        hook_name=HOOKS[0],
    ).iloc[0]
    # 29 clean talks of 3 turns, of which two folds' worth tune.
    assert one["refused"] == "" and 50 <= one["n_neutral"] <= 66
    assert one["tpr"] > 0.8 and one["fpr_neutral"] <= 0.05 < one["fpr_neutral_upper"]
    whole = rows(table, scorer="dense_logistic", unit="transcript", view="full", fpr_target=0.05)
    # Some 19 clean talks can tell 5 % just so or not at all: never a number without its reason.
    assert (whole["tpr"].isna() == (whole["refused"] != "")).all()
    scorers = set(table["scorer"])
    assert {"length", "tfidf", "haiku", "dense_logistic_or_joint"} <= scorers
    joint = rows(table, scorer="dense_logistic_or_joint", fpr_target=0.2, unit="turn", view="full")
    assert (joint["fpr_neutral"] <= 0.2).all() and (joint["tpr"] > 0.9).all()


def test_calibration_is_given_for_probes_words_and_the_noisy_or(study: TurnStudy) -> None:
    table = study.calibration
    assert tuple(table.columns) == CALIBRATION_COLUMNS
    assert {"dense_logistic", "tfidf", "length", "dense_logistic_noisy_or"} <= set(table["scorer"])
    good = rows(table, scorer="dense_logistic", indicator="misaligned", view="full", method="platt")
    assert (good["refused"] == "").all() and (good["brier"] < good["brier_of_rate"] / 2).all()
    assert ((good["low"] <= good["ece"]) & (good["ece"] <= good["high"])).all()


def test_grains_are_compared_where_there_are_unions(study: TurnStudy) -> None:
    table = study.decomposition
    assert tuple(table.columns) == DECOMPOSITION_COLUMNS
    one = rows(table, scorer="dense_logistic", view="full", fusion="fused", unit="turn")
    one = rows(one, fpr_target=0.2, hook_name=HOOKS[0])
    assert dict(zip(one["grain"], one["n_probes"], strict=True)) == {
        "fine": 2,
        "coarse": 1,
        "single": 1,
    }
    assert (one["auroc"] > 0.9).all()


def test_the_ranking_alone_is_the_same_whatever_else_is_asked(study: TurnStudy) -> None:
    tokens, spans, transcripts = material()
    source = TokenSource(hook_name=HOOKS[0], acts=Planted(tokens, spans).acts)
    config = replace(CONFIG, views=("full",), fusions=("fused",), text_scorers=())
    alone = detect_turns(tokens, spans, transcripts, INDICATORS, source, config).table
    names = ["indicator", "scorer", "unit", "hook_name"]
    merged = alone.merge(study.detection.table, on=names, suffixes=("", "_beside"))
    assert len(merged) == len(alone)
    assert merged["auroc"].to_numpy() == pytest.approx(merged["auroc_beside"], nan_ok=True)


def test_other_rules_folds_and_poolings_run_and_bad_settings_are_refused() -> None:
    tokens, spans, transcripts = material()
    source = TokenSource(hook_name=HOOKS[0], acts=Planted(tokens, spans).acts)
    for balance, mode in (("draw", "span"), ("weights", "turn")):
        config = replace(
            CONFIG,
            labels=LabelRule(balance=balance, mode=mode),  # type: ignore[arg-type]
            fold_by="transcript",
            pool_tokens="max",
            views=("full",),
            text_scorers=(),
            fusions=(),
        )
        table = detect_turns(tokens, spans, transcripts, INDICATORS, source, config).table
        one = rows(table, scorer="dense_logistic", indicator="misaligned", unit="turn")
        assert one["auroc"].item() > 0.9
    with pytest.raises(ConfigError, match="it must have 'full'"):
        replace(CONFIG, views=("reasoning",))
    with pytest.raises(ConfigError, match="each must be > 0 and < 1"):
        replace(CONFIG, fpr_targets=(0.0,))


def test_neutral_turns_are_those_of_transcripts_known_to_hold_nothing() -> None:
    transcripts = conversations(4)
    asked = {LABELLED_FOR: INDICATORS[0]}
    # 0 and 2 are bad, 1 is clean; 3, excluded there, was only asked for one indicator here.
    part = replace(transcripts[3], excluded=False, misaligned_turns=None, meta=asked)
    honest = replace(part, id="honest", is_misaligned=False)
    unsure = replace(part, id="unsure", is_misaligned=None)
    given = [*transcripts[:3], honest, unsure]
    turns = pd.DataFrame({"conversation": range(5), "turn": 2})
    truth = turn_truth(given, turns, INDICATORS)
    assert truth.neutral.tolist() == [False, True, False, True, False]
    assert truth.labels[3:].tolist() == [[0, -1, 0], [0, -1, -1]]
    assert np.array_equal(truth.labels[:3, 2], [1, 0, 1])


def test_embedded_texts_are_a_baseline_out_of_fold_and_each_text_is_embedded_once() -> None:
    tokens, spans, transcripts = material()
    seen: list[str] = []

    def telling(texts: Sequence[str]) -> np.ndarray:
        seen.extend(texts)
        return np.array([[float(word in text) for word in ("hide", "boast")] for text in texts])

    def blind(texts: Sequence[str]) -> np.ndarray:
        return np.ones((len(texts), 2))

    one_view = replace(CONFIG, views=("full",), text_scorers=("length",), n_boot=10)
    found = study_turns(
        tokens,
        spans,
        transcripts,
        INDICATORS,
        TokenSource(hook_name=HOOKS[0], acts=Planted(tokens, spans).acts),
        one_view,
        embedders={"sentence_embedding": telling, "embedding_layer": blind},
    ).detection.table
    turns = rows(found, indicator="misaligned", unit="turn").set_index("scorer")["auroc"]
    assert turns["embedding_layer"] == pytest.approx(0.5, abs=0.06)
    assert turns["sentence_embedding"] > turns["embedding_layer"]
    assert len(seen) == len(set(seen))
