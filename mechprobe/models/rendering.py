"""A transcript as the model reads it: token ids, and for each token where it stands in the conversation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from mechprobe.errors import LabelError
from mechprobe.models.alignment import Alignment
from mechprobe.models.dropped import Dropped
from mechprobe.models.headers import Scaffold, scaffold_pieces
from mechprobe.models.pieces import Piece
from mechprobe.models.templates import align_with_template
from mechprobe.models.windows import Window, cut_windows
from mechprobe.transcripts.transcript import Section, Span, Transcript

ROLES = ("none", "system", "user", "assistant", "tool")
SECTIONS = ("scaffold", "header", "reasoning", "answer", "tool_call")
TOKEN_COLUMNS = (
    "conversation",
    "transcript_id",
    "position",
    "token_id",
    "message",
    "turn",
    "role",
    "section",
    "char_start",
    "char_end",
)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Rendering:
    """One rendered transcript; arrays have one entry a token."""

    transcript_id: str
    text: str
    token_ids: Int[np.ndarray, "tok"]
    message: Int[np.ndarray, "tok"]
    """Index into the transcript's messages, -1 where the text belongs to none (BOS, an injected system turn)."""
    turn: Int[np.ndarray, "tok"]
    role: Int[np.ndarray, "tok"]
    """Code into ROLES."""
    section: Int[np.ndarray, "tok"]
    """Code into SECTIONS."""
    char_start: Int[np.ndarray, "tok"]
    """Bounds inside `message.text(section)`; -1 for scaffold and headers."""
    char_end: Int[np.ndarray, "tok"]
    dropped: tuple[Dropped, ...] = ()
    windows: tuple[Window, ...] = ()
    """The sequences to run; one that holds everything unless the model reads short windows."""

    def tokens_of(self, span: Span) -> Int[np.ndarray, "span_tok"]:
        """Positions of the tokens that overlap a span.

        Raises:
            LabelError: the span's text was not rendered, or was cut off.
        """
        inside = (self.message == span.message) & (self.section == SECTIONS.index(span.section))
        found = np.flatnonzero(inside & (self.char_end > span.start) & (self.char_start < span.end))
        lost = [d for d in self.dropped if (d.message, d.section) == (span.message, span.section)]
        is_cut = bool(lost) and (not len(found) or self.char_end[found[-1]] < span.end)
        if is_cut or not len(found):
            reason = lost[0].reason if lost else "no token stands there"
            raise LabelError(
                f"transcript {self.transcript_id!r}: the {span.section} of message {span.message}, characters "
                f"{span.start} to {span.end} ({span.indicator!r}), is not in the rendered text: {reason}."
            )
        return found


def render(
    transcript: Transcript,
    tokenizer: Any,
    *,
    chat_template: str | None = None,
    window: int | None = None,
    max_tokens: int | None = None,
) -> Rendering:
    """Render a transcript through a chat template and trace every token to its text.

    Args:
        tokenizer: a fast one, since tokens are traced by their character offsets.
        chat_template: Jinja text that replaces the tokenizer's own template.
        window: cut the conversation into sequences of at most this many tokens, special tokens included.
        max_tokens: keep only so many tokens from the start; the texts cut off are recorded as dropped.

    Raises:
        ModelError: there is no chat template, or it refuses the conversation.
    """
    alignment = align_with_template(transcript, tokenizer, chat_template)
    # The template's text holds all special tokens; the tokenizer would add the first a second time.
    encoding = tokenizer(
        alignment.text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
    )
    token_ids = np.array(encoding["input_ids"][:max_tokens], dtype=np.int64)
    offsets = np.array(encoding["offset_mapping"][:max_tokens], dtype=np.int64).reshape(-1, 2)
    is_cut = len(token_ids) < len(encoding["input_ids"])
    cut = _cut_off(alignment, int(offsets[-1, 1]), len(token_ids)) if is_cut else ()
    return Rendering(
        transcript_id=transcript.id,
        text=alignment.text,
        token_ids=token_ids,
        dropped=(*alignment.dropped, *cut),
        windows=cut_windows(token_ids, tokenizer, window),
        **_columns(transcript, alignment, offsets),
    )


def _cut_off(alignment: Alignment, end: int, n_tokens: int) -> tuple[Dropped, ...]:
    lost: dict[tuple[int, Section], None] = {
        (piece.message, piece.section): None for piece in alignment.pieces if piece.end > end
    }
    reason = f"cut off after {n_tokens} tokens"
    return tuple(Dropped(message=m, section=s, reason=reason) for m, s in lost)


