"""Texts that a chat template could trip over: whatever it does, a labelled token holds what its label says."""

from pathlib import Path

import numpy as np
import pytest

from mechprobe.activations.capture import capture
from mechprobe.errors import ModelError
from mechprobe.models.loading import quiet_vendors
from mechprobe.models.rendering import SECTIONS, render
from mechprobe.models.subject import Subject
from mechprobe.transcripts.transcript import Message, Span, ToolCall, Transcript, number_turns
from tests.models.awkward_texts import CASES, SPACEMAN, conversation, covered, whole_or_dropped
from tests.models.families import FAMILIES
from tests.models.family_templates import ALL
from tests.models.segments import dropped, segments
from tests.models.tiny import tiny_tokenizer

TOKENIZER = tiny_tokenizer()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("family", ALL)
def test_each_text_is_labelled_whole_or_dropped_whole(family: str, case: str):
    talk = conversation(*CASES[case])
    rendering = render(talk, TOKENIZER, chat_template=ALL[family])
    assert whole_or_dropped(rendering, talk, TOKENIZER)


@pytest.mark.parametrize("family", ["Qwen3", "DeepSeek-R1", "DeepSeek-V3.1", "GLM-4.5", "gpt-oss"])
@pytest.mark.parametrize("case", ["closing tag", "both tags"])
def test_dropped_reasoning_leaves_nothing_behind(family: str, case: str):
    """DeepSeek-V3.1 cuts at the first closing tag, which would let the rest of the reasoning stand in the answer."""
    rendering = render(conversation(*CASES[case]), TOKENIZER, chat_template=ALL[family])
    is_always = family.startswith("DeepSeek")
    assert dropped(rendering) == ("1r 3r" if is_always else "1r")
    assert rendering.text.count("alpha") == (0 if is_always else 1)
    assert rendering.text.count("beta") == (0 if is_always else 1)


@pytest.mark.parametrize("family", ["Qwen3", "GLM-4.5"])
@pytest.mark.parametrize(
    ("case", "lost"), [("closing tag in the answer", "1r"), ("a closing tag without reasoning", "")]
)
def test_an_answer_that_names_the_closing_tag_is_kept(family: str, case: str, lost: str):
    """Both cut such an answer where no reasoning is given, so that empty reasoning is given instead."""
    talk = conversation(*CASES[case])
    rendering = render(talk, TOKENIZER, chat_template=ALL[family])
    assert dropped(rendering) == lost
    labelled = covered(rendering, talk, TOKENIZER)
    assert labelled[1, "answer"].strip() == labelled[3, "answer"].strip() == CASES[case][1]


@pytest.mark.parametrize("family", ALL)
def test_a_character_of_many_tokens_is_found_by_all_of_them(family: str):
    reasoning, answer = CASES["other scripts"]
    talk = conversation(reasoning, answer)
    rendering = render(talk, TOKENIZER, chat_template=ALL[family])
    for section, text in (("reasoning", reasoning), ("answer", answer)):
        if "3r" in dropped(rendering).split() and section == "reasoning":
            continue
        start = text.index(SPACEMAN)
        span = Span(
            indicator="x", message=3, section=section, start=start, end=start + len(SPACEMAN)
        )
        tokens = rendering.tokens_of(span)
        assert len(tokens) == 11
        assert TOKENIZER.decode(rendering.token_ids[tokens]) == SPACEMAN


def test_lines_that_the_template_strips_are_no_tokens():
    talk = conversation(*CASES["outer lines"])
    rendering = render(talk, TOKENIZER, chat_template=ALL["Qwen3"])
    assert segments(rendering, talk, TOKENIZER).splitlines()[4:] == [
        # An earlier answer is written as it is, the last one without its first lines.
        "1a ⏎⏎ gamma⏎",
        "1s <|im_end|>⏎",
        "2h <|im_start|>user⏎",
        "2a go",
        "2s <|im_end|>⏎",
        "3h <|im_start|>assistant⏎",
        "3s <think>⏎",
        "3r alpha⏎ beta",
        "3s ⏎</think>⏎⏎",
        "3a  gamma⏎",
        "3s <|im_end|>⏎",
    ]
    inside = rendering.section == SECTIONS.index("reasoning")
    assert rendering.char_start[inside][0] == 2
    assert rendering.char_end[inside][-1] == len("\n\nalpha\n beta")


@pytest.mark.parametrize("family", ALL)
def test_messages_that_repeat_keep_their_places(family: str):
    turn = [
        Message(role="user", content="go"),
        Message(role="assistant", reasoning="go", content="go"),
    ]
    talk = Transcript(id="t", messages=number_turns(turn * 3))
    rendering = render(talk, TOKENIZER, chat_template=ALL[family])
    lost = dropped(rendering).split()
    texts = [
        f"{i}{s} go" for i in range(6) for s in ("ra" if i % 2 else "a") if f"{i}{s}" not in lost
    ]
    lines = segments(rendering, talk, TOKENIZER).splitlines()
    assert [line for line in lines if line[1] in "ra"] == texts
    assert (np.diff(rendering.message[rendering.message >= 0]) >= 0).all()


def test_an_empty_think_block_is_scaffold():
    talk = conversation(*CASES["blank reasoning"])
    for family, line in {
        "Qwen3": "3s <think>⏎⏎</think>⏎⏎",
        "GLM-4.5": "3s <think></think>⏎",
    }.items():
        rendering = render(talk, TOKENIZER, chat_template=ALL[family])
        assert line in segments(rendering, talk, TOKENIZER).splitlines()
        assert not rendering.dropped


@pytest.mark.parametrize("family", ["Mistral", "gpt-oss"])
def test_what_a_template_insists_on_for_tool_calls_is_given_only_then(family: str):
    """Ids of nine characters are kept, and content beside a call where there is no reasoning."""
    call = ToolCall(name="send", arguments='{"to": "bob"}', id="abc123def")
    talk = Transcript(
        id="t",
        messages=number_turns(
            [
                Message(role="user", content="go"),
                Message(role="assistant", content="now", tool_calls=(call,)),
                Message(role="tool", content="sent", tool_call_id="abc123def"),
            ]
        ),
    )
    rendering = render(talk, TOKENIZER, chat_template=ALL[family])
    assert not rendering.dropped
    assert ("abc123def" in rendering.text) == (family == "Mistral")


def test_a_model_without_a_chat_template_is_one_clear_error(tmp_path: Path):
    folder = tmp_path / "gpt2"
    with quiet_vendors():
        tiny_tokenizer().save_pretrained(folder)
        FAMILIES["GPT-2"].build().save_pretrained(folder)
    subject, talk = Subject.load(folder), conversation("alpha", "beta")
    with pytest.raises(ModelError, match='has no chat template; set chat_template="plain", or the'):
        capture([talk], subject, ["blocks.0.hook_out"], tmp_path / "store")
    plain = Subject.load(folder, chat_template="plain")
    assert covered(plain.render(talk), talk, TOKENIZER)[3, "reasoning"] == "alpha"
