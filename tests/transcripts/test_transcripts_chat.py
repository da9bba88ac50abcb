import json

import pytest

from mechprobe.errors import DataError, LabelError
from mechprobe.transcripts.labels import LabelReader, parse_truth
from mechprobe.transcripts.readers.chat import chat_from_json, read_chat
from mechprobe.transcripts.readers.content import split_thinking
from mechprobe.transcripts.transcript import LostSpan, ToolCall


def chat(assistant: dict, **fields):
    messages = [{"role": "user", "content": "go"}, {"role": "assistant", **assistant}]
    return {"messages": messages, **fields}


def read(value: dict, **options):
    return chat_from_json(value, LabelReader(**options))


@pytest.mark.parametrize(
    "assistant",
    [
        {"content": "yes", "reasoning": "hm"},
        {"content": "yes", "reasoning_content": "hm"},
        {"content": "yes", "thinking": "hm"},
        {"content": "<think>\nhm\n</think>\n\nyes"},
        {"content": "hm</think>yes"},
        {"content": [{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "yes"}]},
        {
            "content": [
                {"type": "thinking", "thinking": "hm"},
                {"type": "output_text", "text": "yes"},
            ]
        },
        {"content": ["<think>hm</think>", "yes"], "reasoning": "hm"},
    ],
)
def test_reasoning_is_found_wherever_it_is_kept(assistant):
    message = read(chat(assistant)).messages[1]
    assert (message.reasoning, message.content) == ("hm", "yes")


def test_thinking_that_was_cut_off_is_all_reasoning():
    content = split_thinking("<think>never ends")
    assert (content.reasoning, content.text) == ("never ends", "")


def test_several_think_blocks_are_joined_and_the_rest_is_the_answer():
    content = split_thinking("<think>a</think>one <think>b</think>two")
    assert (content.reasoning, content.text) == ("a\nb", "one two")


def test_think_tags_of_others_than_the_assistant_are_their_text():
    value = {"messages": [{"role": "user", "content": "<think>x</think>"}]}
    assert read(value).messages[0].content == "<think>x</think>"


def test_tool_calls_are_read_as_openai_and_as_bloom_write_them():
    openai = {"id": "1", "type": "function", "function": {"name": "ls", "arguments": '{"p": "/"}'}}
    bloom = {"id": "1", "function": "ls", "arguments": {"p": "/"}}
    for call in (openai, bloom):
        messages = read(chat({"content": None, "tool_calls": [call]})).messages
        assert messages[1].tool_calls == (ToolCall(name="ls", arguments='{"p": "/"}', id="1"),)


def test_roles_of_other_names_are_understood():
    roles = ["developer", "user", "assistant", "function"]
    value = {"messages": [{"role": role, "content": role} for role in roles]}
    found = [message.role for message in read(value).messages]
    assert found == ["system", "user", "assistant", "tool"]


def test_labels_of_every_level():
    value = chat(
        {"content": "fine.", "reasoning": "I hide it. I also lie."},
        label="misaligned",
        labels={"1": ["Action Concealment"]},
        spans=[
            {"indicator": "Action Concealment", "text": "i hide it"},
            {"indicator": "fabrication", "text": "lie", "turn": 1, "present": False},
            {"indicator": "fabrication", "message": 1, "section": "answer", "start": 0, "end": 4},
        ],
        group="g",
    )
    transcript = read(value)
    assert transcript.is_misaligned is True
    assert transcript.turn_indicators == {1: frozenset({"action_concealment"})}
    told = {(transcript.span_text(s), s.match, s.present) for s in transcript.spans}
    assert told == {
        ("fine", "given", True),
        ("I hide it", "normalised", True),
        ("lie", "exact", False),
    }
    assert transcript.group == "g"


def test_a_plain_list_of_labels_belongs_to_the_only_turn():
    assert read(chat({}, labels=["fabrication"])).indicators(1) == {"fabrication"}
    two = {"messages": chat({})["messages"] * 2, "labels": ["fabrication"]}
    with pytest.raises(LabelError, match="there are 2 turns; say which turn"):
        read(two)


def test_a_lost_quotation_is_an_error_or_is_kept_as_the_user_wants():
    value = chat({"content": "x"}, spans=[{"indicator": "fabrication", "text": "gone", "turn": 1}])
    with pytest.raises(LabelError, match=r"'gone' of 'fabrication' is not in .* turn 1"):
        read(value)
    lost = read(value, lost="keep").lost_spans
    assert lost == (LostSpan(indicator="fabrication", turn=1, text="gone"),)


def test_nothing_is_left_out_uncounted():
    labels = LabelReader()
    value = chat(
        {"content": [{"type": "image_url", "image_url": {}}], "name": "bot"},
        source="web",
        extra={"a": 1},
    )
    transcript = chat_from_json(value, labels)
    assert transcript.meta == {"source": "web"}
    assert set(labels.left_out) == {
        "content part of type image_url without text",
        "message field name",
        "field extra",
    }


def test_truth_words():
    assert [parse_truth(word) for word in (True, 1, "Deceptive", "1.0")] == [True] * 4
    assert [parse_truth(word) for word in (False, 0, "benign", " no ")] == [False] * 4
    assert [parse_truth(word) for word in (None, "", "nan")] == [None] * 3
    with pytest.raises(LabelError, match="'maybe' is neither"):
        parse_truth("maybe")


@pytest.mark.parametrize(
    ("bad", "error", "says"),
    [
        ({"prompt": "x"}, DataError, "no 'messages' among the fields"),
        ({"messages": [{"role": "bot"}]}, DataError, "message 0: its role is 'bot'"),
        ({"messages": [{"role": "user", "content": 3}]}, DataError, "text or a list of parts"),
        (chat({"tool_calls": [{"id": 1}]}), DataError, "tool call has no name"),
        (chat({}, labels=["fabricaton"]), LabelError, "near names: fabrication"),
        (chat({}, spans=[{"indicator": "fabrication", "text": "no"}]), LabelError, "'no' of"),
        (
            chat(
                {},
                spans=[
                    {
                        "indicator": "fabrication",
                        "message": 1,
                        "section": "answer",
                        "start": 0,
                        "end": 9,
                    }
                ],
            ),
            LabelError,
            "which has 0 characters",
        ),
    ],
)
def test_errors_name_the_line(tmp_path, bad, error, says):
    path = tmp_path / "chat.jsonl"
    path.write_text(f"{json.dumps(chat({'content': 'x'}))}\n{json.dumps(bad)}\n")
    with pytest.raises(error, match=f"line 2: .*{says}"):
        list(read_chat(path, LabelReader()))


def test_ids_default_to_the_line(tmp_path):
    path = tmp_path / "chat.jsonl"
    path.write_text(f"\n{json.dumps(chat({}))}\n{json.dumps(chat({}, id=7))}\n")
    assert [item.id for item in read_chat(path, LabelReader())] == ["line-2", "7"]
