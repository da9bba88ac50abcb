"""Pooling by the paper's rule against a plain rewriting of it, and several views from one scoring."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mechprobe.errors import ConfigError, ShapeError
from mechprobe.probes.scoring.aggregation import (
    PAPER_POOLING,
    VIEWS,
    PoolingRule,
    plan_pooling,
    plan_views,
    pool,
    pool_views,
)
from mechprobe.transcripts.transcript import Message, Transcript, number_turns


def conversation(*turns: tuple[str, str]) -> Transcript:
    messages: list[Message] = []
    for reasoning, answer in turns:
        messages += [
            Message(role="user", content="go on ."),
            Message(role="assistant", reasoning=reasoning, content=answer),
        ]
    return Transcript(id="t", messages=number_turns(messages))


def piece_tokens(transcript: Transcript, width: int = 3) -> pd.DataFrame:
    """A token for every three characters, so that tokens lie across the ends of sentences."""
    return pd.DataFrame(
        [
            {
                "conversation": 0,
                "message": index,
                "turn": message.turn,
                "role": message.role,
                "section": section,
                "char_start": start,
                "char_end": min(start + width, len(message.text(section))),
            }
            for index, message in enumerate(transcript.messages)
            for section in ("reasoning", "answer")
            for start in range(0, len(message.text(section)), width)
        ]
    )


def papers_turn_score(text: str, bounds: list[tuple[int, int]], scores: np.ndarray) -> float:
    """As the authors do it: split, give tokens to sentences by their middles, drop the short, take the top mean."""
    pieces, at = [], 0
    for piece in re.split(r"((?<=[.!?])\s+|\n+)", text):
        if piece.strip():
            pieces.append((at, at + len(piece), piece))
        at += len(piece)
    middles = np.array([(start + end) / 2 for start, end in bounds])
    means = [
        scores[(middles >= start) & (middles <= end)].mean()
        for start, end, piece in pieces
        if len(piece.split()) >= 5 and ((middles >= start) & (middles <= end)).any()
    ]
    return float(max(means)) if means else float(scores.mean())


WORDS = st.lists(
    st.sampled_from(
        ["so", "they", "will", "not", "see", "it", "yes.", "no!", "now?\n", "end.\n\n"]
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=4), st.integers(0, 9999))
def test_the_papers_rule_is_what_a_plain_rewriting_of_it_gives(
    turns: list[list[str]], seed: int
) -> None:
    texts = [" ".join(words).strip() for words in turns]
    transcript = conversation(*[("", text) for text in texts])
    tokens = piece_tokens(transcript)
    pooling = plan_pooling(tokens, [transcript], min_words=PAPER_POOLING.min_words)
    scores = np.random.default_rng(seed).normal(size=len(tokens))
    pooled = pool(
        scores[pooling.rows][:, None],
        pooling,
        tokens=PAPER_POOLING.tokens,
        sentences=PAPER_POOLING.sentences,
    )
    expected = []
    for turn, text in enumerate(texts, start=1):
        here = tokens[(tokens["turn"] == turn) & (tokens["role"] == "assistant")]
        bounds = list(zip(here["char_start"], here["char_end"], strict=True))
        expected.append(papers_turn_score(text, bounds, scores[here.index]))
    assert pooled.turn[:, 0] == pytest.approx(expected)


LONG = "one two three four five ."


def test_views_pool_the_same_token_scores_each_by_its_own_sentences() -> None:
    # Turn 1 thinks long and answers short; turn 2 does not think.
    transcript = conversation((LONG, "yes no"), ("", LONG))
    tokens = piece_tokens(transcript, width=1)
    plan = plan_views(tokens, [transcript])
    value = {"reasoning": 1.0, "answer": 5.0}
    scores = tokens["section"].map(value).to_numpy()[plan.rows][:, None]
    pooled = pool_views(scores, plan, PAPER_POOLING)
    turns = {name: pooling.turns["turn"].tolist() for name, pooling in plan.views.items()}
    assert turns == {"full": [1, 2], "reasoning": [1], "answer": [1, 2]}
    # "yes no" is too short to count in the full text, and all there is in the answer.
    assert pooled["full"].turn.ravel().tolist() == [1.0, 5.0]
    assert pooled["reasoning"].turn.ravel().tolist() == [1.0]
    assert pooled["answer"].turn.ravel().tolist() == [5.0, 5.0]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 9999))
def test_a_view_of_many_is_the_pooling_of_its_sections_alone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    words = np.array(["a", "b.", "c", "d?\n", "e", "f"])
    texts = [" ".join(rng.choice(words, size=rng.integers(0, 30))).strip() for _ in range(6)]
    transcript = conversation(*zip(texts[::2], texts[1::2], strict=True))
    tokens = piece_tokens(transcript)
    scores = rng.normal(size=(len(tokens), 3))
    plan = plan_views(tokens, [transcript])
    pooled = pool_views(scores[plan.rows], plan, PAPER_POOLING)
    for name, sections in VIEWS.items():
        alone = plan_pooling(tokens, [transcript], sections=sections)
        assert (pool(scores[alone.rows], alone).turn == pooled[name].turn).all()
    chosen = plan.take(np.array([False]))
    assert not len(chosen.rows) and not len(chosen.views["full"].turns)


def test_reductions_are_what_they_say() -> None:
    transcript = conversation(("", f"{LONG} {LONG}"))
    tokens = piece_tokens(transcript, width=1)
    pooling = plan_pooling(tokens, [transcript])
    scores = np.arange(len(pooling.rows), dtype=np.float64)[:, None]
    half = len(scores) // 2
    means = [scores[:half].mean(), scores[half:].mean()]
    assert pooling.sentence_lengths.tolist() == [half, half]
    for tokens_by, sentences_by, expected in (
        ("mean", "mean", np.mean(means)),
        ("max", "max", len(scores) - 1),
        ("max", "mean", (half - 1 + len(scores) - 1) / 2),
    ):
        pooled = pool(scores, pooling, tokens=tokens_by, sentences=sentences_by)
        assert pooled.turn.item() == pytest.approx(expected)


def test_scores_of_other_rows_and_negative_word_counts_are_refused() -> None:
    transcript = conversation((LONG, "yes"))
    plan = plan_views(piece_tokens(transcript), [transcript])
    with pytest.raises(ShapeError, match="2 scored rows for"):
        pool_views(np.zeros((2, 1)), plan, PAPER_POOLING)
    with pytest.raises(ConfigError, match="min_words is -1"):
        PoolingRule(min_words=-1)
