"""Where each message's texts stand in the rendered conversation.

A template is a program: it may drop old reasoning, trim texts, merge the system message into the first user message,
write tool calls as JSON, or put in a system turn of its own. So the conversation is rendered again with a marker before
and after every text: private-use characters, which no template treats specially. Where they come out, the texts
stand; a marker that is missing is a text that was dropped; without its markers the second rendering must be the first.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mechprobe.errors import ModelError
from mechprobe.models.dropped import Dropped, dropped_texts
from mechprobe.models.messages import Render, TemplateForm, chat_messages
from mechprobe.models.pieces import Piece, join_tool_calls, pieces_of
from mechprobe.transcripts.transcript import Message, Section, Transcript

_FIRST, _LAST = 0xF0000, 0x10FFFD
_DEPTH = 24
"""How far inside a text the markers go if a template looks at how texts start and end ("<tool_response>")."""
_MARKER = re.compile(f"[{chr(_FIRST)}-{chr(_LAST)}]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Alignment:
    """The rendered text and the pieces of it that are texts of messages, in order."""

    text: str
    pieces: tuple[Piece, ...]
    dropped: tuple[Dropped, ...]


def align(transcript: Transcript, form: TemplateForm, render: Render) -> Alignment:
    """Render a transcript and find its texts.

    Reasoning that the template drops is not given to it either, as in the conversations that its model has seen: some
    templates leave a part of it standing, or write the answer otherwise, while it is there.

    Raises:
        ModelError: the template rewrites the texts so that they cannot be found.
    """
    messages = transcript.messages
    found = _find(transcript.id, messages, form, render)
    if lost := found.lost_reasoning:
        given = [replace(m, reasoning="") if i in lost else m for i, m in enumerate(messages)]
        if render(_plain(given, form)) != found.text:
            without = _find(transcript.id, given, form, render)
            # Some look for think tags in the answer as soon as there is no reasoning, and would cut it.
            found = without if found.texts <= without.texts else found
    pieces = join_tool_calls(found.text, messages, found.pieces)
    dropped = tuple(dropped_texts(messages, pieces))
    return Alignment(text=found.text, pieces=tuple(pieces), dropped=dropped)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    text: str
    pieces: tuple[Piece, ...]
    lost_reasoning: frozenset[int]
    """Messages whose reasoning is not in the text."""

    @property
    def texts(self) -> set[tuple[int, Section]]:
        """Message and section of everything that was found."""
        return {(piece.message, piece.section) for piece in self.pieces}


def _find(name: str, messages: Sequence[Message], form: TemplateForm, render: Render) -> _Found:
    text = render(_plain(messages, form))
    for depth in (0, _DEPTH):
        marks = _Marks(depth=depth)
        placed = _place(messages, form, render, text, marks)
        if placed is None:
            continue
        slots = _with_spaces(messages, form, render, text, placed)
        pieces = [
            piece
            for slot in slots
            for piece in pieces_of(slot.piece(), text[slot.start : slot.end], slot.text)
        ]
        there = {(slot.message, slot.section) for slot in placed}
        lost = {s.message for s in marks.slots if s.section == "reasoning"}
        return _Found(
            text=text,
            pieces=tuple(pieces),
            lost_reasoning=frozenset(i for i in lost if (i, "reasoning") not in there),
        )
    raise ModelError(
        f"the chat template changes its output with the texts of transcript {name!r} in more than their "
        'place, so tokens cannot be traced to them; set chat_template="plain" or a template file of your own.'
    )


def _plain(messages: Sequence[Message], form: TemplateForm) -> list[dict[str, Any]]:
    return chat_messages(messages, form, lambda text, *_: text)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Slot:
    """A text that was marked, and where it was found."""

    message: int
    section: Section
    text_start: int
    text: str
    depth: int
    """How far inside the text its markers stand."""
    number: int = -1
    start: int = -1
    end: int = -1

    @property
    def lead(self) -> str:
        return self.text[: len(self.text) - len(self.text.lstrip())]

    @property
    def trail(self) -> str:
        return self.text[len(self.text.rstrip()) :]

    def piece(self) -> Piece:
        """Where the slot stands."""
        return Piece(
            start=self.start,
            end=self.end,
            message=self.message,
            section=self.section,
            text_start=self.text_start,
            text_end=self.text_start + len(self.text),
        )


class _Marks:
    """Puts a pair of markers round every text and remembers which pair stands for which."""

    def __init__(self, *, depth: int = 0, inside_spaces: bool = True) -> None:
        self.slots: list[_Slot] = []
        self._depth = depth
        self._inside_spaces = inside_spaces

    def wrap(self, text: str, message: int, section: Section, text_start: int) -> str:
        """Mark a text, inside its outer white space so that trimming works as without markers, or outside of it."""
        core = text.strip()
        if not core:
            return text
        if _MARKER.search(text):
            raise ModelError(
                f"message {message} has private-use characters above U+F0000, which mark texts here; remove them."
            )
        # Strings of tool calls are JSON with escapes, which must not be cut.
        depth = 0 if section == "tool_call" else min(self._depth, (len(core) - 1) // 2)
        first, last = 0, len(text)
        if self._inside_spaces:
            first = text.index(core) + depth
            last = first + len(core) - 2 * depth
        slot = _Slot(
            message=message, section=section, text_start=text_start, text=text, depth=depth
        )
        code = _FIRST + 2 * len(self.slots)
        self.slots.append(slot)
        return f"{text[:first]}{chr(code)}{text[first:last]}{chr(code + 1)}{text[last:]}"


def _place(
    messages: Sequence[Message], form: TemplateForm, render: Render, text: str, marks: _Marks
) -> list[_Slot] | None:
    """The marked texts that were rendered, in order of the text; None if the markers changed the rest."""
    marked = render(chat_messages(messages, form, marks.wrap))
    if _MARKER.sub("", marked) != text:
        return None
    found = _find_markers(marked)
    return [
        replace(
            slot,
            number=number,
            start=found[number][0] - slot.depth,
            end=found[number][1] + slot.depth,
        )
        for number, slot in enumerate(marks.slots)
        if number in found
    ]


def _find_markers(marked: str) -> dict[int, tuple[int, int]]:
    """Number of the slot -> its bounds in the text without markers."""
    at: dict[int, int] = {}
    for n_before, found in enumerate(_MARKER.finditer(marked)):
        at.setdefault(ord(found[0]) - _FIRST, found.start() - n_before)
    return {
        code // 2: (start, at[code + 1])
        for code, start in at.items()
        if code % 2 == 0 and at.get(code + 1, -1) >= start
    }


def _with_spaces(
    messages: Sequence[Message],
    form: TemplateForm,
    render: Render,
    text: str,
    placed: Sequence[_Slot],
) -> list[_Slot]:
    """The slots in order of the text, each with what the template kept of its outer white space.

    A third rendering has the markers outside the white space, which then cannot be trimmed: what stands between its
    markers is scaffold alone, and what the true text has more than that was kept.
    """
    placed = sorted(placed, key=lambda slot: slot.start)
    bare = [_trimmed(slot, 0, 0) for slot in placed]
    if not any(slot.lead or slot.trail for slot in placed):
        return bare
    marked = render(chat_messages(messages, form, _Marks(inside_spaces=False).wrap))
    outside, plain = _find_markers(marked), _MARKER.sub("", marked)
    bounds = [outside[slot.number] for slot in placed if slot.number in outside]
    if len(bounds) != len(placed) or bounds != sorted(bounds):
        return bare
    gaps: list[tuple[int, int]] = []
    for i in range(len(placed) + 1):
        before, after = placed[i - 1] if i else None, placed[i] if i < len(placed) else None
        gaps.append(
            _kept_spaces(
                before.trail if before else "",
                text[before.end if before else 0 : after.start if after else len(text)],
                plain[bounds[i - 1][1] if i else 0 : bounds[i][0] if after else len(plain)],
                after.lead if after else "",
            )
        )
    return [
        _trimmed(slot, n_lead=gaps[i][1], n_trail=gaps[i + 1][0]) for i, slot in enumerate(placed)
    ]


def _trimmed(slot: _Slot, n_lead: int, n_trail: int) -> _Slot:
    """The slot with so many characters of its outer white space."""
    cut = len(slot.lead) - n_lead
    return replace(
        slot,
        text_start=slot.text_start + cut,
        text=slot.text[cut : len(slot.text) - len(slot.trail) + n_trail],
        start=slot.start - n_lead,
        end=slot.end + n_trail,
    )


def _kept_spaces(trail: str, gap: str, scaffold: str, lead: str) -> tuple[int, int]:
    """How much of a gap is the end of the text before and the start of the text after it."""
    for n_trail in range(len(trail), -1, -1):
        n_lead = len(gap) - len(scaffold) - n_trail
        expected = trail[:n_trail] + scaffold + lead[len(lead) - n_lead :]
        if 0 <= n_lead <= len(lead) and gap == expected:
            return n_trail, n_lead
    return 0, 0
