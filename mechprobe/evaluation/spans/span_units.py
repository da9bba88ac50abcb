"""Spans of tokens as units: each span is one thing that a detector ranks high or low."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from mechprobe.errors import ShapeError
from mechprobe.evaluation.units import Units, highest_of_many_chance


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Spans:
    """Runs of tokens with a label: spans of an indicator, and spans or sentences without it."""

    first_row: Int[np.ndarray, "span"]
    """First token."""
    last_row: Int[np.ndarray, "span"]
    """Last token, which belongs to the span."""
    is_positive: Bool[np.ndarray, "span"]
    transcript: Int[np.ndarray, "span"]
    """Code of the span's transcript."""

    def __post_init__(self) -> None:
        lengths = {
            len(values)
            for values in (self.first_row, self.last_row, self.is_positive, self.transcript)
        }
        if len(lengths) > 1:
            raise ShapeError(
                f"first_row, last_row, is_positive and transcript have {sorted(lengths)} entries; give one "
                "of each for each span."
            )
        n_empty = int((self.last_row < self.first_row).sum())
        if n_empty:
            raise ShapeError(
                f"{n_empty} spans end before they start; last_row is the last token of the span."
            )


def span_units(
    token_scores: Float[np.ndarray, "tok"], spans: Spans, how: Literal["max", "mean"] = "mean"
) -> Units:
    """One unit for each span, scored by the mean or the highest of its tokens.

    The highest of many tokens is high by itself, so the chance level of "max" is that of the spans' lengths (for
    spans that share no token).

    Raises:
        ShapeError: a span ends after the last token.
    """
    if len(spans.last_row) and int(spans.last_row.max()) >= len(token_scores):
        raise ShapeError(
            f"a span ends at token {int(spans.last_row.max())} of {len(token_scores)}; take the scores of "
            "all tokens that the spans were made from."
        )
    n_tokens = spans.last_row - spans.first_row + 1
    reduce = np.maximum if how == "max" else np.add
    padded = np.r_[token_scores.astype(np.float64), 0.0]
    bounds = np.stack([spans.first_row, spans.last_row + 1], axis=1).ravel()
    # Every second run is what lies between two spans.
    scores = reduce.reduceat(padded, bounds)[::2] if len(bounds) else np.empty(0)
    is_positive = spans.is_positive
    chance = highest_of_many_chance(n_tokens[is_positive], n_tokens[~is_positive])
    return Units(
        scores=scores if how == "max" else scores / n_tokens,
        is_positive=is_positive,
        clusters=spans.transcript,
        chance=chance if how == "max" else 0.5,
    )
