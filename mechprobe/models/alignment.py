"""Where each message's texts stand in the rendered conversation.

A template is a program: it may drop old reasoning, trim texts, merge the system message into the first user message or
put in a system turn of its own. So the conversation is rendered twice, once with a marker in place of every text. What
stands between the markers is scaffold; walking both renderings side by side finds every text, and a marker that is
missing is a text that was dropped.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mechprobe.errors import ModelError
from mechprobe.transcripts.transcript import Message, Section, Transcript

Render = Callable[[Sequence[dict[str, Any]]], str]

_MARKER = re.compile(r"Zq(\d+)([ract])Zq")
_LETTER: dict[Section, str] = {"reasoning": "r", "answer": "a", "tool_call": "c"}
_SECTION: dict[str, Section] = {letter: section for section, letter in _LETTER.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A stretch of the rendered text: one text of a message, or scaffold between texts."""

    start: int
    end: int
    message: int = -1
    section: Section | None = None
    """None is scaffold."""
    text_start: int = 0
    """Where the piece starts inside the message's text (a template may trim)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dropped:
    """A text that the template did not render."""

    message: int
    section: Section
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Alignment:
    """The rendered text, cut into pieces."""

    text: str
    pieces: tuple[Piece, ...]
    dropped: tuple[Dropped, ...]


def align(transcript: Transcript, render: Render) -> Alignment:
    """Render a transcript and find its texts.

    Raises:
        ModelError: the template refuses the conversation, or rewrites a text beyond trimming it.
    """
    messages = transcript.messages
    inline = not _knows_reasoning(messages, render)
    text = render([chat_message(m, i, mark=False, inline=inline) for i, m in enumerate(messages)])
    skeleton = render(
        [chat_message(m, i, mark=True, inline=inline) for i, m in enumerate(messages)]
    )
    pieces = _walk(text, skeleton, transcript)
    return Alignment(text=text, pieces=tuple(pieces), dropped=tuple(_dropped(messages, pieces)))


def chat_message(message: Message, index: int, *, mark: bool, inline: bool) -> dict[str, Any]:
    """A message as chat templates take it; tool calls are written into the text, tool results are user turns.

    That is how the paper's authors flatten tools; it works with every template.
    """

    def text(section: Section) -> str:
        content = message.text(section)
        return f"Zq{index}{_LETTER[section]}Zq" if mark and content else content

    content = text("answer")
    if message.tool_calls:
        content += f"\n<tool_call>\n{text('tool_call')}\n</tool_call>"
    if message.role == "tool":
        return {"role": "user", "content": f"<tool_response>\n{content}\n</tool_response>"}
    found: dict[str, Any] = {"role": message.role, "content": content}
    if message.reasoning and inline:
        found["content"] = f"<think>\n{text('reasoning')}\n</think>\n\n{content}"
    elif message.reasoning:
        found["reasoning_content"] = text("reasoning")
    return found


def _knows_reasoning(messages: Sequence[Message], render: Render) -> bool:
    """Whether the template renders `reasoning_content` of the last message that has some."""
    last = next((i for i in reversed(range(len(messages))) if messages[i].reasoning), None)
    if last is None:
        return True
    marked = [
        chat_message(m, i, mark=True, inline=False) for i, m in enumerate(messages[: last + 1])
    ]
    return f"Zq{last}rZq" in render(marked)


def _walk(text: str, skeleton: str, transcript: Transcript) -> list[Piece]:
    """Step through both renderings: scaffold must be equal, texts may be trimmed."""
    parts = _MARKER.split(skeleton)
    literals, marks = parts[::3], list(zip(parts[1::3], parts[2::3], strict=True))
    pieces: list[Piece] = []
    cursor = 0
    for k, literal in enumerate(literals):
        if not text.startswith(literal, cursor):
            raise _rewritten(transcript, text, cursor)
        if literal:
            pieces.append(Piece(start=cursor, end=cursor + len(literal)))
        cursor += len(literal)
        if k < len(marks):
            message, section = int(marks[k][0]), _SECTION[marks[k][1]]
            whole = transcript.messages[message].text(section)
            offset, length = _as_rendered(text, cursor, whole, literals[k + 1])
            if offset < 0:
                raise _rewritten(transcript, text, cursor)
            piece = Piece(
                start=cursor,
                end=cursor + length,
                message=message,
                section=section,
                text_start=offset,
            )
            pieces.append(piece)
            cursor += length
    if cursor != len(text):
        raise _rewritten(transcript, text, cursor)
    return pieces


def _as_rendered(text: str, cursor: int, whole: str, following: str) -> tuple[int, int]:
    """Offset and length of the part of a text that stands at the cursor; offset -1 if none does."""
    for kept in (whole, whole.lstrip("\n"), whole.rstrip("\n"), whole.strip("\n")):
        if text.startswith(kept + following, cursor):
            return whole.find(kept), len(kept)
    for kept in (whole.rstrip(), whole.lstrip(), whole.strip()):
        if text.startswith(kept + following, cursor):
            return whole.find(kept), len(kept)
    return -1, 0


def _dropped(messages: Sequence[Message], pieces: Sequence[Piece]) -> list[Dropped]:
    rendered = {(piece.message, piece.section) for piece in pieces}
    return [
        Dropped(message=i, section=section, reason="the chat template leaves it out")
        for i, message in enumerate(messages)
        for section in _LETTER
        if message.text(section) and (i, section) not in rendered
    ]


def _rewritten(transcript: Transcript, text: str, cursor: int) -> ModelError:
    return ModelError(
        f"the chat template rewrites a text of transcript {transcript.id!r} near "
        f'{text[cursor : cursor + 40]!r}; tokens cannot be traced to it. Use chat_template="plain" or a '
        "template file of your own."
    )
