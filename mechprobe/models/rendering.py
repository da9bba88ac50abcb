"""A transcript as the model reads it: token ids, and for each token where it stands in the conversation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from mechprobe.errors import LabelError, ModelError
from mechprobe.models.alignment import Alignment, Dropped, align
from mechprobe.models.headers import TracedPiece, trace_pieces
from mechprobe.transcripts.transcript import Span, Transcript

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
class Window:
    """One sequence that the model reads: a stretch of the conversation, with special tokens around it."""

    token_ids: Int[np.ndarray, "pos"]
    tokens: Int[np.ndarray, "pos"]
    """Which token of the rendering stands at each position, -1 for an added special token."""


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
            LabelError: the chat template did not render the span's text.
        """
        section = SECTIONS.index(span.section)
        inside = (self.message == span.message) & (self.section == section)
        found = np.flatnonzero(inside & (self.char_end > span.start) & (self.char_start < span.end))
        if not len(found):
            raise LabelError(
                f"transcript {self.transcript_id!r}: the {span.section} of message {span.message} that holds a "
                f"span of {span.indicator!r} was not rendered; the chat template leaves it out."
            )
        return found


def render(
    transcript: Transcript,
    tokenizer: Any,
    *,
    chat_template: str | None = None,
    window: int | None = None,
    template_options: Mapping[str, Any] | None = None,
) -> Rendering:
    """Render a transcript through a chat template and trace every token to its text.

    Args:
        chat_template: Jinja text that replaces the tokenizer's own template.
        window: cut the conversation into sequences of at most this many tokens, special tokens included.
        template_options: further variables of the template, such as {"enable_thinking": True}.

    Raises:
        ModelError: there is no chat template, it refuses the conversation, or the tokenizer gives no offsets.
    """
    alignment = align(transcript, _renderer(tokenizer, chat_template, template_options or {}))
    token_ids, offsets = _tokenize(tokenizer, alignment.text)
    columns = _columns(transcript, alignment, offsets)
    return Rendering(
        transcript_id=transcript.id,
        text=alignment.text,
        token_ids=token_ids,
        dropped=alignment.dropped,
        windows=_windows(token_ids, tokenizer, window),
        **columns,
    )


def token_table(renderings: Sequence[Rendering]) -> Any:
    """The token table of many conversations (TOKEN_COLUMNS), one row a token."""
    lengths = [len(rendering.token_ids) for rendering in renderings]
    names = pa.array([rendering.transcript_id for rendering in renderings])

    def stack(field: str, kind: Any) -> Any:
        parts = [getattr(rendering, field) for rendering in renderings]
        return np.concatenate(parts).astype(kind) if parts else np.zeros(0, kind)

    conversation = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    columns = {
        "conversation": pa.array(conversation),
        "transcript_id": pa.DictionaryArray.from_arrays(pa.array(conversation), names),
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


def _coded(codes: Int[np.ndarray, "tok"], names: tuple[str, ...]) -> Any:
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(names))


def _renderer(tokenizer: Any, chat_template: str | None, options: Mapping[str, Any]) -> Any:
    if chat_template is None and not getattr(tokenizer, "chat_template", None):
        raise ModelError(
            f"the tokenizer of {tokenizer.name_or_path or 'this model'} has no chat template; set "
            'chat_template = "plain", or the path of a Jinja file.'
        )

    def render_messages(messages: Sequence[dict[str, Any]]) -> str:
        from jinja2 import TemplateError

        try:
            return str(
                tokenizer.apply_chat_template(
                    list(messages), tokenize=False, chat_template=chat_template, **options
                )
            )
        except TemplateError as error:
            raise ModelError(
                f'the chat template refuses a conversation ({error}); use chat_template="plain" or a '
                "template file of your own."
            ) from error

    return render_messages


