import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mechprobe.transcripts.locate import WordText, locate
from mechprobe.transcripts.transcript import Message, ToolCall, number_turns

WORDS = st.lists(
    st.sampled_from(["Hide", "the", "ÉTÉ", "straße", "re-run", "x2", "don't"]), min_size=1
)
GAPS = st.sampled_from([" ", "\n", ", ", " **", '" '])


def conversation(*answers: Message):
    messages = [Message(role="system", content="you lurk in the shade")]
    for answer in answers:
        messages += [Message(role="user", content="hide me"), answer]
    return number_turns(messages)


def assistant(reasoning="", content="", **call) -> Message:
    calls = (ToolCall(name="write", arguments=json.dumps(call)),) if call else ()
    return Message(role="assistant", reasoning=reasoning, content=content, tool_calls=calls)


def found(messages, turn, quote):
    place = locate(messages, turn, quote)
    text = messages[place.message].text(place.section)[place.start : place.end]
    return place.message, place.section, text, place.match


@given(st.text(min_size=1, max_size=40), st.data())
def test_any_visible_part_of_the_reasoning_is_found_exactly(text, data):
    start = data.draw(st.integers(0, len(text) - 1))
    quote = text[start : data.draw(st.integers(start + 1, len(text)))]
    assume(quote.strip())
    _, section, marked, match = found(conversation(assistant(reasoning=text)), 1, quote)
    assert (section, marked, match) == ("reasoning", quote, "exact")


@given(st.lists(st.tuples(WORDS, GAPS), min_size=1, max_size=4), st.data())
def test_words_are_found_whatever_stands_between_them(pieces, data):
    words = [word for group, _ in pieces for word in group]
    text = "".join(gap + word for group, gap in pieces for word in group)
    first = data.draw(st.integers(0, len(words) - 1))
    last = data.draw(st.integers(first + 1, len(words)))
    quote = " / ".join(words[first:last]).upper()
    place = locate(conversation(assistant(reasoning=text)), 1, quote)
    assert place is not None
    marked = text[place.start : place.end]
    assert WordText.of(marked).folded == WordText.of(quote).folded
    assert marked[0].isalnum() and marked[-1].isalnum()


def test_reasoning_comes_before_the_answer_and_the_answer_before_the_tool_call():
    messages = conversation(assistant("aa", "aa bb", file="aa bb cc"))
    assert found(messages, 1, "aa")[1] == "reasoning"
    assert found(messages, 1, "bb")[1] == "answer"
    assert found(messages, 1, "cc")[1] == "tool_call"


def test_an_exact_place_comes_before_a_normalised_one():
    messages = conversation(assistant("Hide, it", "hide it"))
    assert found(messages, 1, "hide it") == (2, "answer", "hide it", "exact")
    assert found(messages, 1, "HIDE it") == (2, "reasoning", "Hide, it", "normalised")


def test_the_bounds_are_those_of_the_true_characters():
    messages = conversation(assistant("First: “**omit** the Straße”, then go."))
    quote = "omit the STRASSE"
    assert found(messages, 1, quote)[2:] == ("omit** the Straße", "normalised")


def test_code_in_a_tool_call_is_found_although_json_escapes_it():
    messages = conversation(assistant(code='if user:\n\treturn "ok"\nnext'))
    quote = 'if user:\n    return "ok"\nnext'
    _, section, marked, match = found(messages, 1, quote)
    assert (section, match) == ("tool_call", "normalised")
    assert marked == 'if user:\\n\\treturn \\"ok\\"\\nnext'


def test_words_are_whole():
    assert locate(conversation(assistant("the therapist")), 1, "THE RAPIST") is None


def test_other_turns_are_searched_last_nearest_first_and_told_apart():
    messages = conversation(
        assistant("here"), assistant("mid"), assistant("there"), assistant("here")
    )
    assert found(messages, 2, "here") == (2, "reasoning", "here", "other_turn")
    assert found(messages, 3, "HERE") == (8, "reasoning", "here", "other_turn")
    assert found(messages, None, "there") == (6, "reasoning", "there", "exact")


@pytest.mark.parametrize("quote", ["nowhere", "", "  ", "...", "lurk in the shade", "hide me"])
def test_what_the_assistant_did_not_write_is_found_nowhere(quote):
    assert locate(conversation(assistant("thinking", "saying")), 1, quote) is None
