"""The probe of "Probing the Misaligned Thinking Process of Language Models" (arXiv 2606.24251, authors' code).

z-scores with the pooled mean and unbiased standard deviation (at least 1e-8) of the indicator's own rows, no
offset, Adam at 1e-2 for 500 full-batch steps on mean log loss + l2_strength |w|^2 / (2 N), from the default
initialisation of a linear layer. Here for all indicators together, and with a seed.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.rows import LEFT_OUT, POSITIVE, LabelledRows
from mechprobe.probes.solving.logistic import check_positive, probes_of
from mechprobe.probes.solving.standardise import scaling_of

PAPER_L2_STRENGTH = 10.0
_STEPS = 500
_LEARNING_RATE = 1e-2


def fit_paper_recipe(
    rows: LabelledRows, strengths: Sequence[float] = (PAPER_L2_STRENGTH,), *, seed: int = 0
) -> list[tuple[LinearProbe, ...]]:
    """For each strength, one probe for each indicator, by the paper's recipe.

    Args:
        strengths: the paper uses 10 and does not tune it.
        seed: of the initial weights.

    Raises:
        ConfigError: a strength is not positive.
        ShapeError: the rows are sparse.
    """
    check_positive(strengths, "l2_strength")
    # Scaling all rows first leaves the z-scores as they are and keeps float32 exact enough.
    scaling = scaling_of(rows.dense())
    X = torch.from_numpy(np.ascontiguousarray(scaling.apply(rows.dense())))
    used = torch.from_numpy(rows.labels != LEFT_OUT).to(X.dtype)
    target = torch.from_numpy(rows.labels == POSITIVE).to(X.dtype)
    found: list[tuple[LinearProbe, ...]] = []
    for strength in strengths:
        weight, bias = _descend(X, target, used, strength, seed)
        raw, raw_bias = scaling.fold(weight.double().numpy(), bias.double().numpy())
        found += probes_of("paper_recipe", "l2_strength", [strength], raw, raw_bias)
    return found


def _descend(
    X: Tensor, target: Tensor, used: Tensor, l2_strength: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Weights and offsets on the columns of X after the paper's 500 steps."""
    n_rows = used.sum(dim=0)
    mean = X.mT @ used / n_rows
    variance = (X.square().mT @ used - n_rows * mean.square()) / (n_rows - 1).clamp(min=1)
    std = variance.clamp(min=0).sqrt().clamp(min=1e-8)
    bound = 1 / math.sqrt(X.shape[1])
    generator = torch.Generator().manual_seed(seed)
    w = (torch.rand(mean.shape, generator=generator, dtype=X.dtype) * 2 - 1) * bound
    optimiser = torch.optim.Adam([w], lr=_LEARNING_RATE)
    for _ in range(_STEPS):
        weight = w / std
        residual = (torch.sigmoid(X @ weight - (mean * weight).sum(dim=0)) - target) * used / n_rows
        on_weight = X.mT @ residual - mean * residual.sum(dim=0)
        w.grad = on_weight / std + l2_strength / n_rows * w
        optimiser.step()
    weight = w / std
    return weight, -(mean * weight).sum(dim=0)
