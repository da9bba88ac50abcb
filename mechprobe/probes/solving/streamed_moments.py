"""Probes in closed form from sums over the rows of a store: ridge, linear discriminants, differences of means."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.rows import NEGATIVE, POSITIVE
from mechprobe.probes.solving.logistic import check_positive, probes_of
from mechprobe.probes.solving.standardise import Scaling
from mechprobe.probes.solving.streaming import StoredRows, StreamedDesign, streamed_scaling


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StreamedMoments:
    """What ridge, linear discriminants and differences of means need, on standardised columns."""

    scaling: Scaling
    sums: Float[np.ndarray, "d class_indicator"]
    """Sums of the positives of every indicator, then of the negatives."""
    counts: Float[np.ndarray, "class_indicator"]
    grams: tuple[Float[np.ndarray, "d d"], ...]
    """Sum of x x' over the rows that each indicator uses."""


def streamed_moments(rows: StoredRows, *, device: str = "cpu") -> StreamedMoments:
    """Moments from two passes: one for the scale, one for the products.

    Args:
        device: where blocks are multiplied; tested on the CPU only.

    Raises:
        LabelError: a value is not finite.
    """
    scaling = streamed_scaling(rows)
    design = StreamedDesign(rows, scaling, device)
    n, d = len(rows.indicators), rows.width
    groups = [(rows.labels == which).T for which in (POSITIVE, NEGATIVE)]
    member = torch.from_numpy(np.concatenate(groups)).to(design.device)
    sums = torch.zeros(2 * n, d, dtype=torch.float64, device=design.device)
    total = torch.zeros(d, d, dtype=torch.float64, device=design.device)
    without = [torch.zeros(d, d, dtype=torch.float32, device=design.device) for _ in range(n)]
    for block in design.blocks():
        X: Any = block.X
        of_block = member[:, block.start : block.stop]
        sums += of_block.float() @ X
        total += X.mT @ X
        for at in range(n):
            # Few rows are left out, so that these products are cheaper than one for each indicator.
            out = X[~(of_block[at] | of_block[n + at])]
            if len(out):
                without[at] += out.mT @ out
    return StreamedMoments(
        scaling=scaling,
        sums=sums.cpu().numpy().T,
        counts=member.sum(dim=1).double().cpu().numpy(),
        grams=tuple((total - one).cpu().numpy() for one in without),
    )


def ridge_of(moments: StreamedMoments, strengths: Sequence[float]) -> list[tuple[LinearProbe, ...]]:
    """Least squares on +1 and -1, as `directions.fit_ridge` gives it."""
    check_positive(strengths, "l2_strength")
    n = len(moments.grams)
    weights, biases = [], []
    for at, gram in enumerate(moments.grams):
        n_pos, n_neg = moments.counts[at], moments.counts[n + at]
        pos, neg = moments.sums[:, at], moments.sums[:, n + at]
        mean, target = (pos + neg) / (n_pos + n_neg), (n_pos - n_neg) / (n_pos + n_neg)
        centred = gram - np.outer(mean, mean) * (n_pos + n_neg)
        right = pos - neg - mean * target * (n_pos + n_neg)
        for strength in strengths:
            weight = np.linalg.solve(centred + strength * np.eye(len(gram)), right)
            weights.append(weight)
            biases.append(target - mean @ weight)
    return _folded("ridge", "l2_strength", moments, strengths, weights, biases)


def lda_of(moments: StreamedMoments, strengths: Sequence[float]) -> list[tuple[LinearProbe, ...]]:
    """Linear discriminants with shrunk covariance, as `directions.fit_lda` gives them."""
    check_positive(strengths, "shrinkage")
    n = len(moments.grams)
    weights, biases = [], []
    for at, gram in enumerate(moments.grams):
        n_pos, n_neg = moments.counts[at], moments.counts[n + at]
        pos, neg = moments.sums[:, at] / n_pos, moments.sums[:, n + at] / n_neg
        within = (gram - n_pos * np.outer(pos, pos) - n_neg * np.outer(neg, neg)) / (n_pos + n_neg)
        size = float(np.trace(within)) / len(within) or 1.0
        for shrinkage in strengths:
            shrunk = (1 - shrinkage) * within + shrinkage * size * np.eye(len(within))
            weight = np.linalg.solve(shrunk, pos - neg)
            weights.append(weight)
            biases.append(np.log(n_pos / n_neg) - weight @ (pos + neg) / 2)
    return _folded("lda", "shrinkage", moments, strengths, weights, biases)


def difference_of_means_of(moments: StreamedMoments) -> list[tuple[LinearProbe, ...]]:
    """Mean positive minus mean negative, as `directions.fit_difference_of_means` gives it."""
    n = len(moments.grams)
    # Back to raw units; a constant column has no spread and no difference.
    spread = np.where(moments.scaling.factor > 0, 1 / np.maximum(moments.scaling.factor, 1e-300), 0)
    means = moments.sums / moments.counts * spread[:, None] + moments.scaling.mean[:, None]
    difference = means[:, :n] - means[:, n:]
    bias = -((means[:, :n] + means[:, n:]) / 2 * difference).sum(axis=0)
    return [
        tuple(
            LinearProbe(
                kind="difference_of_means",
                weight=np.ascontiguousarray(difference[:, at], dtype=np.float32),
                bias=float(bias[at]),
            )
            for at in range(n)
        )
    ]


def _folded(
    kind: str,
    setting: str,
    moments: StreamedMoments,
    strengths: Sequence[float],
    weights: list[np.ndarray],
    biases: list[float],
) -> list[tuple[LinearProbe, ...]]:
    weight, bias = moments.scaling.fold(np.stack(weights, axis=1), np.array(biases))
    return probes_of(kind, setting, strengths, weight, bias)