def _columns(
    transcript: Transcript, alignment: Alignment, offsets: Int[np.ndarray, "tok 2"]
) -> dict[str, Int[np.ndarray, "tok"]]:
    """Where each token stands: it belongs to the first text that it touches, else to the scaffold that it starts in."""
    scaffold = scaffold_pieces(transcript, alignment.text, alignment.pieces)
    pieces = sorted([*alignment.pieces, *scaffold], key=lambda piece: piece.start)
    table = np.array([_numbers(piece) for piece in pieces], dtype=np.int64).reshape(-1, 7)
    ends = table[:, 1]
    first = np.searchsorted(ends, offsets[:, 0], side="right").clip(max=len(pieces) - 1)
    last_char = np.maximum(offsets[:, 1] - 1, offsets[:, 0])
    last = np.searchsorted(ends, last_char, side="right").clip(max=len(pieces) - 1)
    next_text, previous_text, owner_end = _neighbours(table)
    is_text = next_text[first] <= last
    first = np.where(is_text, next_text[first], first)
    last = np.where(is_text, np.minimum(previous_text[last], owner_end[first]), last)
    begin, finish = table[first], table[last]
    message = begin[:, 2]
    inside = np.maximum(offsets[:, 0] - begin[:, 0], 0) * (1 - begin[:, 6])
    outside = np.maximum(finish[:, 1] - offsets[:, 1], 0) * (1 - finish[:, 6])
    roles = np.array([0, *(ROLES.index(m.role) for m in transcript.messages)])
    turns = np.array([0, *(m.turn for m in transcript.messages)])
    return {
        "message": message,
        "turn": turns[message + 1],
        "role": roles[message + 1],
        "section": begin[:, 3],
        "char_start": np.where(is_text, begin[:, 4] + inside, -1),
        "char_end": np.where(is_text, finish[:, 5] - outside, -1),
    }


def _numbers(piece: Piece | Scaffold) -> tuple[int, int, int, int, int, int, int]:
    """Bounds, message, code of the section, bounds in its text, and whether these hold for the whole piece only."""
    place = piece.start, piece.end, piece.message
    if isinstance(piece, Scaffold):
        return *place, SECTIONS.index("header" if piece.is_header else "scaffold"), -1, -1, 0
    code = SECTIONS.index(piece.section)
    return *place, code, piece.text_start, piece.text_end, int(piece.is_block)


def _neighbours(
    table: Int[np.ndarray, "piece 7"],
) -> tuple[Int[np.ndarray, "piece"], Int[np.ndarray, "piece"], Int[np.ndarray, "piece"]]:
    """For each piece: the next piece of text from it on, the last one up to it, and the last of the same text."""
    n, index = len(table), np.arange(len(table))
    is_text = table[:, 3] >= SECTIONS.index("reasoning")
    next_text = np.minimum.accumulate(np.where(is_text, index, n)[::-1])[::-1]
    previous_text = np.maximum.accumulate(np.where(is_text, index, -1))
    owner = table[:, 2] * len(SECTIONS) + table[:, 3]
    changes = np.append(np.flatnonzero(np.diff(owner)), n - 1)
    owner_end = changes[np.searchsorted(changes, index)]
    return next_text, previous_text, owner_end


def token_table(renderings: Sequence[Rendering]) -> Any:
    """The token table of many conversations (TOKEN_COLUMNS), one row a token."""
    lengths = [len(rendering.token_ids) for rendering in renderings]
    names = list(dict.fromkeys(rendering.transcript_id for rendering in renderings))
    code_of = {name: code for code, name in enumerate(names)}
    codes = np.array([code_of[rendering.transcript_id] for rendering in renderings], np.int32)

    def stack(field: str, kind: Any) -> Any:
        parts = [getattr(rendering, field) for rendering in renderings]
        return np.concatenate(parts).astype(kind) if parts else np.zeros(0, kind)

    conversation = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    columns = {
        "conversation": pa.array(conversation),
        "transcript_id": _coded(np.repeat(codes, lengths), names),
        "position": pa.array(
            np.concatenate(
                [np.arange(n, dtype=np.int32) for n in lengths] or [np.zeros(0, np.int32)]
            )
        ),
        "token_id": pa.array(stack("token_ids", np.int32)),
        "message": pa.array(stack("message", np.int32)),
        "turn": pa.array(stack("turn", np.int32)),
        "role": _coded(stack("role", np.int8), ROLES),
        "section": _coded(stack("section", np.int8), SECTIONS),
        "char_start": pa.array(stack("char_start", np.int32)),
        "char_end": pa.array(stack("char_end", np.int32)),
    }
    return pa.table({name: columns[name] for name in TOKEN_COLUMNS})


def _coded(codes: Int[np.ndarray, "tok"], names: Sequence[str]) -> Any:
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(names, pa.string()))
