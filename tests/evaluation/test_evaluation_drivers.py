"""Both detection studies on planted data: what is planted is found, what is not stays at chance."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mechprobe.errors import ConfigError, DataError, LabelError, ShapeError
from mechprobe.evaluation.detection import DETECTION_COLUMNS
from mechprobe.evaluation.results import COMPARISON_COLUMNS, Detection
from mechprobe.evaluation.spans.span_building import pair_examples, pair_transcripts, span_examples
from mechprobe.evaluation.spans.span_detection import SpanDetectionConfig, detect_spans
from mechprobe.evaluation.spans.span_examples import SpanExamples
from mechprobe.probes.bank import ProbeBank
from mechprobe.transcripts.pairs import MatchedPair, Outcome
from mechprobe.transcripts.transcript import Transcript
from tests.evaluation.planted_conversations import (
    INDICATORS,
    Planted,
    span_table,
    thinking,
    word_tokens,
)

FEW_DRAWS = SpanDetectionConfig(n_boot=100)


def split_transcripts(n: int) -> list[Transcript]:
    rng = np.random.default_rng(1)
    splits = ["fit", "fit", "fit", "select", "test", "test"]
    return [
        thinking(
            (bool(rng.random() < 0.5), bool(rng.random() < 0.5)),
            id=f"talk {number}",
            split=splits[number % 6],
            turn_indicators={1: frozenset[str]()},
        )
        for number in range(n)
    ]


def matched_pair(number: int) -> MatchedPair:
    """The frames of the two clauses change places, so that both sides have the same words."""
    positive = thinking((True, False), id=f"pair {number}+")
    negative = thinking((False, True), id=f"pair {number}-")
    return MatchedPair(
        id=f"pair {number}",
        indicator=INDICATORS[0],
        positive=positive,
        negative=negative,
        span=positive.spans[0],
        negative_span=negative.spans[0],
        outcomes=(Outcome(name="act", message=1, bad=("bad",), good=("good",)),),
        split=("fit", "select", "test", "test")[number % 4],
    )


def span_study(config: SpanDetectionConfig = FEW_DRAWS) -> Detection:
    transcripts = split_transcripts(120)
    tokens = word_tokens(transcripts)
    spans = span_table(tokens, transcripts)
    planted = Planted(tokens, spans)
    examples = span_examples(
        tokens,
        spans,
        transcripts,
        INDICATORS,
        {"blocks.0.hook_out": planted.acts},
        {"blocks.0.hook_out": planted.features},
    )
    pairs = [matched_pair(number) for number in range(40)]
    sides = pair_transcripts(pairs)
    side_tokens = word_tokens(sides)
    side_spans = span_table(side_tokens, sides)
    at_sides = Planted(side_tokens, side_spans)
    twins = pair_examples(
        side_tokens,
        side_spans,
        pairs,
        INDICATORS,
        {"blocks.0.hook_out": at_sides.acts},
        {"blocks.0.hook_out": at_sides.features},
    )
    return detect_spans(examples, twins, config)


@pytest.fixture(scope="module")
def spans_found() -> Detection:
    return span_study()


def auroc_of(found: Detection, scorer: str, unit: str, indicator: str = INDICATORS[0]) -> float:
    table = found.table
    row = table[
        (table["scorer"] == scorer) & (table["unit"] == unit) & (table["indicator"] == indicator)
    ]
    return float(row["auroc"].item())


@pytest.mark.parametrize("scorer", ["dense_logistic", "dense_lda", "sae_k_sparse", "sae_logistic"])
@pytest.mark.parametrize("unit", ["span", "hard_negative", "matched_pair"])
def test_the_planted_direction_is_found_at_every_unit(
    spans_found: Detection, scorer: str, unit: str
) -> None:
    assert auroc_of(spans_found, scorer, unit) > 0.97


def test_single_words_see_frames_in_spans_and_nothing_in_matched_pairs(
    spans_found: Detection,
) -> None:
    assert auroc_of(spans_found, "tfidf", "hard_negative") == 1.0
    assert auroc_of(spans_found, "tfidf", "matched_pair") == 0.5
    assert auroc_of(spans_found, "tfidf_bigrams", "matched_pair") == 1.0


def test_the_last_token_and_the_length_tell_nothing_about_hard_negatives(
    spans_found: Detection,
) -> None:
    for scorer in ("token_identity", "length"):
        assert auroc_of(spans_found, scorer, "matched_pair") == 0.5
    assert auroc_of(spans_found, "shuffled_labels", "hard_negative") < 0.9


def test_tables_have_their_columns_and_every_scorer_at_every_unit(spans_found: Detection) -> None:
    assert tuple(spans_found.table.columns) == DETECTION_COLUMNS
    assert tuple(spans_found.comparisons.columns) == COMPARISON_COLUMNS
    counts = spans_found.table.groupby("scorer").size()
    assert (counts[counts.index != "x"] <= 6).all() and len(counts) == 11
    assert set(spans_found.scores["unit"]) == {"span", "matched_pair"}
    assert {"indicator", "scorer", "transcript_id", "turn", "span_id", "kind", "score"} <= set(
        spans_found.scores.columns
    )
    of_text = spans_found.table["scorer"].isin(
        ["length", "tfidf", "tfidf_bigrams", "token_identity"]
    )
    assert ((spans_found.table["hook_name"] == "") == of_text).all()
    assert set(spans_found.roc["unit"]) == {"span", "hard_negative", "matched_pair"}


def test_differences_are_paired_with_the_baselines(spans_found: Detection) -> None:
    table = spans_found.comparisons
    row = table[
        (table["unit"] == "hard_negative")
        & (table["scorer"] == "dense_logistic")
        & (table["baseline"] == "length")
        & (table["indicator"] == INDICATORS[0])
    ]
    expected = auroc_of(spans_found, "dense_logistic", "hard_negative") - auroc_of(
        spans_found, "length", "hard_negative"
    )
    assert row["difference"].item() == pytest.approx(expected)


def test_the_bank_holds_real_probes_only_and_no_test_row_was_fitted_on(
    spans_found: Detection, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("bank")
    spans_found.bank.save(folder)
    bank = ProbeBank.load(folder)
    assert "shuffled_labels" not in {one.scorer for one in bank.sets}
    direction = bank.find("dense_logistic").probe(INDICATORS[0]).raw_direction()
    assert np.argmax(np.abs(direction)) == 0
    test_ids = {f"talk {number}" for number in range(120) if number % 6 in (4, 5)}
    on_spans = spans_found.scores[spans_found.scores["unit"] == "span"]
    assert set(on_spans["transcript_id"]) <= test_ids


def test_the_same_seed_gives_the_same_tables(spans_found: Detection) -> None:
    pd.testing.assert_frame_equal(span_study().table, spans_found.table)


def small_examples() -> SpanExamples:
    return SpanExamples(
        indicators=("a",),
        kinds=np.array([[1], [2]], dtype=np.int8),
        keys=pd.DataFrame({"transcript_id": ["x", "y"], "turn": [1, 1], "span_id": [0, 1]}),
        texts=("a", "b"),
        token_ids=np.array([0, 1]),
        splits=("fit", "fit"),
        acts={"blocks.0.hook_out": np.eye(2, dtype=np.float32)},
    )


def test_a_study_without_test_spans_and_unequal_columns_are_refused() -> None:
    with pytest.raises(DataError, match="2 fit and 0 test spans"):
        detect_spans(small_examples())
    with pytest.raises(ShapeError, match="splits has 1 rows for 2 spans"):
        replace(small_examples(), splits=("fit",))
    with pytest.raises(ConfigError, match="unknown estimator 'svm'"):
        span_study(SpanDetectionConfig(estimators=("svm",), n_boot=10))
    with pytest.raises(LabelError, match="2 of 2 sides"):
        pair_examples(pd.DataFrame(), pd.DataFrame(), [matched_pair(0)], INDICATORS, {})
