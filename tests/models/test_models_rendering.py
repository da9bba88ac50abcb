"""Every token knows where it stands in the conversation, whatever the chat template does to it."""

import json
import re
from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mechprobe.errors import ConfigError, LabelError, ModelError
from mechprobe.models.rendering import (
    ROLES,
    SECTIONS,
    TOKEN_COLUMNS,
    Rendering,
    render,
    token_table,
)
from mechprobe.models.templates import PLAIN_TEMPLATE, read_chat_template
from mechprobe.transcripts.transcript import Message, Span, ToolCall, Transcript, number_turns
from tests.models import chat_templates
from tests.models.tiny import CHAT_TEMPLATE, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
TEMPLATES = chat_templates.ALL | {"plain": PLAIN_TEMPLATE, "tiny": CHAT_TEMPLATE}


def transcript(*messages: Message, spans: tuple[Span, ...] = ()) -> Transcript:
    return Transcript(id="t", messages=number_turns(messages), spans=spans)


TWO_TURNS = transcript(
    Message(role="user", content="hide it"),
    Message(role="assistant", reasoning="plan one", content="done"),
    Message(role="user", content="why"),
    Message(role="assistant", reasoning="plan two", content="so"),
)
WITH_SYSTEM = transcript(
    Message(role="system", content=" be good\n"),
    Message(role="user", content=" hide it "),
    Message(role="assistant", reasoning="\nplan\n", content="\ndone "),
)
WITH_TOOLS = transcript(
    Message(role="user", content="go"),
    Message(
        role="assistant",
        reasoning="plan",
        content="now",
        tool_calls=(
            ToolCall(name="send", arguments='{"to":"a \\"b\\"\\nc","n":  5}', id="c1"),
            ToolCall(name="stop", arguments="{}"),
        ),
    ),
    Message(role="tool", content="sent", tool_call_id="c1"),
    Message(role="assistant", content="done"),
)


def rendered(transcript: Transcript, name: str, **options) -> Rendering:
    return render(transcript, TOKENIZER, chat_template=TEMPLATES[name], **options)


def fragments(rendering: Rendering) -> list[tuple[int, str, str, str]]:
    """Neighbouring tokens of one message and section, as text."""
    keys = [
        (int(m), ROLES[r], SECTIONS[s])
        for m, r, s in zip(rendering.message, rendering.role, rendering.section, strict=True)
    ]
    numbered = groupby(range(len(keys)), key=lambda i: keys[i])
    return [(*key, TOKENIZER.decode(rendering.token_ids[list(group)])) for key, group in numbered]


def test_a_template_that_drops_old_reasoning_and_says_nothing_else():
    rendering = rendered(TWO_TURNS, "qwen3")
    assert fragments(rendering) == [
        (0, "user", "header", "<|im_start|>user\n"),
        (0, "user", "answer", "hide it"),
        (0, "user", "scaffold", "<|im_end|>\n"),
        (1, "assistant", "header", "<|im_start|>assistant\n"),
        (1, "assistant", "answer", "done"),
        (1, "assistant", "scaffold", "<|im_end|>\n"),
        (2, "user", "header", "<|im_start|>user\n"),
        (2, "user", "answer", "why"),
        (2, "user", "scaffold", "<|im_end|>\n"),
        (3, "assistant", "header", "<|im_start|>assistant\n"),
        (3, "assistant", "scaffold", "<think>\n"),
        (3, "assistant", "reasoning", "plan two"),
        (3, "assistant", "scaffold", "\n</think>\n\n"),
        (3, "assistant", "answer", "so"),
        (3, "assistant", "scaffold", "<|im_end|>\n"),
    ]
    assert [(d.message, d.section) for d in rendering.dropped] == [(1, "reasoning")]
    assert sorted(set(rendering.turn.tolist())) == [1, 2]


def test_a_system_turn_of_the_templates_own_belongs_to_no_message():
    assert fragments(rendered(TWO_TURNS, "chatml"))[:6] == [
        (-1, "none", "scaffold", "<|im_start|>system\nYou help.<|im_end|>\n"),
        (0, "user", "header", "<|im_start|>user\n"),
        (0, "user", "answer", "hide it"),
        (0, "user", "scaffold", "<|im_end|>\n"),
        (1, "assistant", "header", "<|im_start|>assistant\n"),
        (1, "assistant", "scaffold", "<think>\n"),
    ]


