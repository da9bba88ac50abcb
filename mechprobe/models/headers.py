"""Scaffold told apart: role headers, and what closes a turn or opens a think block."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mechprobe.models.pieces import Piece
from mechprobe.transcripts.transcript import Role, Transcript

_ROLE_WORDS: dict[Role, tuple[str, ...]] = {
    "system": ("system", "user", "human"),
    "user": ("user", "human"),
    "assistant": ("assistant", "model", "gpt"),
    "tool": ("tool", "observation", "ipython", "function", "user", "human"),
}
"""What templates call the roles; a system text may stand in the first user turn, a tool's answer in one."""
_OPENINGS = re.compile(r"<[^<>\n]{0,2}(think|tool_response|tool_call)\b")
"""Tags that open a part of a message; a role's header stands before them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scaffold:
    """A stretch of rendered text that is no message's own text."""

    start: int
    end: int
    message: int
    """-1 where it belongs to none."""
    is_header: bool


def scaffold_pieces(
    transcript: Transcript, text: str, pieces: Sequence[Piece]
) -> Iterator[Scaffold]:
    """What stands between the texts of messages, cut at the role headers."""
    cursor, before = 0, -1
    for piece in pieces:
        if piece.start > cursor:
            if piece.message == before:
                yield Scaffold(start=cursor, end=piece.start, message=before, is_header=False)
            else:
                role = transcript.messages[piece.message].role
                yield from _boundary(text, cursor, piece.start, role, before, piece.message)
        cursor, before = max(cursor, piece.end), piece.message
    if cursor < len(text):
        yield Scaffold(start=cursor, end=len(text), message=before, is_header=False)


def _boundary(
    text: str, start: int, end: int, role: Role, before: int, after: int
) -> Iterator[Scaffold]:
    """What closes one message, the header of the next, and what opens its reasoning."""
    first, last = _header_bounds(text[start:end], role)
    for a, b, message, is_header in (
        (start, start + first, before, False),
        (start + first, start + last, after, True),
        (start + last, end, after, False),
    ):
        if b > a:
            yield Scaffold(start=a, end=b, message=message, is_header=is_header)


def _header_bounds(literal: str, role: Role) -> tuple[int, int]:
    """Bounds of the role header in the scaffold before a message; empty at its end if it names no role.

    The header starts where the last tag before the role's name opens, or where its line does.
    """
    opening = _OPENINGS.search(literal)
    end = len(literal[: opening.start()].rstrip(" ")) if opening else len(literal)
    lowered = literal[:end].lower()
    named = max(lowered.rfind(word) for word in _ROLE_WORDS[role])
    if named < 0:
        return end, end
    return max(literal.rfind("<", 0, named), literal.rfind("\n", 0, named) + 1), end
