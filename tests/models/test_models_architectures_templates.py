"""Chat templates of well-known families: which characters are whose reasoning, answer, call, header or nobody's."""

import pytest

from mechprobe.errors import ModelError
from mechprobe.models.rendering import Rendering, render
from mechprobe.transcripts.transcript import Message, Transcript, number_turns
from tests.models.expected_talks import (
    DROPPED,
    OF_TALK,
    OF_WITHOUT_SYSTEM,
    TALK,
    WITHOUT_SYSTEM,
)
from tests.models.expected_tool_calls import (
    DROPPED_OF_ONE_CALL,
    DROPPED_OF_TWO_CALLS,
    OF_ONE_CALL,
    OF_TWO_CALLS,
    ONE_CALL,
    TWO_CALLS,
)
from tests.models.family_templates import ALL, WIDE_BAR
from tests.models.segments import dropped, segments
from tests.models.tiny import tiny_tokenizer

TOKENIZER = tiny_tokenizer()


def rendered(transcript: Transcript, family: str) -> Rendering:
    return render(transcript, TOKENIZER, chat_template=ALL[family])


def written(rendering: Rendering, transcript: Transcript) -> str:
    return segments(rendering, transcript, TOKENIZER).replace(WIDE_BAR, "|")


@pytest.mark.parametrize("family", OF_TALK)
def test_reasoning_and_answers_stand_where_the_template_puts_them(family: str):
    rendering = rendered(TALK, family)
    assert written(rendering, TALK) == OF_TALK[family].strip()
    assert dropped(rendering) == DROPPED.get(family, "")


@pytest.mark.parametrize("family", OF_WITHOUT_SYSTEM)
def test_injected_system_turns_belong_to_no_message(family: str):
    rendering = rendered(WITHOUT_SYSTEM, family)
    assert written(rendering, WITHOUT_SYSTEM) == OF_WITHOUT_SYSTEM[family].strip()


@pytest.mark.parametrize("family", OF_ONE_CALL)
def test_tool_calls_and_their_answers_are_told_apart(family: str):
    rendering = rendered(ONE_CALL, family)
    assert written(rendering, ONE_CALL) == OF_ONE_CALL[family].strip()
    assert dropped(rendering) == DROPPED_OF_ONE_CALL.get(family, "")


@pytest.mark.parametrize("family", OF_TWO_CALLS)
def test_calls_of_one_message_and_answers_in_a_row_are_told_apart(family: str):
    rendering = rendered(TWO_CALLS, family)
    assert written(rendering, TWO_CALLS) == OF_TWO_CALLS[family].strip()
    assert dropped(rendering) == DROPPED_OF_TWO_CALLS.get(family, "")


def test_every_family_has_its_expectations():
    assert {*OF_TALK, *OF_WITHOUT_SYSTEM} == set(ALL)


@pytest.mark.parametrize(
    ("family", "messages", "reason"),
    [
        ("Gemma 2", TALK.messages, "System role not supported"),
        ("Gemma 3", [Message(role="user", content="go")] * 2, "Conversation roles must alternate"),
        ("Llama 3.1", TWO_CALLS.messages, "one tool call at a time"),
        ("gpt-oss", ONE_CALL.messages[2:], "a tool message without a call"),
    ],
)
def test_what_a_template_refuses_is_one_clear_error(family: str, messages, reason: str):
    talk = Transcript(id="t", messages=number_turns(messages))
    with pytest.raises(
        ModelError, match=rf'refuses transcript .t. \({reason}\); set chat_template="plain"'
    ):
        rendered(talk, family)


@pytest.mark.parametrize("family", ["Qwen3", "gpt-oss", "DeepSeek-V3.1"])
def test_a_generation_prompt_belongs_to_no_text(family: str):
    """Templates are asked without one; a template that adds one all the same adds scaffold."""
    always = "{% set add_generation_prompt = true %}" + ALL[family]
    rendering = render(WITHOUT_SYSTEM, TOKENIZER, chat_template=always)
    lines = written(rendering, WITHOUT_SYSTEM).splitlines()
    assert (
        lines[-2:]
        == {
            "Qwen3": ["3a so", "3s <|im_end|>⏎<|im_start|>assistant⏎"],
            "gpt-oss": ["3a so", "3s <|end|><|start|>assistant"],
            "DeepSeek-V3.1": ["3a so", "3s <|end▁of▁sentence|><|Assistant|></think>"],
        }[family]
    )
