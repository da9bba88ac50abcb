import pytest

from mechprobe.errors import DataError, LabelError
from mechprobe.transcripts.transcript import (
    LostSpan,
    Message,
    Span,
    ToolCall,
    Transcript,
    number_turns,
)

MESSAGES = number_turns(
    [
        Message(role="system", content="be good"),
        Message(role="user", content="add 2 and 2"),
        Message(
            role="assistant",
            reasoning="i will hide it.",
            tool_calls=(ToolCall(name="add", arguments='{"a": 2}'), ToolCall(name="stop")),
        ),
        Message(role="tool", content="4", tool_call_id="1"),
        Message(role="assistant", content="5"),
        Message(role="user", content="sure?"),
        Message(role="assistant", content="yes"),
    ]
)


def span(**changes) -> Span:
    bounds = {
        "indicator": "fabrication",
        "message": 2,
        "section": "reasoning",
        "start": 0,
        "end": 6,
    }
    return Span(**(bounds | changes))


def test_turns_count_user_messages_and_tool_steps_share_one():
    transcript = Transcript(id="a", messages=MESSAGES)
    assert [message.turn for message in MESSAGES] == [0, 1, 1, 1, 1, 2, 2]
    assert transcript.turns == (1, 2)
    assert transcript.assistant_messages(1) == (2, 4)


def test_a_tool_calls_text_is_its_name_and_arguments():
    assert MESSAGES[2].text("tool_call") == 'add: {"a": 2}\nstop: '
    transcript = Transcript(id="a", messages=MESSAGES, spans=(span(section="tool_call", end=3),))
    assert transcript.span_text(transcript.spans[0]) == "add"


def test_a_transcript_is_misaligned_if_one_of_its_turns_is():
    for turns, expected in ((frozenset({2}), True), (frozenset(), False), (None, None)):
        transcript = Transcript(id="a", messages=MESSAGES, misaligned_turns=turns)
        assert transcript.is_misaligned is expected


def test_a_turns_own_label_outranks_spans_that_were_found_in_it():
    transcript = Transcript(
        id="a",
        messages=MESSAGES,
        spans=(
            span(match="other_turn"),
            span(present=False, start=7, end=15),
            span(message=6, section="answer", end=3),
        ),
        lost_spans=(LostSpan(indicator="strategic_framing", turn=2, text="gone"),),
        turn_indicators={1: frozenset({"strategic_omission"})},
    )
    assert transcript.indicators(1) == {"strategic_omission"}
    assert transcript.indicators(2) == {"fabrication", "strategic_framing"}
    assert transcript.all_indicators == {"strategic_omission", "fabrication", "strategic_framing"}


@pytest.mark.parametrize(
    "changes",
    [
        {"message": 7},
        {"message": -1},
        {"start": 6},
        {"start": -1},
        {"end": 16},
        {"message": 1, "section": "tool_call"},
    ],
)
def test_a_span_must_stand_in_its_text(changes):
    with pytest.raises(LabelError, match="fabrication"):
        Transcript(id="a", messages=MESSAGES, spans=(span(**changes),))


def test_labels_must_name_turns_with_an_assistant_message():
    with pytest.raises(LabelError, match=r"misaligned_turns names turn 3.*\[1, 2\]"):
        Transcript(id="a", messages=MESSAGES, misaligned_turns=frozenset({3}))
    with pytest.raises(LabelError, match="turn_indicators names turn 0"):
        Transcript(id="a", messages=MESSAGES, turn_indicators={0: frozenset()})


def test_turn_numbers_must_be_the_count_of_user_messages():
    with pytest.raises(DataError, match=r"message 0 .* has turn 3, but 1 user"):
        Transcript(id="a", messages=(Message(role="user", turn=3),))


def test_scores_must_be_finite():
    with pytest.raises(DataError, match="'judge' scores turn 1 as nan"):
        Transcript(id="a", messages=MESSAGES, scores={"judge": {1: float("nan")}})


def test_only_the_assistant_reasons():
    with pytest.raises(DataError, match="only the assistant"):
        Message(role="user", reasoning="hm")
