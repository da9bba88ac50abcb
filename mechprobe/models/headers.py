"""Scaffold told apart: role headers, and what closes a turn or opens a think block."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mechprobe.models.pieces import Piece
from mechprobe.transcripts.transcript import Role, Transcript

_ROLE_WORDS: dict[Role, tuple[str, ...]] = {
    "system": ("system", "developer", "user", "human"),
    "user": ("user", "human", "[inst]"),
    "assistant": ("assistant", "model", "gpt"),
    "tool": ("tool", "observation", "ipython", "function", "user", "human"),
}
"""What templates call the roles; a system text may stand in the first user turn, a tool's answer in one."""
_TAGS = re.compile(
    r"[<\[](/?)[^<>\[\]\n/]{0,2}(?:think|tool[_▁](?:response|call)s?)(?![a-z])", re.IGNORECASE
)
"""What opens and closes a part of a message; a role's header stands before, after or between them."""


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
    """Bounds of the role header in the scaffold before a message; empty where no role is named.

    It starts with the tag that names the role, or with that line, and ends with the line's last tag or the line.
    """
    tags = list(_TAGS.finditer(literal))
    named = _named(literal, tags, role)
    if named < 0:
        opening = next((literal[: tag.start()].rstrip(" ") for tag in tags if not tag[1]), literal)
        return len(opening), len(opening)
    start = max(
        literal.rfind("<", 0, named),
        literal.rfind("[", 0, named + 1),
        literal.rfind("\n", 0, named) + 1,
    )
    after = next(
        (literal[: tag.start()].rstrip(" ") for tag in tags if tag.start() > named), literal
    )
    return start, _line_end(after, named)


def _named(literal: str, tags: Sequence[re.Match[str]], role: Role) -> int:
    """Where the role is named last: in a tag or right after one, or else anywhere; -1 if nowhere."""
    characters = list(literal)
    for tag in tags:
        characters[tag.start() : tag.end()] = " " * (tag.end() - tag.start())
    words = "|".join(re.escape(word) for word in _ROLE_WORDS[role])
    pattern = f"(<[^<>\n]*>?|\\[[^\\[\\]\n]*)?({words})"
    found = re.finditer(pattern, "".join(characters), re.IGNORECASE)
    places = [(match[1] is not None or match[2][0] == "[", match.start(2)) for match in found]
    return max(places, default=(False, -1))[1]


def _line_end(literal: str, named: int) -> int:
    """End of the header's line with the empty lines after it, or of its last tag if a text follows that in the line."""
    end = literal.find("\n", named)
    if end < 0:
        end = len(literal)
    if literal[named] == "[":
        return literal.index("]", named) + 1
    last_tag = max(literal.rfind(">", named, end), literal.rfind("]", named, end)) + 1
    if last_tag and literal[last_tag:end].strip():
        return last_tag
    return end + len(literal[end:]) - len(literal[end:].lstrip("\n"))