def test_trimmed_texts_start_where_they_are_rendered():
    rendering = rendered(WITH_SYSTEM, "llama3")
    assert fragments(rendering) == [
        (-1, "none", "scaffold", "<s>"),
        (0, "system", "header", "<|start_header_id|>system<|end_header_id|>\n\n"),
        (0, "system", "answer", "be good"),
        (0, "system", "scaffold", "<|eot_id|>"),
        (1, "user", "header", "<|start_header_id|>user<|end_header_id|>\n\n"),
        (1, "user", "answer", "hide it"),
        (1, "user", "scaffold", "<|eot_id|>"),
        (2, "assistant", "header", "<|start_header_id|>assistant<|end_header_id|>\n\n"),
        (2, "assistant", "scaffold", "<think>\n"),
        (2, "assistant", "reasoning", "\nplan\n"),
        (2, "assistant", "scaffold", "\n</think>\n\n"),
        (2, "assistant", "answer", "\ndone"),
        (2, "assistant", "scaffold", "<|eot_id|>"),
    ]
    first = np.flatnonzero((rendering.message == 0) & (rendering.char_start >= 0))[0]
    assert rendering.char_start[first] == 1


def test_a_system_text_in_the_first_user_turn_stays_the_systems():
    assert fragments(rendered(WITH_SYSTEM, "gemma")) == [
        (-1, "none", "scaffold", "<s>"),
        (0, "system", "header", "<start_of_turn>user\n"),
        (0, "system", "answer", " be good\n"),
        (0, "system", "scaffold", "\n\n"),
        (1, "user", "answer", "hide it"),
        (1, "user", "scaffold", "<end_of_turn>\n"),
        (2, "assistant", "header", "<start_of_turn>model\n"),
        (2, "assistant", "scaffold", "<think>\n"),
        (2, "assistant", "reasoning", "\nplan\n"),
        (2, "assistant", "scaffold", "\n</think>\n\n"),
        (2, "assistant", "answer", "\ndone"),
        (2, "assistant", "scaffold", "<end_of_turn>\n"),
    ]


def test_thinking_that_is_cut_out_of_the_content_is_dropped():
    rendering = rendered(TWO_TURNS, "deepseek")
    assert fragments(rendering)[:5] == [
        (-1, "none", "scaffold", "<s>"),
        (0, "user", "header", "<|User|>"),
        (0, "user", "answer", "hide it"),
        (1, "assistant", "header", "<|Assistant|>"),
        (1, "assistant", "answer", "done"),
    ]
    assert [(d.message, d.section) for d in rendering.dropped] == [
        (1, "reasoning"),
        (3, "reasoning"),
    ]


def test_turns_that_nothing_closes():
    assert fragments(rendered(TWO_TURNS, "glm4")) == [
        (-1, "none", "scaffold", "[gMASK]<sop>"),
        (0, "user", "header", "<|user|>\n"),
        (0, "user", "answer", "hide it"),
        (1, "assistant", "header", "<|assistant|>\n"),
        (1, "assistant", "scaffold", "<think></think>\n"),
        (1, "assistant", "answer", "done"),
        (2, "user", "header", "<|user|>\n"),
        (2, "user", "answer", "why"),
        (3, "assistant", "header", "<|assistant|>\n"),
        (3, "assistant", "scaffold", "<think>"),
        (3, "assistant", "reasoning", "plan two"),
        (3, "assistant", "scaffold", "</think>\n"),
        (3, "assistant", "answer", "so"),
    ]


def test_the_plain_template_needs_nothing_of_the_model():
    rendering = rendered(TWO_TURNS, "plain")
    assert rendering.text == (
        "<s>user: hide it\nassistant: <think> plan one </think> done\n"
        "user: why\nassistant: <think> plan two </think> so\n"
    )
    assert not rendering.dropped
    assert [f[3] for f in fragments(rendering) if f[2] == "reasoning"] == [" plan one", " plan two"]


@pytest.mark.parametrize("name", ["chatml", "qwen3", "deepseek", "glm4", "llama3", "plain"])
def test_tool_calls_are_traced_to_their_strings(name: str):
    rendering = rendered(WITH_TOOLS, name)
    text = WITH_TOOLS.messages[1].text("tool_call")
    for wanted, shown in {
        "send": ("send",),
        "to": ("to",),
        'a \\"b\\"\\nc': ('a "b"\nc', 'a \\"b\\"\\nc'),
        "5": ("5",),
        "stop": ("stop",),
    }.items():
        start = text.index(wanted)
        span = Span(
            indicator="x", message=1, section="tool_call", start=start, end=start + len(wanted)
        )
        found = TOKENIZER.decode(rendering.token_ids[rendering.tokens_of(span)])
        assert any(option in found for option in shown), (wanted, found)
        assert len(found) <= len(wanted) + 40
    where = [(f[0], f[1], f[2]) for f in fragments(rendering)]
    role = "tool"
    assert (2, role, "answer") in where
    assert (3, "assistant", "answer") in where
    assert not [d for d in rendering.dropped if d.section != "reasoning"]


