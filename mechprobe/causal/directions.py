"""Directions at a site, fitted where no verdict is measured.

The default is the difference of means between spans that hold the indicator and hard negatives that only look like
it (Marks and Tegmark, arXiv 2310.06824): it is the direction that interchange moves most. Probe weights and SAE
decoder rows come in through `direction_along` and are judged in the same way.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import einsum
from jaxtyping import Bool, Float
from torch import Tensor

from mechprobe.causal.places.sites import Position, Site
from mechprobe.errors import DataError, ShapeError
from mechprobe.models.batches import TokenBatch
from mechprobe.models.subject import Subject
from mechprobe.transcripts.transcript import Transcript

DIFF_OF_MEANS = "diff_of_means"
REPLICATE = "~"
"""Between the name of a direction and the number of its replicate."""
MIN_SPANS = 4

PartOf = Callable[[Tensor], Tensor]
"""Activations [..., d] -> the part of each that something stands for, of the same shape."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Direction:
    """A unit vector at a site that stands for an indicator."""

    indicator: str
    name: str
    """How it was made, such as "diff_of_means", "dense_logistic" or "sae_best_feature"."""
    vector: Float[Tensor, "d"]
    gap: float
    """Mean coordinate where the indicator is held minus where it only looks so, in activation units."""
    part_of: PartOf | None = None
    """What it contributes to an activation, where that is not the projection on the vector (SAE features)."""

    def part(self, acts: Float[Tensor, "*case d"]) -> Float[Tensor, "*case d"]:
        """The part of activations that an interchange swaps."""
        if self.part_of is not None:
            return self.part_of(acts)
        return einsum(acts, self.vector, "... d, d -> ...")[..., None] * self.vector

    def coordinate(self, acts: Float[Tensor, "*case d"]) -> Float[Tensor, "*case"]:
        """Length of that part along the vector."""
        return einsum(self.part(acts), self.vector, "... d, d -> ...")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SpanActs:
    """Activations at a site, one row a labelled span (the mean, where the site is several tokens)."""

    site: Site
    acts: Float[Tensor, "span d"]
    indicator: tuple[str, ...]
    is_present: Bool[Tensor, "span"]

    def of(self, indicator: str) -> tuple[Float[Tensor, "span_of d"], Bool[Tensor, "span_of"]]:
        """The rows and labels of one indicator."""
        chosen = torch.tensor([name == indicator for name in self.indicator], dtype=torch.bool)
        return self.acts[chosen], self.is_present[chosen]


def span_acts(
    subject: Subject,
    transcripts: Iterable[Transcript],
    site: Site,
    *,
    max_spans: int = 400,
    batch_size: int = 128,
) -> SpanActs:
    """Capture the labelled spans of transcripts at a site, at most `max_spans` of each indicator and label.

    Raises:
        DataError: no span was found.
    """
    rows = _span_rows(subject, transcripts, site.position, max_spans)
    if not rows:
        raise DataError(
            "no labelled span was found to fit directions on; give transcripts of the fit split with spans."
        )
    rows.sort(key=lambda row: len(row.token_ids))
    found: list[Tensor] = []
    for start in range(0, len(rows), batch_size):
        chunk = rows[start : start + batch_size]
        batch = TokenBatch.of([row.token_ids for row in chunk], subject.pad_id)
        acts = subject.capture(batch, [site.hook_name])[site.hook_name]
        for index, row in enumerate(chunk):
            found += [acts[index, tokens].float().mean(0) for tokens in row.tokens]
    return SpanActs(
        site=site,
        acts=torch.stack(found),
        indicator=tuple(name for row in rows for name in row.indicators),
        is_present=torch.tensor([held for row in rows for held in row.is_present]),
    )


def fit_directions(spans: SpanActs, indicators: Sequence[str]) -> list[Direction]:
    """The difference-of-means direction of each indicator.

    Raises:
        DataError: an indicator lacks spans that hold it or hard negatives.
    """
    directions: list[Direction] = []
    for indicator in indicators:
        acts, is_present = spans.of(indicator)
        check_both(indicator, is_present)
        difference = acts[is_present].mean(0) - acts[~is_present].mean(0)
        directions.append(
            direction_along(spans, indicator=indicator, name=DIFF_OF_MEANS, vector=difference)
        )
    return directions


