"""What other people put in a message's content: text, parts, inline think tags, tool calls."""

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any, cast

from mechprobe.errors import DataError
from mechprobe.transcripts.transcript import ToolCall

_OPEN, _CLOSE = "<think>", "</think>"
_BLOCK = re.compile(rf"{_OPEN}(.*?)(?:{_CLOSE}|\Z)", re.DOTALL)
_TEXT_PARTS = ("text", "output_text", "input_text", "refusal")
_REASONING_PARTS = ("reasoning", "thinking")


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """The visible text of a message and the reasoning that stood within it."""

    text: str
    reasoning: str = ""


def read_content(value: Any, left_out: Counter[str]) -> Content:
    """Text and reasoning of a content that is text, null, or a list of parts (OpenAI, Anthropic, Bloom).

    Parts that hold neither are counted in `left_out`.
    """
    if value is None or isinstance(value, str):
        return Content(text=value or "")
    if not isinstance(value, list):
        raise DataError(
            f"a message's content is {type(value).__name__}; it must be text or a list of parts."
        )
    texts: list[str] = []
    thoughts: list[str] = []
    for part in cast(list[Any], value):
        kind, text = _read_part(part)
        if kind in _REASONING_PARTS:
            thoughts.append(text)
        elif kind in _TEXT_PARTS:
            texts.append(text)
        else:
            left_out[f"content part of type {kind}"] += 1
    return Content(text="".join(texts), reasoning="\n".join(thoughts))


def split_thinking(text: str) -> Content:
    """Part inline `<think>` blocks from the visible text.

    Where a template opened the block in the prompt, only `</think>` stands in the text; where the model was
    cut off, only `<think>` does.
    """
    if _OPEN not in text and _CLOSE not in text:
        return Content(text=text)
    first_close = text.find(_CLOSE)
    if first_close >= 0 and _OPEN not in text[:first_close]:
        text = _OPEN + text
    thoughts = [block.strip("\n") for block in _BLOCK.findall(text)]
    return Content(text=_BLOCK.sub("", text).strip(), reasoning=join_texts(*thoughts))


def read_tool_call(value: Any) -> ToolCall:
    """A tool call as OpenAI ({function: {name, arguments}}), Bloom ({function, arguments}) or we write it."""
    if not isinstance(value, dict):
        raise DataError(f"a tool call is {value!r}; it must be an object.")
    call = cast(dict[str, Any], value)
    function = call.get("function", call)
    name = function.get("name") if isinstance(function, dict) else function
    holder = cast(dict[str, Any], function) if isinstance(function, dict) else call
    arguments = holder.get("arguments", holder.get("input", ""))
    if not isinstance(name, str):
        raise DataError(f"a tool call has no name: {str(call)[:80]}.")
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    identity = call.get("id")
    return ToolCall(name=name, arguments=arguments, id=None if identity is None else str(identity))


def join_texts(*texts: str) -> str:
    """The texts that are not empty, a line end between them."""
    return "\n".join(text for text in texts if text)


def _read_part(part: Any) -> tuple[str, str]:
    if isinstance(part, str):
        return "text", part
    if not isinstance(part, dict):
        raise DataError(f"a content part is {part!r}; it must be text or an object with a type.")
    fields = cast(dict[str, Any], part)
    kind = str(fields.get("type", "text"))
    text = fields.get(kind) if isinstance(fields.get(kind), str) else fields.get("text")
    return (kind, text) if isinstance(text, str) else (f"{kind} without text", "")
