"""A thought inline before the visible text, as `<think>...</think>text`: read and written exactly."""

from collections import Counter

from mechprobe.errors import DataError
from mechprobe.transcripts.readers.content import split_thinking
from mechprobe.transcripts.transcript import Message

_OPEN, _CLOSE = "<think>", "</think>"


def parse_inline(content: str, left_out: Counter[str]) -> Message:
    """The assistant's message; text with tags in other places is read as elsewhere, and counted in `left_out`."""
    close = content.find(_CLOSE)
    rest = content[close + len(_CLOSE) :]
    is_plain = _OPEN not in content and close < 0
    is_once = content.startswith(_OPEN) and _OPEN not in rest and _CLOSE not in rest
    if is_plain:
        return Message(role="assistant", content=content)
    if is_once and close > len(_OPEN) and _OPEN not in content[len(_OPEN) : close]:
        return Message(role="assistant", reasoning=content[len(_OPEN) : close], content=rest)
    left_out["think tags that are not once, around words, at the start"] += 1
    parted = split_thinking(content)
    return Message(role="assistant", reasoning=parted.reasoning, content=parted.text)


def inline_text(message: Message, where: str) -> str:
    """The content that `parse_inline` reads as this message, or the text of a system or user message.

    Raises:
        DataError: it has tool calls, is a tool's, or has think tags within its text.
    """
    if message.role == "tool" or message.tool_calls:
        raise DataError(
            f"{where} has tool calls or tool messages, for which the format has no place; leave it out, or "
            "write its tool calls as text first."
        )
    if message.role != "assistant":
        return message.content
    if any(tag in text for tag in (_OPEN, _CLOSE) for text in (message.reasoning, message.content)):
        raise DataError(
            f"{where} has {_OPEN} or {_CLOSE} within its text, which could not be read back; take the tags out."
        )
    thought = f"{_OPEN}{message.reasoning}{_CLOSE}" if message.reasoning else ""
    return thought + message.content
