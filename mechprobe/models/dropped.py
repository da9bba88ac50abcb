"""What a chat template leaves out of a conversation."""

from collections.abc import Sequence
from dataclasses import dataclass

from mechprobe.models.messages import call_starts
from mechprobe.models.pieces import Piece
from mechprobe.transcripts.transcript import SECTIONS, Message, Section


@dataclass(frozen=True, kw_only=True, slots=True)
class Dropped:
    """A text that was not rendered, or not to its end."""

    message: int
    section: Section
    reason: str


def dropped_texts(messages: Sequence[Message], pieces: Sequence[Piece]) -> list[Dropped]:
    """The texts of which no piece was rendered, and the messages of which some tool calls were not."""
    rendered = {(piece.message, piece.section) for piece in pieces}
    lost: list[Dropped] = []
    for i, message in enumerate(messages):
        for section in SECTIONS:
            if message.text(section).strip() and (i, section) not in rendered:
                reason = "the chat template leaves it out or rewrites it"
                lost.append(Dropped(message=i, section=section, reason=reason))
        calls = [p for p in pieces if (p.message, p.section) == (i, "tool_call")]
        n_shown, n_calls = _shown_calls(message, calls), len(message.tool_calls)
        if 0 < n_shown < n_calls:
            reason = f"the chat template shows {n_shown} of its {n_calls} calls"
            lost.append(Dropped(message=i, section="tool_call", reason=reason))
    return lost


def _shown_calls(message: Message, pieces: Sequence[Piece]) -> int:
    """How many of a message's tool calls some piece is part of."""
    starts = call_starts(message.tool_calls)
    bounds = [
        (at, at + len(call.text)) for at, call in zip(starts, message.tool_calls, strict=True)
    ]
    return sum(any(p.text_start < b and p.text_end > a for p in pieces) for a, b in bounds)
