"""Labelled spans of one indicator in two halves: one to fit on, one to read figures from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechprobe.causal.directions import SpanActs
from mechprobe.errors import DataError, ShapeError
from mechprobe.evaluation.units import Units
from mechprobe.transcripts.splits import grouped_folds

MIN_SPANS_OF_CLASS = 10
"""Spans of each class that each half needs."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SpanHalves:
    """No transcript has spans in both halves."""

    fit_acts: Float[Tensor, "fit d"]
    fit_present: Bool[Tensor, "fit"]
    held_acts: Float[Tensor, "held d"]
    held_present: Bool[Tensor, "held"]
    held_groups: Int[np.ndarray, "held"]

    def difference_of_means(self) -> Float[Tensor, "d"]:
        """Unit vector from the mean of spans that do not hold the indicator to that of those that do, fitted half."""
        means = [self.fit_acts[self.fit_present == held].mean(0) for held in (True, False)]
        return (means[0] - means[1]) / (means[0] - means[1]).norm().clamp(min=1e-12)

    def held_units(self, scores: Float[np.ndarray, "held"]) -> Units:
        """Scores of the held-out half with their labels and transcripts."""
        return Units(
            scores=scores, is_positive=self.held_present.numpy(), clusters=self.held_groups
        )


def halve(
    spans: SpanActs, indicator: str, *, groups: Sequence[str] | None = None, seed: int = 0
) -> SpanHalves:
    """Split the spans of an indicator in two, whole transcripts at a time.

    Args:
        groups: the transcript of each span of `spans`; None where no transcript has two spans of one indicator.

    Raises:
        DataError: a half lacks spans of a class.
        ShapeError: there is not one group for each span.
    """
    acts, is_present = spans.of(indicator)
    own = [str(i) for i in range(len(acts))]
    if groups is not None:
        if len(groups) != len(spans.indicator):
            raise ShapeError(
                f"{len(groups)} groups were given for {len(spans.indicator)} spans; give each span's transcript."
            )
        own = [g for g, name in zip(groups, spans.indicator, strict=True) if name == indicator]
    if len(set(own)) < 2:
        raise DataError(
            f"the {len(own)} spans of {indicator!r} come from {len(set(own))} transcripts; two halves need at least "
            "two: capture more transcripts."
        )
    is_held = torch.from_numpy(grouped_folds(own, 2, seed) == 1)
    _check(indicator, "fitted", is_present[~is_held])
    _check(indicator, "held-out", is_present[is_held])
    codes = np.unique(own, return_inverse=True)[1]
    return SpanHalves(
        fit_acts=acts[~is_held].float(),
        fit_present=is_present[~is_held],
        held_acts=acts[is_held].float(),
        held_present=is_present[is_held],
        held_groups=codes[is_held.numpy()],
    )


def _check(indicator: str, half: str, is_present: Bool[Tensor, "half"]) -> None:
    n_pos = int(is_present.sum())
    n_neg = len(is_present) - n_pos
    if min(n_pos, n_neg) < MIN_SPANS_OF_CLASS:
        raise DataError(
            f"the {half} half of {indicator!r} has {n_pos} spans that hold it and {n_neg} that do not; it needs "
            f"{MIN_SPANS_OF_CLASS} of each: capture more spans."
        )
