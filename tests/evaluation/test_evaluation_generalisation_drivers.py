"""Two planted domains: a direction that both share transfers, a word that only one of them uses does not."""

import numpy as np
import pandas as pd
import pytest

from mechprobe.errors import ConfigError
from mechprobe.evaluation.folds import TokenSource
from mechprobe.evaluation.spans.span_examples import SpanExamples
from mechprobe.evaluation.transfers.generalisation import ALL_OTHERS, generalisation_table
from mechprobe.evaluation.transfers.generalisation_spans import generalise_spans
from mechprobe.evaluation.transfers.generalisation_turns import (
    GeneralisationConfig,
    generalise_turns,
)
from mechprobe.evaluation.transfers.transfer import transfer_table
from mechprobe.transcripts.transcript import Message, Span, Transcript, number_turns
from tests.evaluation.planted_conversations import span_table, word_tokens

WORDS = {"sabotage": "delete", "sycophancy": "flatter"}
INDICATORS = ("planning",)
N = 48
"""Transcripts of each behaviour."""
HOOK = "blocks.0.hook_out"
CONFIG = GeneralisationConfig(
    estimators=("dense_logistic",), text_scorers=("length", "tfidf"), n_folds=3, n_boot=100
)


def talk(behavior: str, number: int) -> Transcript:
    """Two turns; in every second transcript the second turn plans, and says its behaviour's word.

    The other behaviour's word stands in half of all turns, whatever they are.
    """
    is_bad = number % 2 == 0
    rng = np.random.default_rng(number)
    first, second = ([f"w{at}" for at in rng.integers(12, size=9)] for _ in range(2))
    other = next(word for name, word in WORDS.items() if name != behavior)
    for words in (first, second):
        words[1] = other if rng.random() < 0.5 else words[1]
    if is_bad:
        second[0] = WORDS[behavior]
    messages = number_turns(
        [
            Message(role="user", content="go on"),
            Message(role="assistant", reasoning=" ".join(first) + " .", content=""),
            Message(role="user", content="go on"),
            Message(role="assistant", reasoning=" ".join(second) + " .", content=""),
        ]
    )
    end = len(messages[3].reasoning)
    span = Span(indicator="planning", message=3, section="reasoning", start=0, end=end)
    return Transcript(
        id=f"{behavior} {number}",
        messages=messages,
        behavior=behavior,
        group=f"{behavior} {number // 2}",
        spans=(span,) if is_bad else (),
        turn_indicators={1: frozenset(), 2: frozenset({"planning"} if is_bad else set[str]())},
        misaligned_turns=frozenset({2} if is_bad else set[int]()),
    )


@pytest.fixture(scope="module")
def world() -> tuple[list[Transcript], pd.DataFrame, pd.DataFrame, TokenSource]:
    """Coordinate 0 rises over every span, whatever the behaviour; coordinate 1 says which behaviour it is."""
    transcripts = [talk(behavior, number) for behavior in WORDS for number in range(N)]
    tokens = word_tokens(transcripts)
    spans = span_table(tokens, transcripts)
    X = np.random.default_rng(0).normal(size=(len(tokens), 32)).astype(np.float32)
    for span in spans.itertuples():
        X[span.first_row : span.last_row + 1, 0] += 3
    X[tokens["conversation"].to_numpy() < N, 1] += 2
    return transcripts, tokens, spans, TokenSource(hook_name=HOOK, acts=lambda rows: X[rows])


@pytest.fixture(scope="module")
def turns(world: tuple[list[Transcript], pd.DataFrame, pd.DataFrame, TokenSource]) -> pd.DataFrame:
    transcripts, tokens, spans, source = world
    cells = generalise_turns(tokens, spans, transcripts, INDICATORS, source, CONFIG)
    assert set(cells) == {"behavior"}
    return generalisation_table(cells["behavior"], "behavior", n_boot=50)


def aurocs(table: pd.DataFrame, scorer: str, unit: str, *, within: bool | None) -> list[float]:
    """Those on the diagonal, off it, or (None) of the row of all others."""
    mine = table[(table["scorer"] == scorer) & (table["unit"] == unit)]
    left_out = mine["trained_on"] == ALL_OTHERS
    same = mine["trained_on"] == mine["tested_on"]
    chosen = left_out if within is None else ~left_out & (same == within)
    return mine.loc[chosen, "auroc"].tolist()


@pytest.mark.parametrize("within", [True, False, None])
def test_the_shared_direction_transfers(turns: pd.DataFrame, within: bool | None) -> None:
    found = aurocs(turns, "dense_logistic", "turn", within=within)
    assert len(found) == 2 and min(found) > 0.95


