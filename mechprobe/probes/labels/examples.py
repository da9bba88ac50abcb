"""From labelled text to labelled rows: which tokens are positive, which negative, and which are left out.

Here: one row a span, at its last token, where a causal model has read all of it. `token_labels.label_tokens`
labels every token of the assistant.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Int, Int8

from mechprobe.errors import LabelError
from mechprobe.probes.rows import LEFT_OUT, NEGATIVE, POSITIVE

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