def test_user_texts_that_the_template_looks_into_are_found():
    """Qwen3's template takes a user text that starts with a tool's answer for no user text."""
    for text in ("<tool_response>\nok\n</tool_response>", "<tool_response>" + "so much " * 20):
        talk = transcript(
            Message(role="user", content="go"),
            Message(role="assistant", reasoning="plan", content="done"),
            Message(role="user", content=text),
            Message(role="assistant", content="so"),
        )
        rendering = rendered(talk, "qwen3")
        assert not rendering.dropped
        assert [f[3] for f in fragments(rendering) if f[:3] == (2, "user", "answer")] == [
            text.strip()
        ]


def test_spans_are_found_or_their_loss_is_explained():
    span = Span(indicator="x", message=3, section="reasoning", start=5, end=8)
    rendering = rendered(TWO_TURNS, "qwen3")
    assert TOKENIZER.decode(rendering.token_ids[rendering.tokens_of(span)]).strip() == "two"
    lost = Span(indicator="hiding", message=1, section="reasoning", start=0, end=4)
    with pytest.raises(LabelError, match=r"reasoning of message 1.*hiding.*leaves it out"):
        rendering.tokens_of(lost)
    cut = rendered(TWO_TURNS, "qwen3", max_tokens=len(rendering.token_ids) - 20)
    with pytest.raises(LabelError, match="cut off after"):
        cut.tokens_of(Span(indicator="x", message=3, section="answer", start=0, end=2))
    whole = rendered(TWO_TURNS, "qwen3", max_tokens=10_000)
    assert whole.dropped == rendering.dropped


def test_what_cannot_be_rendered_is_explained(tmp_path):
    with pytest.raises(ModelError, match="no chat template; set"):
        render(TWO_TURNS, TOKENIZER)
    with pytest.raises(ModelError, match="roles must alternate"):
        rendered(transcript(*(Message(role="user", content="go") for _ in range(2))), "gemma")
    with pytest.raises(ModelError, match="more than their place"):
        render(
            TWO_TURNS,
            TOKENIZER,
            chat_template="{% for m in messages %}{{ m.content | length }}{% endfor %}",
        )
    shouting = "{% for m in messages %}{{ m.role }}: {{ m.content | upper }}{% endfor %}"
    assert len(render(TWO_TURNS, TOKENIZER, chat_template=shouting).dropped) == 6
    private = transcript(Message(role="user", content="a\U000f1234b"))
    with pytest.raises(ModelError, match="private-use"):
        rendered(private, "plain")
    with pytest.raises(ModelError, match="path of a Jinja file"):
        read_chat_template("no-such-file.jinja")
    path = tmp_path / "own.jinja"
    path.write_text("{{ messages }}")
    assert read_chat_template(str(path)) == "{{ messages }}"
    assert read_chat_template("plain") == PLAIN_TEMPLATE
    assert read_chat_template(None) is None


