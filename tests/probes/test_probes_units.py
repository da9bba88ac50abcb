"""Which rows are positive, how token scores become turn scores, and thresholds: facts on small texts."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from mechprobe.errors import ConfigError, LabelError, ShapeError, StoreError
from mechprobe.probes.labels.examples import (
    HARD_NEGATIVE,
    MISALIGNED,
    NOT_USED,
    OTHER,
    SPAN,
    span_coverage,
    span_last_tokens,
)
from mechprobe.probes.labels.token_labels import label_tokens
from mechprobe.probes.scoring.aggregation import Pooling, plan_pooling, pool
from mechprobe.probes.scoring.thresholds import negatives_to_certify, threshold_at
from mechprobe.transcripts.transcript import Message, Span, Transcript, number_turns


def talk(*turns: tuple[str, str], **labels: object) -> Transcript:
    """A conversation of (reasoning, answer) turns."""
    messages: list[Message] = []
    for reasoning, answer in turns:
        messages += [
            Message(role="user", content="go on ."),
            Message(role="assistant", reasoning=reasoning, content=answer),
        ]
    given = {"id": "talk", **labels}
    return Transcript(messages=number_turns(messages), **given)  # type: ignore[arg-type]


def word_tokens(*transcripts: Transcript) -> pd.DataFrame:
    """A token table with one token for each word of every message."""
    rows = [
        {
            "conversation": conversation,
            "message": index,
            "turn": message.turn,
            "role": message.role,
            "section": section,
            "char_start": word.start(),
            "char_end": word.end(),
        }
        for conversation, transcript in enumerate(transcripts)
        for index, message in enumerate(transcript.messages)
        for section in ("reasoning", "answer")
        for word in re.finditer(r"\S+", message.text(section))
    ]
    return pd.DataFrame(rows)


def span_rows(*spans: tuple[str, bool, int, int]) -> pd.DataFrame:
    """A span table: indicator, present, first and last row, all in conversation 0."""
    table = pd.DataFrame(spans, columns=["indicator", "present", "first_row", "last_row"])
    return table.assign(conversation=0)


LONG = "one two three four five six ."


def test_a_turn_scores_its_highest_sentence_mean_and_a_transcript_its_highest_turn() -> None:
    transcript = talk((f"{LONG} {LONG}", "yes"), ("no", "no"))
    tokens = word_tokens(transcript)
    pooling = plan_pooling(tokens, [transcript])
    assert pooling.turns["turn"].tolist() == [1, 2]
    # Turn 1: two sentences count and "yes" is too short. Turn 2 has no long sentence: it is one of two tokens.
    assert pooling.sentence_lengths.tolist() == [7, 7, 2]
    scores = np.r_[np.full(7, 1.0), np.full(7, 3.0), 2.0, 8.0][:, None].astype(np.float32)
    pooled = pool(scores, pooling)
    assert pooled.sentence.ravel().tolist() == [1.0, 3.0, 5.0]
    assert pooled.turn.ravel().tolist() == [3.0, 5.0]
    assert pooled.transcript.ravel().tolist() == [5.0]


def test_user_tokens_do_not_count() -> None:
    transcript = talk((LONG, LONG))
    tokens = word_tokens(transcript)
    rows = plan_pooling(tokens, [transcript]).rows
    assert (tokens["role"].iloc[rows] == "assistant").all() and len(rows) == 14


def naive_pool(scores: np.ndarray, pooling: Pooling) -> tuple[list[float], list[float]]:
    sentences = iter(np.split(scores, np.cumsum(pooling.sentence_lengths)[:-1]))
    turns = [max(next(sentences).mean() for _ in range(n)) for n in pooling.turn_lengths]
    remaining = iter(turns)
    return turns, [max(next(remaining) for _ in range(n)) for n in pooling.transcript_lengths]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_segment_reductions_equal_the_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = [rng.integers(1, 5, size=n) for n in (40, 15, 6)]
    transcript_lengths = lengths[2]
    turn_lengths = lengths[1][:1].repeat(transcript_lengths.sum())
    sentence_lengths = rng.integers(1, 5, size=turn_lengths.sum())
    pooling = Pooling(
        rows=np.arange(sentence_lengths.sum()),
        sentence_lengths=sentence_lengths,
        turn_lengths=turn_lengths,
        transcript_lengths=transcript_lengths,
        turns=pd.DataFrame(
            {
                "conversation": np.repeat(np.arange(6), transcript_lengths),
                "turn": np.arange(transcript_lengths.sum()),
            }
        ),
    )
    scores = rng.normal(size=(len(pooling.rows), 2))
    pooled = pool(scores, pooling)
    for at in range(2):
        turns, transcripts = naive_pool(scores[:, at], pooling)
        np.testing.assert_allclose(pooled.turn[:, at], turns)
        np.testing.assert_allclose(pooled.transcript[:, at], transcripts)
    chosen = rng.random(6) < 0.5
    part = pooling.take(chosen)
    kept = np.isin(pooling.turns["conversation"], np.flatnonzero(chosen))
    if chosen.any():
        np.testing.assert_allclose(pool(scores[part.rows], part).turn, pooled.turn[kept])


def test_scores_of_other_rows_and_torn_conversations_are_refused() -> None:
    transcript = talk((LONG, LONG))
    tokens = word_tokens(transcript)
    pooling = plan_pooling(tokens, [transcript])
    with pytest.raises(ShapeError, match="3 scored rows for 14 rows"):
        pool(np.zeros((3, 1)), pooling)
    both = word_tokens(transcript, talk((LONG, LONG)))
    torn = pd.concat([both, both[both["conversation"] == 0]], ignore_index=True)
    with pytest.raises(StoreError, match="do not stand together"):
        plan_pooling(torn, [transcript, transcript])


def test_the_last_token_of_a_span_is_its_own_kind_and_other_for_the_rest() -> None:
    spans = span_rows(("a", True, 0, 3), ("b", False, 5, 8), ("a", True, 7, 9))
    labelled = span_last_tokens(spans, ["a", "b", "c"], n_tokens=12)
    assert labelled.rows.tolist() == [3, 8, 9]
    assert labelled.kinds.tolist() == [
        [SPAN, OTHER, OTHER],
        [NOT_USED, HARD_NEGATIVE, OTHER],  # row 8 also lies in a span of "a"
        [SPAN, OTHER, OTHER],
    ]
    assert labelled.labels.tolist() == [[1, 0, 0], [-1, 0, 0], [1, 0, 0]]


def test_the_rest_of_a_positive_turn_is_left_out_and_other_turns_are_negative() -> None:
    transcript = talk(
        (LONG, "yes"),
        (LONG, "no"),
        spans=(Span(indicator="a", message=1, section="reasoning", start=0, end=7),),
        turn_indicators={1: frozenset({"a"}), 2: frozenset({"b"})},
    )
    tokens = word_tokens(transcript)
    first = int(np.flatnonzero(tokens["role"] == "assistant")[0])
    labelled = label_tokens(
        tokens, span_rows(("a", True, first, first + 1)), [transcript], ["a", "b"]
    )
    assert labelled.indicators == ("a", "b", MISALIGNED)
    turn = tokens["turn"].to_numpy()[labelled.rows]
    of_a, of_b, of_any = labelled.kinds.T
    assert of_a[turn == 1].tolist() == [SPAN] * 2 + [NOT_USED] * 6
    assert (of_a[turn == 2] == OTHER).all()
    # "b" is somewhere in turn 2, no one knows where.
    assert (of_b[turn == 1] == OTHER).all() and (of_b[turn == 2] == NOT_USED).all()
    assert of_any.tolist() == [SPAN] * 2 + [NOT_USED] * 14


def test_excluded_and_unlabelled_transcripts_are_not_fitted_on() -> None:
    clean = {"turn_indicators": {1: frozenset[str]()}}
    transcripts = [
        talk((LONG, "yes"), **clean),
        talk((LONG, "yes")),
        talk((LONG, "a"), excluded=True, **clean),
    ]
    labelled = label_tokens(word_tokens(*transcripts), span_rows(), transcripts, ["a"])
    assert set(labelled.conversation.tolist()) == {0}
    assert (labelled.labels == 0).all()


def test_negatives_are_capped_for_each_transcript_by_the_seed() -> None:
    clean = {"turn_indicators": {1: frozenset[str]()}}
    transcripts = [talk((LONG, "yes"), **clean), talk((LONG, LONG), **clean)]
    tokens = word_tokens(*transcripts)
    drawn = [
        label_tokens(tokens, span_rows(), transcripts, ["a"], max_negatives=3, seed=seed)
        for seed in (1, 1, 2)
    ]
    assert np.bincount(drawn[0].conversation).tolist() == [3, 3]
    assert drawn[0].rows.tolist() == drawn[1].rows.tolist() != drawn[2].rows.tolist()


def test_a_span_wins_over_a_hard_negative_and_unknown_indicators_are_refused() -> None:
    spans = span_rows(("a", False, 0, 4), ("a", True, 2, 2))
    coverage = span_coverage(spans, ["a"], 6)[:, 0]
    assert coverage.tolist() == [HARD_NEGATIVE] * 2 + [SPAN] + [HARD_NEGATIVE] * 2 + [NOT_USED]
    with pytest.raises(LabelError, match="indicator 'a', which is not asked for"):
        span_coverage(spans, ["b"], 6)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 5), min_size=20, max_size=80), st.sampled_from([0.05, 0.1, 0.3]))
def test_a_threshold_holds_its_rate_and_the_next_lower_score_would_not(
    scores: list[int], target: float
) -> None:
    negatives = np.array(scores, dtype=np.float64)
    threshold = threshold_at(negatives, target)
    assert threshold.fpr == (negatives > threshold.value).mean() <= target
    below = negatives[negatives < threshold.value]
    assert not len(below) or (negatives > below.max()).mean() > target
    n_fired = int((negatives > threshold.value).sum())
    exact = binomtest(n_fired, len(negatives)).proportion_ci(0.9, "exact").high
    assert threshold.fpr_upper == pytest.approx(exact)
    assert not threshold.holds or threshold.fpr_upper <= target


def test_too_few_negatives_are_refused_with_how_many_it_takes() -> None:
    with pytest.raises(LabelError, match=r"99 negatives .* at least 100 \(299 to certify"):
        threshold_at(np.zeros(99), 0.01)
    with pytest.raises(ConfigError, match="it must be > 0 and < 1"):
        threshold_at(np.zeros(99), 1.5)
    assert threshold_at(np.zeros(negatives_to_certify(0.01)), 0.01).holds
    assert not threshold_at(np.zeros(negatives_to_certify(0.01) - 1), 0.01).holds
