"""Directions at the tokens before a thought is written, where there is still something to steer.

At the tokens of a written thought the choice is made: steering there moves what follows from the thought, and hardly
whether it is thought. The tokens before each of its tokens are where it is chosen (CAUSAL.md section 8: the difference
of means before the plan moved the rate of bad plans from .03 to .96, that on the plan's own tokens did nothing).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mechprobe.causal.directions import MIN_SPANS, Direction
from mechprobe.errors import DataError
from mechprobe.models.batches import TokenBatch
from mechprobe.models.subject import Subject
from mechprobe.transcripts.transcript import Span, Transcript

WRITING = "writing"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class WritingActs:
    """Activations at the tokens before those of each labelled span, averaged: one row a span."""

    hook_name: str
    acts: Float[Tensor, "span d"]
    indicator: tuple[str, ...]
    is_present: Bool[Tensor, "span"]

    def is_held(self, indicator: str) -> Bool[Tensor, "span"]:
        """The spans in which this thought is written and held."""
        named = torch.tensor([name == indicator for name in self.indicator], dtype=torch.bool)
        return named & self.is_present


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class WritingDirection:
    """Where activations move when the thought is about to be written."""

    direction: Direction
    absent: float
    """Mean coordinate before all other spans, at which an ablation holds it."""


def writing_acts(
    subject: Subject,
    transcripts: Iterable[Transcript],
    hook_name: str,
    *,
    n_transcripts: int = 600,
    batch_size: int = 64,
) -> WritingActs:
    """Capture the tokens before each token of the labelled spans of the first transcripts.

    Raises:
        DataError: no labelled span was found.
    """
    kept = [one for one, _ in zip(transcripts, range(n_transcripts), strict=False) if one.spans]
    rows: list[Tensor] = []
    spans: list[Span] = []
    for start in range(0, len(kept), batch_size):
        chunk = kept[start : start + batch_size]
        renderings = [subject.render(transcript) for transcript in chunk]
        batch = TokenBatch.of([one.token_ids.tolist() for one in renderings], subject.pad_id)
        acts = subject.capture(batch, [hook_name])[hook_name]
        for row, (transcript, rendering) in enumerate(zip(chunk, renderings, strict=True)):
            for span in transcript.spans:
                before = np.maximum(rendering.tokens_of(span) - 1, 0)
                rows.append(acts[row, torch.as_tensor(before)].float().mean(0))
                spans.append(span)
    if not rows:
        raise DataError(
            "no labelled span was found to fit writing directions on; give transcripts of the fit split with spans."
        )
    return WritingActs(
        hook_name=hook_name,
        acts=torch.stack(rows),
        indicator=tuple(span.indicator for span in spans),
        is_present=torch.tensor([span.present for span in spans]),
    )


def writing_directions(acts: WritingActs, indicators: Sequence[str]) -> list[WritingDirection]:
    """The difference of means between tokens before the held thought and before every other span.

    The gap of each is the whole distance of the means, the natural push towards writing it.

    Raises:
        DataError: an indicator has too few held spans, or all spans are its own.
    """
    found: list[WritingDirection] = []
    for indicator in indicators:
        is_held = acts.is_held(indicator)
        n_held, n_other = int(is_held.sum()), int((~is_held).sum())
        if min(n_held, n_other) < MIN_SPANS:
            raise DataError(
                f"indicator {indicator!r} has {n_held} spans that hold it and {n_other} others to fit a writing "
                f"direction on; at least {MIN_SPANS} of each are needed."
            )
        other = acts.acts[~is_held].mean(0)
        difference = acts.acts[is_held].mean(0) - other
        gap = float(difference.norm())
        vector = difference / max(gap, 1e-12)
        direction = Direction(indicator=indicator, name=WRITING, vector=vector, gap=gap)
        found.append(WritingDirection(direction=direction, absent=float(other @ vector)))
    return found
