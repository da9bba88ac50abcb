"""Scaffold told apart: role headers, and what closes a turn or opens a think block."""

from collections.abc import Sequence
from dataclasses import dataclass

from mechprobe.models.alignment import Alignment, Piece
from mechprobe.transcripts.transcript import Role, Transcript

ROLE_WORDS: dict[Role, tuple[str, ...]] = {
    "system": ("system",),
    "user": ("user", "human"),
    "assistant": ("assistant", "model", "gpt"),
    "tool": ("user", "human", "tool"),
}
THINK = "<think>"


@dataclass(frozen=True, kw_only=True, slots=True)
class TracedPiece:
    """A stretch of the rendered text with the section that its tokens get."""

    start: int
    end: int
    message: int
    """-1 where it belongs to no message."""
    section: str
    text_start: int = 0


def trace_pieces(transcript: Transcript, alignment: Alignment) -> list[TracedPiece]:
    """Give every piece of the rendering its message and section."""
    pieces = alignment.pieces
    traced: list[TracedPiece] = []
    for i, piece in enumerate(pieces):
        if piece.section is not None:
            traced.append(
                TracedPiece(
                    start=piece.start,
                    end=piece.end,
                    message=piece.message,
                    section=piece.section,
                    text_start=piece.text_start,
                )
            )
            continue
        before, after = _message_at(pieces, i - 1), _message_at(pieces, i + 1)
        if after in (before, -1):
            traced.append(_scaffold(piece.start, piece.end, before))
        else:
            literal = alignment.text[piece.start : piece.end]
            role = transcript.messages[after].role
            traced += _split_boundary(literal, piece.start, role, before, after)
    return traced


def _split_boundary(
    literal: str, start: int, role: Role, before: int, after: int
) -> list[TracedPiece]:
    """What closes one message, the header of the next, and what opens its reasoning."""
    header_start, header_end = _header_bounds(literal, role)
    cuts = [
        _scaffold(start, start + header_start, before),
        TracedPiece(
            start=start + header_start, end=start + header_end, message=after, section="header"
        ),
        _scaffold(start + header_end, start + len(literal), after),
    ]
    return [cut for cut in cuts if cut.end > cut.start]


def _header_bounds(literal: str, role: Role) -> tuple[int, int]:
    """Bounds of the role header in the scaffold before a message; empty at its end if it names no role.

    The header starts where the last tag before the role's name opens, or where its line does.
    """
    end = literal.find(THINK)
    end = len(literal) if end < 0 else len(literal[:end].rstrip(" "))
    lowered = literal[:end].lower()
    found = max(lowered.rfind(word) for word in ROLE_WORDS[role])
    if found < 0:
        return end, end
    opening = literal.rfind("<", 0, found)
    line = literal.rfind("\n", 0, found) + 1
    return (opening if opening >= line else line), end


def _message_at(pieces: Sequence[Piece], index: int) -> int:
    return pieces[index].message if 0 <= index < len(pieces) else -1


def _scaffold(start: int, end: int, message: int) -> TracedPiece:
    return TracedPiece(start=start, end=end, message=message, section="scaffold")
