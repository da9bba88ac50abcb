"""Rendered text cut into pieces that map to the texts of messages, also where JSON was written anew."""

import re
from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from mechprobe.models.messages import call_starts
from mechprobe.transcripts.transcript import Message, Section

_ESCAPES = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.|.", re.DOTALL
)
_SCALARS = re.compile(r"-?\d[\d.eE+-]*|true|false|null")
_NEAR = 64
"""How far on a number of a tool call is looked for, past the tags that a template puts between its arguments."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A stretch of the rendered text that holds a text of a message, or part of one."""

    start: int
    end: int
    message: int
    section: Section
    text_start: int
    text_end: int
    """Bounds inside `message.text(section)`."""
    is_block: bool = False
    """True: written differently from the text (JSON), so that each character stands for the whole piece."""


def pieces_of(whole: Piece, rendered: str, text: str) -> list[Piece]:
    """Cut a piece so that each part has one meaning: runs that are equal, and characters that JSON escapes anew.

    A text that is rewritten in any other way has no pieces; in a tool call it stays one.
    """
    if rendered == text:
        return [whole]
    written = _units(text, is_escaped=True)
    for is_escaped in (False, True):
        read = _units(rendered, is_escaped=is_escaped)
        if [unit[0] for unit in written] == [unit[0] for unit in read]:
            return list(_runs(whole, read, written))
    return [replace(whole, is_block=True)] if whole.section == "tool_call" else []


def _runs(
    whole: Piece, read: Sequence[tuple[str, int, int]], written: Sequence[tuple[str, int, int]]
) -> Iterator[Piece]:
    pairs = list(zip(read, written, strict=True))
    is_plain = [here[2] - here[1] == there[2] - there[1] == 1 for here, there in pairs]
    first = 0
    for i in range(len(pairs)):
        if is_plain[i] and i + 1 < len(pairs) and is_plain[i + 1]:
            continue
        yield replace(
            whole,
            start=whole.start + pairs[first][0][1],
            end=whole.start + pairs[i][0][2],
            text_start=whole.text_start + pairs[first][1][1],
            text_end=whole.text_start + pairs[i][1][2],
            is_block=not is_plain[i],
        )
        first = i + 1


def join_tool_calls(text: str, messages: Sequence[Message], pieces: Sequence[Piece]) -> list[Piece]:
    """Add what stands between and after the strings of each tool call: numbers, brackets, names of fields."""
    joined: list[Piece] = []
    for number, piece in enumerate(pieces):
        following = pieces[number + 1] if number + 1 < len(pieces) else None
        joined.append(piece)
        if piece.section != "tool_call":
            continue
        if following and _call_of(piece, messages) == _call_of(following, messages):
            if following.start > piece.end and following.text_start >= piece.text_end:
                joined.append(
                    replace(
                        piece,
                        start=piece.end,
                        end=following.start,
                        text_start=piece.text_end,
                        text_end=following.text_start,
                        is_block=True,
                    )
                )
        else:
            joined += _tail(text, messages, piece)
    return joined


def _call_of(piece: Piece, messages: Sequence[Message]) -> tuple[int, int]:
    if piece.section != "tool_call":
        return piece.message, -1
    starts = call_starts(messages[piece.message].tool_calls)
    return piece.message, bisect(starts, piece.text_start)


def _tail(text: str, messages: Sequence[Message], piece: Piece) -> list[Piece]:
    """What follows the last string of a tool call: the same but for white space, or at least its numbers."""
    calls = messages[piece.message].tool_calls
    whole = messages[piece.message].text("tool_call")
    n_call = _call_of(piece, messages)[1]
    stop = call_starts(calls)[n_call] - 1 if n_call < len(calls) else len(whole)
    at, to = _walk_along(text, piece.end, whole[:stop], piece.text_end)
    for scalar in _SCALARS.finditer(whole, to, stop):
        found = text.find(scalar[0], at, at + _NEAR)
        if found < 0:
            break
        at, to = found + len(scalar[0]), scalar.end()
    if at == piece.end or to == piece.text_end:
        return []
    return [
        replace(
            piece, start=piece.end, end=at, text_start=piece.text_end, text_end=to, is_block=True
        )
    ]


def _walk_along(text: str, at: int, whole: str, to: int) -> tuple[int, int]:
    """How far two texts are the same but for white space."""
    while at < len(text) and to < len(whole):
        if text[at] == whole[to]:
            at, to = at + 1, to + 1
        elif whole[to].isspace():
            to += 1
        elif text[at].isspace():
            at += 1
        else:
            break
    return at, to


def _units(text: str, *, is_escaped: bool) -> list[tuple[str, int, int]]:
    """Characters with their bounds; JSON escapes are one character each."""
    if not is_escaped:
        return [(character, i, i + 1) for i, character in enumerate(text)]
    return [(_unescape(found[0]), found.start(), found.end()) for found in _ESCAPES.finditer(text)]


def _unescape(escape: str) -> str:
    if escape.startswith("\\u"):
        codes = [int(code, 16) for code in escape.split("\\u")[1:]]
        return (
            "".join(map(chr, codes)).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        )
    if escape.startswith("\\"):
        return {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}.get(escape[1], escape[1])
    return escape