def refit_directions(
    spans: SpanActs, indicators: Sequence[str], n: int, *, seed: int
) -> list[Direction]:
    """The difference of means of each indicator again, from random halves of its spans.

    Raises:
        DataError: an indicator lacks spans that hold it or hard negatives.
    """
    directions: list[Direction] = []
    generator = torch.Generator().manual_seed(seed)
    for indicator in indicators:
        acts, is_present = spans.of(indicator)
        check_both(indicator, is_present)
        for replicate in range(1, n + 1):
            means = [
                some[torch.randperm(len(some), generator=generator)[: (len(some) + 1) // 2]].mean(0)
                for some in (acts[is_present], acts[~is_present])
            ]
            name = f"{DIFF_OF_MEANS}{REPLICATE}{replicate}"
            directions.append(
                direction_along(spans, indicator=indicator, name=name, vector=means[0] - means[1])
            )
    return directions


def direction_along(
    spans: SpanActs, *, indicator: str, name: str, vector: Float[Tensor, "d"]
) -> Direction:
    """A direction along any vector, with its natural gap measured on labelled spans.

    Raises:
        ShapeError: the vector is not as wide as the site, or it is zero or not finite.
        DataError: the indicator lacks spans that hold it or hard negatives.
    """
    acts, is_present = spans.of(indicator)
    check_both(indicator, is_present)
    length = float(vector.norm())
    if len(vector) != acts.shape[-1] or not np.isfinite(length) or length == 0:
        raise ShapeError(
            f"direction {name!r} of {indicator!r} has {len(vector)} numbers and length {length}; "
            f"{spans.site.hook_name} has {acts.shape[-1]} and the length must be finite and above 0."
        )
    unit = (vector / length).float()
    coordinate = einsum(acts, unit, "span d, d -> span")
    gap = float(coordinate[is_present].mean() - coordinate[~is_present].mean())
    return Direction(indicator=indicator, name=name, vector=unit, gap=gap)


def probe_pattern(
    spans: SpanActs, *, indicator: str, name: str, weight: Float[Tensor, "d"]
) -> Direction:
    """The direction in which activations move when a linear probe's score moves: covariance times weight.

    A probe's weight is a filter: it also cancels what disturbs the reading, and so points away from what the model
    writes. Interchange along the weight itself hardly moves the thought; along the pattern it does (Haufe et al.,
    NeuroImage 87, 2014, eq. 6). The weight is that of raw activations: divide by the standardiser's scale first.

    Raises:
        ShapeError, DataError: see `direction_along`.
    """
    acts, _is_present = spans.of(indicator)
    if len(weight) != acts.shape[-1]:
        return direction_along(spans, indicator=indicator, name=name, vector=weight)
    centred = acts - acts.mean(0)
    scores = einsum(centred, weight.float(), "span d, d -> span")
    pattern = einsum(centred, scores, "span d, span -> d")
    return direction_along(spans, indicator=indicator, name=name, vector=pattern)


def check_both(indicator: str, is_present: Bool[Tensor, "span_of"]) -> None:
    """Raise a DataError unless an indicator has enough spans of both labels."""
    n_present = int(is_present.sum())
    n_absent = len(is_present) - n_present
    if min(n_present, n_absent) < MIN_SPANS:
        raise DataError(
            f"indicator {indicator!r} has {n_present} spans that hold it and {n_absent} hard negatives to "
            f"fit a direction on; at least {MIN_SPANS} of each are needed."
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _TranscriptSpans:
    token_ids: list[int]
    tokens: list[list[int]]
    indicators: list[str]
    is_present: list[bool]


def _span_rows(
    subject: Subject, transcripts: Iterable[Transcript], position: Position, max_spans: int
) -> list[_TranscriptSpans]:
    taken: dict[tuple[str, bool], int] = {}
    rows: list[_TranscriptSpans] = []
    for transcript in transcripts:
        wanted = [s for s in transcript.spans if taken.get((s.indicator, s.present), 0) < max_spans]
        if not wanted:
            continue
        rendering = subject.render(transcript)
        row = _TranscriptSpans(token_ids=[], tokens=[], indicators=[], is_present=[])
        for span in wanted:
            tokens = _at(rendering.tokens_of(span).tolist(), position)
            if tokens[-1] >= len(rendering.token_ids):
                continue
            taken[span.indicator, span.present] = taken.get((span.indicator, span.present), 0) + 1
            row.tokens.append(tokens)
            row.indicators.append(span.indicator)
            row.is_present.append(span.present)
        if row.tokens:
            row.token_ids.extend(rendering.token_ids[: max(t[-1] for t in row.tokens) + 1].tolist())
            rows.append(row)
    return rows


def _at(span: list[int], position: Position) -> list[int]:
    if position == "decision":
        raise DataError(
            "directions are fitted in or right after the span; the decision token has no span of its own."
        )
    return {
        "span_first": span[:1],
        "span_last": span[-1:],
        "span_all": span,
        "after_span": [span[-1] + 1],
    }[position]