def test_a_word_of_one_domain_does_not(turns: pd.DataFrame) -> None:
    assert min(aurocs(turns, "tfidf", "turn", within=True)) > 0.95
    # There the word that was learned comes and goes as it likes.
    assert max(aurocs(turns, "tfidf", "turn", within=False)) < 0.75
    assert max(aurocs(turns, "tfidf", "turn", within=None)) < 0.75


def test_controls_and_chance_stand_in_the_same_table(turns: pd.DataFrame) -> None:
    assert set(turns["scorer"]) == {"dense_logistic", "shuffled_labels", "length", "tfidf"}
    assert max(aurocs(turns, "shuffled_labels", "turn", within=False)) < 0.8
    chance = turns.groupby("unit")["chance"].unique()
    assert chance["turn"].tolist() == chance["transcript"].tolist() == [0.5]
    assert 0.5 < chance["mixed"][0] < 1
    hooks = turns.groupby("scorer")["hook_name"].unique()
    assert hooks["tfidf"].tolist() == [""] and hooks["dense_logistic"].tolist() == [HOOK]
    counts = turns[turns["unit"] == "turn"]
    assert (counts["n_pos"] == N // 2).all() and (counts["n_neg"] == 3 * N // 2).all()


def test_the_gain_over_words_is_shown_across_and_not_within(
    world: tuple[list[Transcript], pd.DataFrame, pd.DataFrame, TokenSource],
) -> None:
    transcripts, tokens, spans, source = world
    cells = generalise_turns(tokens, spans, transcripts, INDICATORS, source, CONFIG)["behavior"]
    table = transfer_table(cells, "behavior", ("tfidf",), n_boot=200)
    probe = table[(table["scorer"] == "dense_logistic") & (table["unit"] == "turn")].set_index(
        "cells"
    )
    assert probe.loc["across", "difference_low"] > 0.1
    assert probe.loc["within", "difference_low"] < 0.03


def test_every_indicator_is_asked_where_none_is_named_and_unknown_ones_are_refused(
    world: tuple[list[Transcript], pd.DataFrame, pd.DataFrame, TokenSource],
) -> None:
    transcripts, tokens, spans, source = world
    config = GeneralisationConfig(
        estimators=(),
        text_scorers=("length",),
        indicators=(),
        n_folds=3,
        keys=("behavior", "model"),
    )
    found = generalise_turns(tokens, spans, transcripts, INDICATORS, source, config)
    assert set(found) == {"behavior"}, "all transcripts are of one model"
    assert {cell.indicator for cell in found["behavior"]} == {"planning", "misaligned"}
    assert {cell.unit for cell in found["behavior"] if cell.indicator == "planning"} == {
        "turn",
        "transcript",
    }
    with pytest.raises(ConfigError, match="asks for the indicator 'lying'; there are planning"):
        config = GeneralisationConfig(indicators=("lying",))
        generalise_turns(tokens, spans, transcripts, INDICATORS, source, config)


def span_world(n: int = 40) -> SpanExamples:
    """Spans of two splits: coordinate 0 marks the indicator in both, a word of its own in each."""
    rng = np.random.default_rng(3)
    is_held = np.tile([True, False], n)
    splits = ("natural",) * n + ("longer",) * n
    X = rng.normal(size=(2 * n, 4)).astype(np.float32)
    X[:, 0] += 4 * is_held
    word = {"natural": "delete", "longer": "flatter"}
    texts = tuple(
        f"w{rng.integers(40)} {word[split] if held else f'w{rng.integers(40)}'}"
        for split, held in zip(splits, is_held, strict=True)
    )
    return SpanExamples(
        indicators=INDICATORS,
        kinds=np.where(is_held, 1, 2).astype(np.int8)[:, None],
        keys=pd.DataFrame(
            {"transcript_id": [f"t{at // 2}" for at in range(2 * n)], "turn": 1, "span_id": 0}
        ),
        texts=texts,
        token_ids=np.zeros(2 * n, dtype=np.int64),
        splits=splits,
        acts={HOOK: X},
    )


def test_spans_of_one_split_are_tested_on_those_of_another() -> None:
    table = generalisation_table(generalise_spans(span_world(), CONFIG), "split", n_boot=50)
    assert set(table["unit"]) == {"span", "hard_negative"}
    assert set(table["trained_on"]) == {"natural", "longer", ALL_OTHERS}
    for within in (True, False):
        assert min(aurocs(table, "dense_logistic", "hard_negative", within=within)) > 0.95
    assert min(aurocs(table, "tfidf", "hard_negative", within=True)) == 1.0
    assert max(aurocs(table, "tfidf", "hard_negative", within=False)) < 0.75
