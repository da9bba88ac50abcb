"""Where the labelled spans of transcripts stand among the rows of an activation store."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from mechprobe.errors import LabelError
from mechprobe.transcripts.transcript import SECTIONS, Transcript

SPAN_COLUMNS = (
    "span_id",
    "transcript_id",
    "conversation",
    "indicator",
    "present",
    "message",
    "turn",
    "section",
    "start",
    "end",
    "first_row",
    "last_row",
    "n_tokens",
    "after_row",
)
_KEY = ("conversation", "message", "section")


@dataclass(frozen=True, kw_only=True, slots=True)
class SpanRows:
    """Spans with their rows, and those of which no token is stored."""

    found: pd.DataFrame
    """Columns SPAN_COLUMNS; `after_row` is the row of the token just after the span, -1 if not stored."""
    missing: pd.DataFrame
    """The same columns without rows: the tokens were dropped by the template, cut off or not selected."""


def span_table(tokens: pd.DataFrame, transcripts: Sequence[Transcript]) -> pd.DataFrame:
    """One row for each span that has stored tokens (columns SPAN_COLUMNS); see `locate_spans`."""
    return locate_spans(tokens, transcripts).found


def locate_spans(tokens: pd.DataFrame, transcripts: Sequence[Transcript]) -> SpanRows:
    """Find the rows whose characters overlap each span.

    Args:
        tokens: the store's token table.
        transcripts: those that were captured, in the same order; more spans than at capture are fine.

    Raises:
        LabelError: the store was captured from other transcripts.
    """
    _check_same_transcripts(tokens, transcripts)
    spans = _spans_of(transcripts)
    first, stop, rows = _overlap(tokens, spans)
    is_found = first < stop
    first, stop = first[is_found], stop[is_found]
    found: Any = spans[is_found].reset_index(drop=True)
    found["first_row"] = rows[first]
    found["last_row"] = rows[stop - 1]
    found["n_tokens"] = stop - first
    found["after_row"] = _next_rows(tokens, rows[stop - 1])
    missing: Any = spans[~is_found].reset_index(drop=True)
    return SpanRows(found=found[list(SPAN_COLUMNS)], missing=missing)


def span_tokens(spans: pd.DataFrame) -> pd.DataFrame:
    """One row for each token of each span: columns `row` and `span` (position in `spans`)."""
    first, last = _column(spans, "first_row"), _column(spans, "last_row")
    lengths = last - first + 1
    span = np.repeat(np.arange(len(spans)), lengths)
    inside = np.arange(len(span)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return pd.DataFrame({"row": first[span] + inside, "span": span})


def _check_same_transcripts(tokens: pd.DataFrame, transcripts: Sequence[Transcript]) -> None:
    seen: Any = tokens[["conversation", "transcript_id"]].drop_duplicates()
    for conversation, name in seen.itertuples(index=False):
        if conversation >= len(transcripts) or transcripts[conversation].id != name:
            found = transcripts[conversation].id if conversation < len(transcripts) else "nothing"
            raise LabelError(
                f"the store's conversation {conversation} is {name!r}, the transcripts given have {found!r} "
                "there; give the transcripts that were captured, in the same order."
            )


def _spans_of(transcripts: Sequence[Transcript]) -> pd.DataFrame:
    columns = ("span_id", "transcript_id", "conversation", "indicator", "present")
    columns += ("message", "turn", "section", "start", "end")
    records = [
        (
            f"{transcript.id}#{index}",
            transcript.id,
            conversation,
            span.indicator,
            span.present,
            span.message,
            transcript.messages[span.message].turn,
            span.section,
            span.start,
            span.end,
        )
        for conversation, transcript in enumerate(transcripts)
        for index, span in enumerate(transcript.spans)
    ]
    return pd.DataFrame(records, columns=list(columns))


def _overlap(
    tokens: pd.DataFrame, spans: pd.DataFrame
) -> tuple[Int[np.ndarray, "span"], Int[np.ndarray, "span"], Int[np.ndarray, "text_tok"]]:
    """For each span the first and one past the last of its tokens, as places in the third array, of rows."""
    rows = np.flatnonzero(_codes(tokens, "section") >= 0)
    texts = tokens.iloc[rows]
    group, span_group = _shared_groups(texts, spans)
    starts, ends = _column(texts, "char_start"), _column(texts, "char_end")
    order = np.lexsort((starts, group))
    span_starts, span_ends = _column(spans, "start"), _column(spans, "end")
    # One sorted key for (group, character): a group's characters never reach the next group's.
    stride = max(int(ends.max(initial=0)), int(span_ends.max(initial=0))) + 2
    base, span_base = group[order] * stride, span_group * stride
    first = np.searchsorted(base + ends[order], span_base + span_starts, side="right")
    stop = np.searchsorted(base + starts[order], span_base + span_ends, side="left")
    return first, np.where(span_group < 0, first, stop), rows[order]


def _shared_groups(
    texts: pd.DataFrame, spans: pd.DataFrame
) -> tuple[Int[np.ndarray, "tok"], Int[np.ndarray, "span"]]:
    """Numbers of the texts that tokens and spans stand in; -1 for a span whose text has no token."""
    keys = pd.MultiIndex.from_arrays([_codes(texts, name) for name in _KEY])
    unique = keys.unique()
    wanted = pd.MultiIndex.from_arrays([_codes(spans, name) for name in _KEY])
    return unique.get_indexer(keys), unique.get_indexer(wanted)


def _codes(table: pd.DataFrame, name: str) -> Int[np.ndarray, "row"]:
    if name != "section":
        return _column(table, name)
    return pd.Index(SECTIONS).get_indexer(pd.Index(table[name])).astype(np.int64)


def _column(table: pd.DataFrame, name: str) -> np.ndarray:
    column: Any = table[name]
    return np.asarray(column, dtype=np.int64)


def _next_rows(tokens: pd.DataFrame, last: Int[np.ndarray, "span"]) -> Int[np.ndarray, "span"]:
    conversation, position = _column(tokens, "conversation"), _column(tokens, "position")
    after = np.minimum(last + 1, len(tokens) - 1)
    follows = (conversation[after] == conversation[last]) & (position[after] == position[last] + 1)
    return np.where(follows, last + 1, -1)
