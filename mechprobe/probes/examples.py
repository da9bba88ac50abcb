"""From labelled text to labelled rows: which tokens are positive, which negative, and which are left out.

Two ways to label. `span_last_tokens`: one row a span, at its last token, where a causal model has read all of it.
`span_all_tokens`: every token of the assistant; a token of a span is positive, a token of a turn without the
indicator negative, and the rest of a positive turn is left out (arXiv 2606.24251: the published probes were
trained so, whatever their read-me says).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int, Int8

from mechprobe.errors import LabelError
from mechprobe.probes.rows import LEFT_OUT, NEGATIVE, POSITIVE
from mechprobe.transcripts.transcript import SECTIONS, Section, Span, Transcript

MISALIGNED = "misaligned"
"""Name of the column that asks for any indicator at all."""

NOT_USED, SPAN, HARD_NEGATIVE, OTHER = 0, 1, 2, 3
KIND_NAMES = ("left_out", "span", "hard_negative", "other")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LabelledTokens:
    """Rows of a store with what they are to every indicator."""

    rows: Int[np.ndarray, "tok"]
    """Rows of the store."""
    kinds: Int8[np.ndarray, "tok indicator"]
    """0 left out, 1 in a span, 2 in a hard negative, 3 elsewhere."""
    conversation: Int[np.ndarray, "tok"]
    """Index of the transcript."""
    indicators: tuple[str, ...]

    @property
    def labels(self) -> Int8[np.ndarray, "tok indicator"]:
        """1 positive, 0 negative, -1 left out."""
        return labels_of(self.kinds)

    def take(self, chosen: np.ndarray) -> "LabelledTokens":
        """Some of the rows, by index or mask."""
        return LabelledTokens(
            rows=self.rows[chosen],
            kinds=self.kinds[chosen],
            conversation=self.conversation[chosen],
            indicators=self.indicators,
        )


def labels_of(kinds: Int8[np.ndarray, "tok indicator"]) -> Int8[np.ndarray, "tok indicator"]:
    """Kinds as labels: spans are positive, hard negatives and other tokens negative."""
    return np.array([LEFT_OUT, POSITIVE, NEGATIVE, NEGATIVE], dtype=np.int8)[kinds]


def span_last_tokens(
    spans: pd.DataFrame, indicators: Sequence[str], *, n_tokens: int
) -> LabelledTokens:
    """One row a span, in the table's order: the span's last token.

    It is a positive (or, if the indicator is not present, a hard negative) of its own indicator and another
    negative of the rest; where it also lies in a span of another indicator it is left out for that one.

    Args:
        spans: as made by `activations.rows.span_table`.
        n_tokens: rows of the store.

    Raises:
        LabelError: a span has an indicator that is not among `indicators`.
    """
    column = _columns(spans, indicators)
    rows = spans["last_row"].to_numpy(dtype=np.int64)
    covered = span_coverage(spans, indicators, n_tokens)[rows]
    kinds = np.where(covered == NOT_USED, OTHER, NOT_USED).astype(np.int8)
    own = np.where(spans["present"].to_numpy(dtype=bool), SPAN, HARD_NEGATIVE)
    kinds[np.arange(len(rows)), column] = own
    return LabelledTokens(
        rows=rows,
        kinds=kinds,
        conversation=spans["conversation"].to_numpy(dtype=np.int64),
        indicators=tuple(indicators),
    )


def span_all_tokens(
    tokens: pd.DataFrame,
    spans: pd.DataFrame,
    transcripts: Sequence[Transcript],
    indicators: Sequence[str],
    *,
    sections: Sequence[Section] = SECTIONS,
    max_negatives: int | None = None,
    seed: int = 0,
) -> LabelledTokens:
    """The assistant's tokens of labelled, not excluded transcripts; last column `MISALIGNED`, for any indicator.

    Args:
        tokens: the store's token table.
        max_negatives: tokens outside all spans that are kept of a transcript, drawn by `seed`; None: all.

    Raises:
        LabelError: a span has an indicator that is not among `indicators`.
    """
    usable = np.array([t.is_labelled and not t.excluded for t in transcripts], dtype=bool)
    conversation = tokens["conversation"].to_numpy(dtype=np.int64)
    is_read = (tokens["role"] == "assistant") & tokens["section"].isin(list(sections))
    rows = np.flatnonzero(is_read.to_numpy() & usable[conversation])
    covered = span_coverage(spans, indicators, len(tokens))[rows]
    in_any_span = (covered != NOT_USED).any(axis=1)
    if max_negatives is not None:
        kept = in_any_span | _draw(conversation[rows], ~in_any_span, max_negatives, seed)
        rows, covered = rows[kept], covered[kept]
    turn = tokens["turn"].to_numpy(dtype=np.int64)[rows]
    absent = ~_turn_labels(conversation[rows], turn, transcripts, indicators)
    kinds = np.where((covered == NOT_USED) & absent[:, :-1], OTHER, covered)
    anything = _any_column(covered, absent[:, -1])
    return LabelledTokens(
        rows=rows,
        kinds=np.concatenate([kinds, anything[:, None]], axis=1).astype(np.int8),
        conversation=conversation[rows],
        indicators=(*indicators, MISALIGNED),
    )


def span_coverage(
    spans: pd.DataFrame, indicators: Sequence[str], n_tokens: int
) -> Int8[np.ndarray, "tok indicator"]:
    """SPAN, HARD_NEGATIVE or NOT_USED for every row of the store; a span wins over a hard negative.

    Raises:
        LabelError: a span has an indicator that is not among `indicators`.
    """
    column = _columns(spans, indicators)
    present = spans["present"].to_numpy(dtype=bool)
    first = spans["first_row"].to_numpy(dtype=np.int64)
    last = spans["last_row"].to_numpy(dtype=np.int64)
    covered = np.zeros((n_tokens, len(indicators)), dtype=np.int8)
    for kind, chosen in ((HARD_NEGATIVE, ~present), (SPAN, present)):
        edges = np.zeros((n_tokens + 1, len(indicators)), dtype=np.int32)
        np.add.at(edges, (first[chosen], column[chosen]), 1)
        np.add.at(edges, (last[chosen] + 1, column[chosen]), -1)
        covered[np.cumsum(edges, axis=0)[:-1] > 0] = kind
    return covered


def _columns(spans: pd.DataFrame, indicators: Sequence[str]) -> np.ndarray:
    column = pd.Index(indicators).get_indexer(pd.Index(spans["indicator"]))
    if (column < 0).any():
        unknown = spans["indicator"].tolist()[int(np.argmin(column))]
        raise LabelError(
            f"a span has indicator {unknown!r}, which is not asked for; there are "
            f"{', '.join(indicators)}."
        )
    return column


def _turn_labels(
    conversation: np.ndarray,
    turn: np.ndarray,
    transcripts: Sequence[Transcript],
    indicators: Sequence[str],
) -> Bool[np.ndarray, "tok column"]:
    """Whether each token's turn has each indicator; last, whether it has any or is misaligned."""
    turns, of_token = np.unique(np.stack([conversation, turn]), axis=1, return_inverse=True)
    labels = np.zeros((turns.shape[1], len(indicators) + 1), dtype=bool)
    for row, (number, at) in zip(labels, turns.T, strict=True):
        transcript = transcripts[number]
        # A quotation may have been found in another turn than the labelled one: neither turn is clean.
        quoted = {s.indicator for s in transcript.present_spans if _turn_of(transcript, s) == at}
        found = transcript.indicators(int(at)) | quoted
        row[:-1] = [slug in found for slug in indicators]
        row[-1] = bool(found) or int(at) in (transcript.misaligned_turns or ())
    return labels[of_token.ravel()]


def _turn_of(transcript: Transcript, span: Span) -> int:
    return transcript.messages[span.message].turn


def _any_column(covered: np.ndarray, clean_turn: np.ndarray) -> np.ndarray:
    """A span of any indicator; a hard negative of a turn without any; another token of such a turn."""
    hard = (covered == HARD_NEGATIVE).any(axis=1)
    quiet = np.where(clean_turn, np.where(hard, HARD_NEGATIVE, OTHER), NOT_USED)
    return np.where((covered == SPAN).any(axis=1), SPAN, quiet)


def _draw(groups: np.ndarray, candidates: np.ndarray, n_each: int, seed: int) -> np.ndarray:
    """A mask of at most `n_each` candidates of each group."""
    place = np.flatnonzero(candidates)
    shuffled = np.random.default_rng(seed).permutation(place)
    by_group = shuffled[np.argsort(groups[shuffled], kind="stable")]
    ordered = groups[by_group]
    first = np.searchsorted(ordered, ordered, side="left")
    mask = np.zeros(len(groups), dtype=bool)
    mask[by_group[np.arange(len(by_group)) - first < n_each]] = True
    return mask
