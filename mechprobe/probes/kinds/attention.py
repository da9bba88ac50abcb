"""Attention probes: each unit is read where it matters, and where that is, is learned from labels of whole units.

A query says how much each row counts, a value what it says: the unit's score is the softmax-weighted mean of the
rows' values (the attention probe of arXiv 2506.10805, one query an indicator). All indicators descend
together on standardised columns, from zero: the first state is the mean over rows, and nothing is drawn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from mechprobe.probes.kinds.mlp import check_counts
from mechprobe.probes.kinds.sequences import LabelledUnits, Starts, check_starts, lengths_of
from mechprobe.probes.linear import check_width
from mechprobe.probes.matrix import Matrix, size_of
from mechprobe.probes.rows import POSITIVE
from mechprobe.probes.solving.standardise import Scaling, scaling_of
from mechprobe.probes.stored import Stored
from mechprobe.probes.weights import ClassWeight, row_weights

ATTENTION_STEPS = (50.0, 100.0, 200.0, 400.0)
"""Candidates for the steps of descent, fewest first."""

_LEARNING_RATE = 0.2
"""Over the root of the width, so that a step moves the scores as far at any width."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AttentionProbe:
    """A fitted query and value; standardisation is folded into both."""

    query: Float32[np.ndarray, "d"]
    value: Float32[np.ndarray, "d"]
    bias: float
    settings: Mapping[str, float]
    kind: str = "attention"

    @property
    def width(self) -> int:
        """Columns of the rows that it reads."""
        return len(self.value)

    def score(self, X: Matrix) -> Float32[np.ndarray, "tok"]:
        """The value of each row: the log-odds of a unit that consists of this row alone.

        Raises:
            ShapeError: the rows are not as wide as those the probe was fitted on.
        """
        check_width(X, self.width, "an attention probe")
        return np.asarray(X @ self.value + np.float32(self.bias), dtype=np.float32)

    def attention(self, X: Matrix, starts: Starts) -> Float32[np.ndarray, "tok"]:
        """How much each row counts within its unit; the rows of a unit sum to 1.

        Raises:
            ShapeError: the rows are not of the probe's width, or the starts do not divide them.
        """
        check_width(X, self.width, "an attention probe")
        n_rows = size_of(X)[0]
        check_starts(starts, n_rows)
        return softmax_within(np.asarray(X @ self.query), starts)

    def score_units(self, X: Matrix, starts: Starts) -> Float32[np.ndarray, "unit"]:
        """Log-odds for each unit.

        Raises:
            ShapeError: the rows are not of the probe's width, or the starts do not divide them.
        """
        weighted = self.attention(X, starts) * self.score(X)
        return np.add.reduceat(weighted, starts).astype(np.float32)

    def stored(self) -> Stored:
        """The probe in parts."""
        return Stored(
            form="attention",
            kind=self.kind,
            settings=self.settings,
            tensors={"query": self.query, "value": self.value, "bias": np.array([self.bias])},
        )

    @staticmethod
    def restored(parts: Stored) -> "AttentionProbe":
        """The probe put together again."""
        return AttentionProbe(
            query=parts.tensors["query"],
            value=parts.tensors["value"],
            bias=float(parts.tensors["bias"][0]),
            settings=parts.settings,
            kind=parts.kind,
        )


def softmax_within(
    logits: Float32[np.ndarray, "tok"], starts: Starts
) -> Float32[np.ndarray, "tok"]:
    """Softmax over the rows of each unit."""
    lengths = lengths_of(starts, len(logits))
    highest = np.repeat(np.maximum.reduceat(logits, starts), lengths)
    grown = np.exp(logits - highest)
    return grown / np.repeat(np.add.reduceat(grown, starts), lengths)


def fit_attention(
    units: LabelledUnits,
    strengths: Sequence[float] = (200.0,),
    *,
    seed: int = 0,
    l2_strength: float = 10.0,
    class_weight: ClassWeight = None,
) -> list[tuple[AttentionProbe, ...]]:
    """For each number of steps, one probe for each indicator: states of one descent.

    Args:
        strengths: numbers of steps of Adam over all units, whole and at least 1.
        seed: unused; the descent starts at zero.
        l2_strength: of query and value, relative to the log loss summed over units.
        class_weight: "balanced" lets both classes count the same in sum.

    Raises:
        ConfigError: a number of steps is not whole or not positive.
        ShapeError: the rows are sparse.
    """
    del seed
    check_counts(strengths, "n_steps")
    X = units.rows.dense()
    scaling = scaling_of(X)
    Z = torch.from_numpy(np.ascontiguousarray(scaling.apply(X), dtype=np.float32))
    target = torch.from_numpy((units.labels == POSITIVE).astype(np.float32))
    counts = torch.from_numpy(row_weights(units.labels, class_weight).astype(np.float32))
    decay = l2_strength / 2 / counts.sum(dim=0)
    d, n_indicators = Z.shape[1], len(units.indicators)
    # Query and value side by side, so that a step costs one product each way.
    heads = torch.zeros(d, 2, n_indicators, requires_grad=True)
    bias = torch.zeros(n_indicators, requires_grad=True)
    optimiser = torch.optim.Adam([heads, bias], lr=_LEARNING_RATE / d**0.5)
    lengths = torch.from_numpy(units.lengths)
    states: dict[int, tuple[AttentionProbe, ...]] = {}
    for step in range(1, int(max(strengths)) + 1):
        logits = _unit_means((Z @ heads.flatten(1)).unflatten(1, (2, -1)), lengths) + bias
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, target, weight=counts, reduction="none"
        )
        per_indicator = loss.sum(dim=0) / counts.sum(dim=0) + decay * heads.square().sum(dim=(0, 1))
        optimiser.zero_grad()
        per_indicator.sum().backward()
        optimiser.step()
        if step in strengths:
            states[step] = _probes(heads.detach(), bias.detach(), scaling, step)
    return [states[int(n_steps)] for n_steps in strengths]


def _unit_means(read: Tensor, lengths: Tensor) -> Tensor:
    """Softmax-weighted mean of the rows' values of each unit and indicator."""
    query, value = read.unbind(dim=1)
    unit = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    shape = (len(lengths), query.shape[1])
    with torch.no_grad():
        highest = torch.segment_reduce(query, "max", lengths=lengths, axis=0, unsafe=True)
    grown = torch.exp(query - highest[unit])
    total = torch.zeros(shape).index_add(0, unit, grown)
    return torch.zeros(shape).index_add(0, unit, grown * value) / total


def _probes(
    heads: Tensor, bias: Tensor, scaling: Scaling, n_steps: int
) -> tuple[AttentionProbe, ...]:
    query, value = (part.double().numpy() for part in heads.unbind(dim=1))
    raw_query, _ = scaling.fold(query, np.zeros(len(bias)))
    raw_value, raw_bias = scaling.fold(value, bias.double().numpy())
    return tuple(
        AttentionProbe(
            query=np.ascontiguousarray(raw_query[:, at], dtype=np.float32),
            value=np.ascontiguousarray(raw_value[:, at], dtype=np.float32),
            bias=float(raw_bias[at]),
            settings={"n_steps": float(n_steps)},
        )
        for at in range(len(bias))
    )
