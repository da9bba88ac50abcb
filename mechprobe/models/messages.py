"""Transcript messages as chat templates take them, with every text wrapped by a function of the caller's.

Templates know different things: where reasoning goes, what a tool call is. What a template does not know is written
into the text instead, with the tags that most models were trained on.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mechprobe.transcripts.transcript import Message, Section, ToolCall

Wrap = Callable[[str, int, Section, int], str]
"""Text, index of its message, its section, and where it starts in the section's text -> the text to render."""

_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_REASONING_FIELDS = ("reasoning_content", "thinking", "reasoning")
_PROBE = "what was thought"
_SHORT_ID = 9
"""Characters of the ids that Mistral's templates insist on."""

Render = Callable[[Sequence[dict[str, Any]]], str]


@dataclass(frozen=True, kw_only=True, slots=True)
class TemplateForm:
    """What a chat template knows."""

    reasoning_field: str | None
    """Where it looks for reasoning; None writes it into the content between think tags."""
    thinks_in_parts: bool = False
    """Whether reasoning is a part of the content, which is a list then."""
    takes_tools: bool
    """Whether it knows tool calls and tool messages; if not they are written into contents and user messages."""
    parses_arguments: bool = True
    """Whether a tool call's arguments are given as an object, not as text."""
    cuts_contents: bool = False
    """Whether it looks for think tags in contents unless reasoning is given, be it empty."""
    has_short_ids: bool = False
    """Whether tool calls are numbered anew, with ids of nine characters."""
    keeps_preamble: bool = True
    """Whether content is given beside reasoning and a tool call."""


def form_of(chat_template: str, render: Render) -> TemplateForm:
    """What a template knows: tools by its source, reasoning by whether it comes out.

    A word in the source is not enough: `thinking` is a field of messages in one template, a switch in another.
    """
    words = set(re.findall(r"\w+", chat_template))
    takes_tools = {"tool_calls", "tool"} <= words
    for name in _REASONING_FIELDS:
        if name in words and _comes_out(_PROBE, {"content": "so", name: _PROBE}, render):
            tagged = f"{_PROBE} </think> so"
            is_cut = not _comes_out(tagged, {"content": tagged}, render)
            return TemplateForm(
                reasoning_field=name,
                takes_tools=takes_tools,
                cuts_contents=is_cut and _comes_out(tagged, {"content": tagged, name: ""}, render),
            )
    parts = "thinking" in words and _comes_out(_PROBE, {"content": _parts(_PROBE, "so")}, render)
    return TemplateForm(reasoning_field=None, takes_tools=takes_tools, thinks_in_parts=parts)


def _comes_out(wanted: str, answer: dict[str, Any], render: Render) -> bool:
    from jinja2 import TemplateError

    asked = {"role": "user", "content": "why"}
    try:
        text = render([asked, {"role": "assistant", **answer}])
    except (TemplateError, TypeError, ValueError):
        return False
    # A list that the template does not look into comes out as Python writes it.
    return wanted in text and "'thinking'" not in text


def _parts(reasoning: str, content: str) -> list[dict[str, str]]:
    return [{"type": "thinking", "thinking": reasoning}, {"type": "text", "text": content}]


def chat_messages(
    messages: Sequence[Message], form: TemplateForm, wrap: Wrap
) -> list[dict[str, Any]]:
    """The messages as the template takes them."""
    calls = [call for message in messages for call in message.tool_calls]
    names = {call.id: call.name for call in calls if call.id}
    ids = {call.id: _given_id(call, n, form) for n, call in enumerate(calls)}
    return [
        _chat_message(message, index, form, wrap, names, ids)
        for index, message in enumerate(messages)
    ]


def _given_id(call: ToolCall, number: int, form: TemplateForm) -> str:
    return f"{number:0{_SHORT_ID}d}" if form.has_short_ids else call.id or ""


def _chat_message(
    message: Message,
    index: int,
    form: TemplateForm,
    wrap: Wrap,
    names: dict[str, str],
    ids: dict[str | None, str],
) -> dict[str, Any]:
    found: dict[str, Any] = {"role": message.role}
    reasoning = wrap(message.reasoning, index, "reasoning", 0) if message.reasoning else ""
    is_left_out = reasoning and message.tool_calls and not form.keeps_preamble
    content = "" if is_left_out else wrap(message.content, index, "answer", 0)
    if message.tool_calls and form.takes_tools:
        starts = call_starts(message.tool_calls)
        found["tool_calls"] = [
            _tool_call(call, index, start, form, wrap) | {"id": ids[call.id]}
            for call, start in zip(message.tool_calls, starts, strict=True)
        ]
    elif message.tool_calls:
        calls = wrap(message.text("tool_call"), index, "tool_call", 0)
        content = f"{content}\n<tool_call>\n{calls}\n</tool_call>"
    if message.role == "tool" and not form.takes_tools:
        return {"role": "user", "content": f"<tool_response>\n{content}\n</tool_response>"}
    if message.role == "tool":
        call_id = message.tool_call_id or ""
        found |= {"tool_call_id": ids.get(call_id, call_id), "name": names.get(call_id, "")}
    is_cut = form.cuts_contents and message.role == "assistant" and "</think>" in message.content
    if form.reasoning_field and (reasoning or is_cut):
        found[form.reasoning_field] = reasoning
    elif reasoning and form.thinks_in_parts:
        return found | {"content": _parts(reasoning, content)}
    elif reasoning:
        content = f"<think>\n{reasoning}\n</think>\n\n{content}"
    return found | {"content": content}


def call_starts(calls: Sequence[ToolCall]) -> list[int]:
    """Where each call starts in `message.text("tool_call")`."""
    starts = [0]
    for call in calls:
        starts.append(starts[-1] + len(call.text) + 1)
    return starts[:-1]


def _tool_call(
    call: ToolCall, index: int, start: int, form: TemplateForm, wrap: Wrap
) -> dict[str, Any]:
    name = wrap(call.name, index, "tool_call", start)
    first = start + len(call.name) + 2
    function: dict[str, Any] = {"name": name}
    if form.parses_arguments and _is_object(call.arguments):
        # Every string of the JSON text is wrapped where it stands, then the text is read.
        marked = _STRING.sub(
            lambda found: f'"{wrap(found[1], index, "tool_call", first + found.start(1))}"',
            call.arguments,
        )
        function["arguments"] = json.loads(marked)
    else:
        function["arguments"] = wrap(call.arguments, index, "tool_call", first)
    return {"type": "function", "function": function}


def _is_object(arguments: str) -> bool:
    try:
        return isinstance(json.loads(arguments), dict)
    except ValueError:
        return False