def _tokenize(tokenizer: Any, text: str) -> tuple[Int[np.ndarray, "tok"], Int[np.ndarray, "tok 2"]]:
    """Token ids and character offsets; special tokens come from the template's text alone."""
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            "this tokenizer gives no character offsets (it is not a fast one), so tokens cannot be traced "
            "to their text; save it with its fast version (tokenizer.json)."
        )
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return (
        np.array(found["input_ids"], dtype=np.int64),
        np.array(found["offset_mapping"], dtype=np.int64).reshape(-1, 2),
    )


def _columns(
    transcript: Transcript, alignment: Alignment, offsets: Int[np.ndarray, "tok 2"]
) -> dict[str, Int[np.ndarray, "tok"]]:
    pieces = trace_pieces(transcript, alignment)
    which = _piece_of_token(pieces, offsets)
    message = np.array([piece.message for piece in pieces])[which]
    section = np.array([SECTIONS.index(piece.section) for piece in pieces])[which]
    shift = np.array([piece.text_start - piece.start for piece in pieces])[which]
    starts = np.array([piece.start for piece in pieces])[which]
    ends = np.array([piece.end for piece in pieces])[which]
    is_text = section >= SECTIONS.index("reasoning")
    roles = np.array([0, *(ROLES.index(m.role) for m in transcript.messages)])
    turns = np.array([0, *(m.turn for m in transcript.messages)])
    return {
        "message": message,
        "turn": turns[message + 1],
        "role": roles[message + 1],
        "section": section,
        "char_start": np.where(is_text, np.maximum(offsets[:, 0], starts) + shift, -1),
        "char_end": np.where(is_text, np.minimum(offsets[:, 1], ends) + shift, -1),
    }


def _piece_of_token(
    pieces: Sequence[TracedPiece], offsets: Int[np.ndarray, "tok 2"]
) -> Int[np.ndarray, "tok"]:
    """The piece that a token belongs to: a text that it touches before scaffold, else the one it starts in."""
    ends = np.array([piece.end for piece in pieces])
    is_text = np.array([piece.section not in ("scaffold", "header") for piece in pieces])
    first = np.minimum(np.searchsorted(ends, offsets[:, 0], side="right"), len(pieces) - 1)
    last = np.searchsorted(ends, np.maximum(offsets[:, 1] - 1, offsets[:, 0]), side="right")
    last = np.minimum(last, len(pieces) - 1)
    chosen = first.copy()
    for token in np.flatnonzero((first != last) & ~is_text[first]):
        touched = np.arange(first[token], last[token] + 1)
        texts = touched[is_text[touched]]
        chosen[token] = texts[0] if len(texts) else first[token]
    return chosen


def _windows(
    token_ids: Int[np.ndarray, "tok"], tokenizer: Any, window: int | None
) -> tuple[Window, ...]:
    """Consecutive stretches, each with the special tokens that the tokenizer puts round a sequence."""
    everything = np.arange(len(token_ids))
    if window is None:
        return (Window(token_ids=token_ids, tokens=everything),)
    before, after = _special_tokens(tokenizer)
    room = window - len(before) - len(after)
    if room < 1:
        raise ModelError(f"window is {window}; it must leave room beside the special tokens.")
    outside_before, outside_after = np.full(len(before), -1), np.full(len(after), -1)
    return tuple(
        Window(
            token_ids=np.concatenate([before, token_ids[start : start + room], after]),
            tokens=np.concatenate(
                [outside_before, everything[start : start + room], outside_after]
            ),
        )
        for start in range(0, len(token_ids), room)
    )


def _special_tokens(
    tokenizer: Any,
) -> tuple[Int[np.ndarray, "before"], Int[np.ndarray, "after"]]:
    """What the tokenizer puts before and after a sequence, such as [CLS] and [SEP]."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a", add_special_tokens=True)["input_ids"]
    start = next((i for i in range(len(full)) if full[i : i + len(bare)] == bare), 0)
    before, after = full[:start], full[start + len(bare) :]
    return np.array(before, dtype=np.int64), np.array(after, dtype=np.int64)