def test_windows_hold_every_token_once():
    rendering = rendered(TWO_TURNS, "plain", window=7)
    assert len(rendering.windows) == -(-len(rendering.token_ids) // 7)
    inside = np.concatenate([window.tokens for window in rendering.windows])
    assert inside.tolist() == list(range(len(rendering.token_ids)))
    (whole,) = rendered(TWO_TURNS, "plain").windows
    assert whole.token_ids.tolist() == rendering.token_ids.tolist()


def test_windows_carry_the_special_tokens_of_the_tokenizer():
    from tokenizers.processors import TemplateProcessing

    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    try:
        rendering = render(TWO_TURNS, tokenizer, chat_template=PLAIN_TEMPLATE, window=9)
        with pytest.raises(ConfigError, match="window is 2"):
            render(TWO_TURNS, tokenizer, chat_template=PLAIN_TEMPLATE, window=2)
    finally:
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A")
    for number, window in enumerate(rendering.windows):
        assert len(window.token_ids) <= 9
        assert (window.token_ids[0], window.token_ids[-1]) == (1, 2)
        assert window.tokens[-1] == -1
        # The template has written the first <s> itself, so it is a token of the conversation.
        assert (window.tokens[0] == -1) == (number > 0)
        inside = window.tokens >= 0
        assert (window.token_ids[inside] == rendering.token_ids[window.tokens[inside]]).all()


def test_the_token_table_has_one_row_a_token():
    renderings = [rendered(TWO_TURNS, "qwen3"), rendered(WITH_SYSTEM, "qwen3")]
    assert {rendering.transcript_id for rendering in renderings} == {"t"}
    table = token_table(renderings)
    assert tuple(table.column_names) == TOKEN_COLUMNS
    frame = table.to_pandas()
    assert len(frame) == sum(len(rendering.token_ids) for rendering in renderings)
    second = frame[frame["conversation"] == 1]
    assert second["position"].tolist() == list(range(len(renderings[1].token_ids)))
    assert second["token_id"].tolist() == renderings[1].token_ids.tolist()
    assert set(second["role"]) == {"system", "user", "assistant"}
    assert set(frame["section"]) == {"header", "scaffold", "answer", "reasoning"}
    assert len(token_table([])) == 0


PIECES = st.sampled_from(
    [
        "a",
        "plan",
        " ",
        "\n",
        "\t",
        "é",
        "\U0001f600",
        "user",
        "<",
        "think",
        "{{",
        "}}",
        '"',
        "\\",
        "</",
        "yes",
    ]
)
WORDS = st.lists(PIECES, max_size=8).map("".join)


TALKS = st.tuples(
    st.none() | WORDS, st.lists(st.tuples(WORDS, WORDS, WORDS), min_size=1, max_size=3)
)


def talk_of(system: str | None, turns: list[tuple[str, str, str]]) -> Transcript:
    messages = [] if system is None else [Message(role="system", content=system)]
    for user, reasoning, answer in turns:
        messages.append(Message(role="user", content=user))
        messages.append(Message(role="assistant", reasoning=reasoning, content=answer))
    return transcript(*messages)


@pytest.mark.parametrize("name", TEMPLATES)
@settings(max_examples=25, deadline=None)
@given(words=TALKS)
def test_bounds_of_every_token_are_the_text_that_it_renders(name: str, words):
    talk = talk_of(*words)
    rendering = rendered(talk, name)
    encoding = TOKENIZER(rendering.text, add_special_tokens=False, return_offsets_mapping=True)
    covered: dict[tuple[int, str], set[int]] = {}
    for token, (start, end) in enumerate(encoding["offset_mapping"]):
        section = SECTIONS[rendering.section[token]]
        first, last = int(rendering.char_start[token]), int(rendering.char_end[token])
        if section in ("scaffold", "header"):
            assert (first, last) == (-1, -1)
            continue
        message = int(rendering.message[token])
        text = talk.messages[message].text(section)
        assert 0 <= first < last <= len(text)
        assert text[first:last] in rendering.text[start:end]
        if last - first == end - start:
            assert text[first:last] == rendering.text[start:end]
        covered.setdefault((message, section), set()).update(range(first, last))
    dropped = {(d.message, d.section) for d in rendering.dropped}
    for index, message in enumerate(talk.messages):
        for section in ("reasoning", "answer"):
            text = message.text(section)
            core = range(len(text) - len(text.lstrip()), len(text.rstrip()))
            if (index, section) in dropped:
                assert (index, section) not in covered
            else:
                assert set(core) <= covered.get((index, section), set())


ARGUMENTS = st.dictionaries(
    WORDS, WORDS | st.integers(-5, 5) | st.booleans() | st.lists(WORDS, max_size=2), max_size=3
)


@pytest.mark.parametrize("name", ["chatml", "qwen3", "deepseek", "glm4", "llama3"])
@settings(max_examples=25, deadline=None)
@given(arguments=ARGUMENTS, ensure_ascii=st.booleans(), indent=st.none() | st.just(1))
def test_strings_of_tool_calls_are_found_however_they_are_written(
    name: str, arguments, ensure_ascii: bool, indent: int | None
):
    raw = json.dumps(arguments, ensure_ascii=ensure_ascii, indent=indent)
    call = ToolCall(name="send", arguments=raw)
    talk = transcript(
        Message(role="user", content="go"),
        Message(role="assistant", content="now", tool_calls=(call, call)),
    )
    rendering = rendered(talk, name)
    whole = talk.messages[1].text("tool_call")
    for leaf in re.finditer(r'"((?:[^"\\]|\\.)*)"', whole):
        value = json.loads(leaf[0])
        if not leaf[1].strip():
            continue
        span = Span(
            indicator="x", message=1, section="tool_call", start=leaf.start(1), end=leaf.end(1)
        )
        found = TOKENIZER.decode(rendering.token_ids[rendering.tokens_of(span)])
        shapes = value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]
        assert any(shape.strip() in found for shape in shapes)
        assert len(found) <= len(json.dumps(value)) + 8
