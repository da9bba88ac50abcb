"""The detection of turns on planted conversations."""

import pytest

from mechprobe.evaluation.folds import TokenSource
from mechprobe.evaluation.results import Detection
from mechprobe.evaluation.turns.turn_detection import TurnDetectionConfig, detect_turns
from tests.evaluation.planted_conversations import (
    INDICATORS,
    Planted,
    conversations,
    span_table,
    word_tokens,
)


def auroc_of(found: Detection, scorer: str, unit: str, indicator: str = INDICATORS[0]) -> float:
    table = found.table
    row = table[
        (table["scorer"] == scorer) & (table["unit"] == unit) & (table["indicator"] == indicator)
    ]
    return float(row["auroc"].item())


@pytest.fixture(scope="module")
def turns_found() -> Detection:
    transcripts = conversations(60)
    tokens = word_tokens(transcripts)
    spans = span_table(tokens, transcripts)
    planted = Planted(tokens, spans)
    source = TokenSource(
        hook_name="blocks.4.hook_out", acts=planted.acts, features=planted.features
    )
    config = TurnDetectionConfig(n_folds=3, n_boot=100, max_negatives=20)
    return detect_turns(tokens, spans, transcripts, INDICATORS, source, config)


@pytest.mark.parametrize(
    "scorer", ["dense_logistic", "sae_k_sparse", "dense_logistic_fused", "haiku"]
)
@pytest.mark.parametrize("unit", ["turn", "transcript", "mixed"])
def test_misaligned_turns_are_found_out_of_fold(
    turns_found: Detection, scorer: str, unit: str
) -> None:
    assert auroc_of(turns_found, scorer, unit, "misaligned") > 0.95


def test_length_is_near_chance_and_the_mixed_unit_says_what_chance_is(
    turns_found: Detection,
) -> None:
    assert auroc_of(turns_found, "length", "turn", "misaligned") == pytest.approx(0.5, abs=0.2)
    chance = turns_found.table.set_index("unit")["chance"]
    assert (chance[["turn", "transcript"]] == 0.5).all()
    # Three turns each: n / (n + 1) for the turns of others.
    assert chance["mixed"].to_numpy() == pytest.approx(0.75, abs=0.01)
    counts = turns_found.table.set_index(["indicator", "unit", "scorer"])
    row = counts.loc[("misaligned", "transcript", "tfidf")]
    assert (row["n_pos"], row["n_neg"]) == (30, 29)


def test_every_turn_of_the_study_is_scored_once_and_excluded_ones_are_not(
    turns_found: Detection,
) -> None:
    scores = turns_found.scores
    one = scores[
        (scores["scorer"] == "dense_logistic")
        & (scores["unit"] == "turn")
        & (scores["indicator"] == "misaligned")
    ]
    assert len(one) == 59 * 3 and not one.duplicated(["transcript_id", "turn"]).any()
    assert "talk 59" not in set(one["transcript_id"])


def test_indicators_are_told_apart_and_shuffled_labels_learn_nothing(
    turns_found: Detection,
) -> None:
    for indicator in INDICATORS:
        assert auroc_of(turns_found, "dense_logistic", "turn", indicator) > 0.9
    assert auroc_of(turns_found, "shuffled_labels", "turn", "misaligned") < 0.9
