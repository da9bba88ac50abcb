"""Transcript messages as chat templates take them, with every text wrapped by a function of the caller's.

Templates know different things: where reasoning goes, what a tool call is. What a template does not know is written
into the text instead, with the tags that most models were trained on.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from mechprobe.transcripts.transcript import Message, Section, ToolCall

Wrap = Callable[[str, int, Section, int], str]
"""Text, index of its message, its section, and where it starts in the section's text -> the text to render."""

_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_REASONING_FIELDS = ("reasoning_content", "thinking", "reasoning")


@dataclass(frozen=True, kw_only=True, slots=True)
class TemplateForm:
    """What a chat template knows."""

    reasoning_field: str | None
    """Where it looks for reasoning; None writes it into the content between think tags."""
    takes_tools: bool
    """Whether it knows tool calls and tool messages; if not they are written into contents and user messages."""
    parses_arguments: bool = True
    """Whether a tool call's arguments are given as an object, not as text."""


@cache
def form_of(chat_template: str) -> TemplateForm:
    """Read off a template's source what it knows."""
    words = set(re.findall(r"\w+", chat_template))
    field = next((name for name in _REASONING_FIELDS if name in words), None)
    return TemplateForm(reasoning_field=field, takes_tools={"tool_calls", "tool"} <= words)


def chat_messages(
    messages: Sequence[Message], form: TemplateForm, wrap: Wrap
) -> list[dict[str, Any]]:
    """The messages as the template takes them."""
    names = {call.id: call.name for message in messages for call in message.tool_calls if call.id}
    return [
        _chat_message(message, index, form, wrap, names) for index, message in enumerate(messages)
    ]


def _chat_message(
    message: Message, index: int, form: TemplateForm, wrap: Wrap, names: dict[str, str]
) -> dict[str, Any]:
    found: dict[str, Any] = {"role": message.role}
    reasoning = wrap(message.reasoning, index, "reasoning", 0) if message.reasoning else ""
    content = wrap(message.content, index, "answer", 0)
    if message.tool_calls and form.takes_tools:
        starts = call_starts(message.tool_calls)
        found["tool_calls"] = [
            _tool_call(call, index, start, form, wrap)
            for call, start in zip(message.tool_calls, starts, strict=True)
        ]
    elif message.tool_calls:
        calls = wrap(message.text("tool_call"), index, "tool_call", 0)
        content = f"{content}\n<tool_call>\n{calls}\n</tool_call>"
    if message.role == "tool" and not form.takes_tools:
        return {"role": "user", "content": f"<tool_response>\n{content}\n</tool_response>"}
    if message.role == "tool":
        call_id = message.tool_call_id or ""
        found |= {"tool_call_id": call_id, "name": names.get(call_id, "")}
    if reasoning and form.reasoning_field:
        found[form.reasoning_field] = reasoning
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
    return {"type": "function", "id": call.id or "", "function": function}


def _is_object(arguments: str) -> bool:
    try:
        return isinstance(json.loads(arguments), dict)
    except ValueError:
        return False
