"""The weighted logistic loss of many columns over the same rows, and its gradient, from one pass."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int8, Integer
from torch import Tensor

from mechprobe.errors import ConfigError, LabelError, ShapeError
from mechprobe.probes.rows import NEGATIVE, POSITIVE
from mechprobe.probes.solving.design import Block, Rows
from mechprobe.probes.weights import ClassWeight


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Columns:
    """Independent logistic problems over the same rows: indicators vary slowest, strengths fastest."""

    sign: Int8[np.ndarray, "tok indicator"] | Float[np.ndarray, "tok indicator"]
    """+1 positive, -1 negative, 0 left out."""
    strengths: Float[np.ndarray, "strength"]
    row_weight: Float[np.ndarray, "tok"] | None = None
    """How much each row counts; None: 1."""
    class_weight: Float[np.ndarray, "indicator 2"] | None = None
    """How much negatives and positives of each indicator count; None: 1."""
    free: Float[np.ndarray, "d column"] | None = None
    """1 where a weight may differ from zero; None: everywhere."""

    def sizes(self) -> Float[np.ndarray, "tok indicator"]:
        """How much each row counts for each indicator; 0 if left out."""
        sizes = np.abs(self.sign).astype(np.float64)
        if self.class_weight is not None:
            sizes *= np.where(self.sign > 0, self.class_weight[:, 1], self.class_weight[:, 0])
        return sizes if self.row_weight is None else sizes * self.row_weight[:, None]


def logistic_columns(
    labels: Int8[np.ndarray, "tok indicator"],
    strengths: Float[np.ndarray, "strength"],
    class_weight: ClassWeight = None,
    sample_weight: Float[np.ndarray, "weight"] | None = None,
) -> Columns:
    """Every indicator at every strength, weighted as scikit-learn weighs.

    Raises:
        ShapeError: there is not one weight a row.
        LabelError: a weight is negative or not finite, or a class of an indicator weighs nothing.
        ConfigError: the class weight is unknown.
    """
    if class_weight not in (None, "balanced"):
        raise ConfigError(f"class_weight is {class_weight!r}; give 'balanced' or None.")
    sign = ((labels == POSITIVE).astype(np.int8) - (labels == NEGATIVE)).astype(np.int8)
    counts = _class_sizes(labels, sample_weight)
    return Columns(
        sign=sign,
        strengths=strengths,
        row_weight=sample_weight,
        # sklearn.utils.compute_class_weight: total / (2 * weight of the class).
        class_weight=None
        if class_weight is None
        else counts.sum(axis=1, keepdims=True) / (2 * counts),
    )


def _class_sizes(
    labels: Int8[np.ndarray, "tok indicator"], sample_weight: Float[np.ndarray, "weight"] | None
) -> Float[np.ndarray, "indicator 2"]:
    """What the negatives and the positives of each indicator weigh together."""
    if sample_weight is None:
        weight = np.ones(len(labels))
    elif sample_weight.shape != (len(labels),):
        raise ShapeError(
            f"{sample_weight.shape} sample weights come with {len(labels)} rows; give one a row."
        )
    elif not np.isfinite(sample_weight).all() or sample_weight.min(initial=0) < 0:
        raise LabelError(
            f"sample weights go from {sample_weight.min()} to {sample_weight.max()}; all must be finite and "
            ">= 0."
        )
    else:
        weight = sample_weight.astype(np.float64)
    counts = np.stack([weight @ (labels == which) for which in (NEGATIVE, POSITIVE)], axis=1)
    if (counts <= 0).any():
        at = int(np.flatnonzero((counts <= 0).any(axis=1))[0])
        raise LabelError(
            f"a class of indicator {at} has no row of positive weight (negatives weigh {counts[at, 0]:g}, "
            f"positives {counts[at, 1]:g}); leave the indicator out."
        )
    return counts


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Evaluation:
    """Mean loss with its penalty, and the gradient; the last entry belongs to the offset."""

    value: Float[Tensor, "column"]
    gradient: Float[Tensor, "column d1"]


class Loss:
    """Mean weighted log loss + strength / (2 weight) |w|^2 of every column, over rows that stay where they are."""

    def __init__(self, rows: Rows, columns: Columns) -> None:
        self.rows = rows
        device, n_strengths = rows.device, len(columns.strengths)
        self._sign = torch.from_numpy(np.ascontiguousarray(columns.sign.T)).to(device)
        self.indicator = torch.arange(len(self._sign), device=device).repeat_interleave(n_strengths)
        self.strength = torch.from_numpy(np.tile(columns.strengths, len(self._sign))).to(device)
        self._row_weight = _on(columns.row_weight, rows)
        self._class_weight = _on(columns.class_weight, rows)
        self._free = _on(None if columns.free is None else columns.free.T, rows)
        self.class_sizes = self._count()
        self.total = self.class_sizes.sum(dim=1)[self.indicator]
        self.decay = self.strength / self.total

    @property
    def n_columns(self) -> int:
        """How many problems there are."""
        return len(self.indicator)

    @property
    def is_free(self) -> bool:
        """Whether every weight may differ from zero."""
        return self._free is None

    def evaluate(
        self, theta: Float[Tensor, "column d1"], which: Integer[Tensor, "column"]
    ) -> Evaluation:
        """Value and gradient of some columns, in float64."""
        weight, bias = theta[:, :-1].to(self.rows.dtype).contiguous(), theta[:, -1:]
        bias = bias.to(self.rows.dtype)
        value = torch.zeros(len(theta), dtype=torch.float64, device=theta.device)
        gradient = torch.zeros_like(theta)
        for block in self.rows.blocks():
            sign, size = self._labels(block, which)
            margin = block.forward(weight).add_(bias).mul_(sign).neg_()
            value += torch.nn.functional.softplus(margin).mul_(size).sum(dim=1).double()
            residual = margin.sigmoid_().mul_(sign).mul_(size).neg_()
            gradient[:, :-1] += block.adjoint(residual)
            gradient[:, -1] += residual.sum(dim=1)
        gradient /= self.total[which, None]
        gradient[:, :-1] += self.decay[which, None] * theta[:, :-1]
        if self._free is not None:
            gradient[:, :-1] *= self._free[which]
        penalty = self.decay[which] / 2 * theta[:, :-1].square().sum(dim=1)
        return Evaluation(value=value / self.total[which] + penalty, gradient=gradient)

    def _labels(self, block: Block, which: Tensor) -> tuple[Tensor, Tensor]:
        """Signs, and how much each row counts (0 if left out)."""
        indicator = self.indicator[which]
        sign = self._sign[indicator, block.start : block.stop].to(self.rows.dtype)
        size = sign.abs()
        if self._class_weight is not None:
            of_class = self._class_weight[indicator]
            size *= torch.where(sign > 0, of_class[:, 1:], of_class[:, :1])
        if self._row_weight is not None:
            size *= self._row_weight[block.start : block.stop]
        return sign, size

    def _count(self) -> Float[Tensor, "indicator 2"]:
        rows = 1.0 if self._row_weight is None else self._row_weight.double()
        sizes = torch.stack(
            [((self._sign == sign) * rows).sum(dim=1).double() for sign in (-1, 1)], dim=1
        )
        return sizes if self._class_weight is None else sizes * self._class_weight.double()


def _on(values: np.ndarray | None, rows: Rows) -> Tensor | None:
    if values is None:
        return None
    return torch.from_numpy(np.ascontiguousarray(values)).to(rows.device, rows.dtype)
