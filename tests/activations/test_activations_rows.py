"""Spans are found by their characters, whatever else is stored between and around them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechprobe.activations.rows import locate_spans, span_table, span_tokens
from mechprobe.errors import LabelError
from mechprobe.transcripts.transcript import Message, Span, Transcript, number_turns

WORDS = ("plan", "to", "hide", "it", "now")
TEXT = " ".join(WORDS)


def transcript(name: str = "a", spans: tuple[Span, ...] = ()) -> Transcript:
    messages = (
        Message(role="user", content="do it"),
        Message(role="assistant", reasoning=TEXT, content="done"),
    )
    return Transcript(id=name, messages=number_turns(messages), spans=spans)


def span(start: int, end: int, **changes: object) -> Span:
    plain = Span(indicator="hiding", message=1, section="reasoning", start=start, end=end)
    return replace(plain, **changes)


def rendered(conversation: int, name: str) -> pd.DataFrame:
    """One token a word: a user message, a header without text, the reasoning, the answer."""
    starts = np.cumsum([0, *(len(word) + 1 for word in WORDS[:-1])])
    rows = [(0, "answer", 0, 2), (0, "answer", 3, 5), (1, "header", -1, -1)]
    rows += [(1, "reasoning", int(s), int(s) + len(w)) for s, w in zip(starts, WORDS, strict=True)]
    rows += [(1, "answer", 0, 4)]
    frame = pd.DataFrame(rows, columns=["message", "section", "char_start", "char_end"])
    frame["section"] = frame["section"].astype("category")
    return frame.assign(
        conversation=conversation, transcript_id=name, position=np.arange(len(frame))
    )


def test_a_span_gets_the_rows_whose_characters_it_touches():
    both = [transcript("a", (span(5, 12),)), transcript("b", (span(0, 1, present=False),))]
    tokens = pd.concat([rendered(0, "a"), rendered(1, "b")], ignore_index=True)
    table = span_table(tokens, both)
    first, second = table.to_dict("records")
    assert (first["first_row"], first["last_row"], first["after_row"]) == (4, 5, 6)
    assert (first["span_id"], first["turn"], first["present"]) == ("a#0", 1, True)
    assert (second["first_row"], second["last_row"], second["n_tokens"]) == (12, 12, 1)
    assert not second["present"]
    assert span_tokens(table).to_dict("list") == {"row": [4, 5, 12], "span": [0, 0, 1]}


def test_the_row_after_the_end_of_what_is_stored_is_none():
    cases = [transcript("a", (span(16, 19), span(0, 4, section="answer")))]
    tokens = rendered(0, "a")
    assert list(span_table(tokens, cases)["after_row"]) == [8, -1]
    # Without the answer, nothing that is stored follows the reasoning.
    reasoning = tokens[tokens["section"] == "reasoning"].reset_index(drop=True)
    assert list(span_table(reasoning, cases)["after_row"]) == [-1]


def test_spans_without_stored_tokens_are_told_apart():
    cases = [transcript("a", (span(0, 4), span(0, 5, message=0, section="answer"), span(4, 5)))]
    tokens = rendered(0, "a")
    only_reasoning = tokens[tokens["section"] == "reasoning"].reset_index(drop=True)
    rows = locate_spans(only_reasoning, cases)
    assert list(rows.found["span_id"]) == ["a#0"]
    assert list(rows.missing["span_id"]) == ["a#1", "a#2"]


def test_transcripts_without_spans_give_an_empty_table():
    table = span_table(rendered(0, "a"), [transcript()])
    assert len(table) == 0
    assert len(span_tokens(table)) == 0


@pytest.mark.parametrize("given_now", [[transcript("other")], []])
def test_other_transcripts_than_those_captured_are_refused(given_now: list[Transcript]):
    with pytest.raises(LabelError, match="conversation 0 is 'a'"):
        span_table(rendered(0, "a"), given_now)


@given(
    bounds=st.lists(
        st.tuples(st.integers(0, len(TEXT) - 1), st.integers(1, len(TEXT))).filter(
            lambda bound: bound[0] < bound[1]
        ),
        min_size=1,
        max_size=6,
    )
)
def test_rows_agree_with_a_loop_over_tokens(bounds: list[tuple[int, int]]):
    cases = [transcript("a"), transcript("b", tuple(span(*bound) for bound in bounds))]
    tokens = pd.concat([rendered(0, "a"), rendered(1, "b")], ignore_index=True)
    inside = (tokens["conversation"] == 1) & (tokens["section"] == "reasoning")
    wanted: dict[str, tuple[int, int]] = {}
    for index, (start, end) in enumerate(bounds):
        touches = inside & (tokens["char_start"] < end) & (tokens["char_end"] > start)
        if len(rows := np.flatnonzero(touches)):
            wanted[f"b#{index}"] = (int(rows[0]), int(rows[-1]))
    table = span_table(tokens, cases)
    found = zip(table["span_id"], table["first_row"], table["last_row"], strict=True)
    assert {name: (first, last) for name, first, last in found} == wanted
