"""A small network for each indicator: one hidden layer of rectified units on standardised columns.

All indicators descend together: their hidden layers are the columns of one product. Adam on random batches; the
number of steps is what is chosen on rows that were not fitted on.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from mechprobe.errors import ConfigError
from mechprobe.probes.linear import check_width
from mechprobe.probes.matrix import Matrix
from mechprobe.probes.rows import POSITIVE, LabelledRows
from mechprobe.probes.solving.standardise import Scaling, scaling_of
from mechprobe.probes.stored import Stored
from mechprobe.probes.weights import ClassWeight, row_weights

N_STEPS = (50.0, 100.0, 200.0, 400.0)
"""Candidates for the steps of descent, fewest first."""

_BATCH = 1024
_LEARNING_RATE = 3e-3
_WEIGHT_DECAY = 1e-2


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MLPProbe:
    """A fitted network; its standardisation is folded into the hidden layer."""

    hidden_weight: Float32[np.ndarray, "d hidden"]
    hidden_bias: Float32[np.ndarray, "hidden"]
    weight: Float32[np.ndarray, "hidden"]
    bias: float
    settings: Mapping[str, float]
    kind: str = "mlp"

    @property
    def width(self) -> int:
        """Columns of the rows that it reads."""
        return len(self.hidden_weight)

    def score(self, X: Matrix) -> Float32[np.ndarray, "tok"]:
        """Log-odds for each row.

        Raises:
            ShapeError: the rows are not as wide as those the probe was fitted on.
        """
        check_width(X, self.width, "an mlp probe")
        hidden = np.maximum(np.asarray(X @ self.hidden_weight) + self.hidden_bias, 0)
        return np.asarray(hidden @ self.weight + np.float32(self.bias), dtype=np.float32)

    def stored(self) -> Stored:
        """The probe in parts."""
        return Stored(
            form="mlp",
            kind=self.kind,
            settings=self.settings,
            tensors={
                "hidden_weight": self.hidden_weight,
                "hidden_bias": self.hidden_bias,
                "weight": self.weight,
                "bias": np.array([self.bias]),
            },
        )

    @staticmethod
    def restored(parts: Stored) -> "MLPProbe":
        """The probe put together again."""
        return MLPProbe(
            hidden_weight=parts.tensors["hidden_weight"],
            hidden_bias=parts.tensors["hidden_bias"],
            weight=parts.tensors["weight"],
            bias=float(parts.tensors["bias"][0]),
            settings=parts.settings,
            kind=parts.kind,
        )


def fit_mlp(
    rows: LabelledRows,
    strengths: Sequence[float] = (200.0,),
    *,
    seed: int = 0,
    n_hidden: int = 32,
    class_weight: ClassWeight = None,
) -> list[tuple[MLPProbe, ...]]:
    """For each number of steps, one network for each indicator: states of one descent.

    Args:
        strengths: numbers of steps, whole and at least 1.
        seed: of the first weights and of the batches. The first weights of a column are drawn from the seed and
            the column's values, so that they move with it when columns change places.
        n_hidden: units of the hidden layer.
        class_weight: "balanced" lets both classes count the same in sum.

    Raises:
        ConfigError: a number of steps is not whole or not positive.
        ShapeError: the rows are sparse.
    """
    check_counts(strengths, "n_steps")
    X = rows.dense()
    scaling = scaling_of(X)
    Z = torch.from_numpy(np.ascontiguousarray(scaling.apply(X), dtype=np.float32))
    target = torch.from_numpy((rows.labels == POSITIVE).astype(np.float32))
    counts = torch.from_numpy(row_weights(rows.labels, class_weight).astype(np.float32))
    network = _Networks(_first_weights(X, rows.labels.shape[1], n_hidden, seed))
    generator = torch.Generator().manual_seed(seed)
    states: dict[int, list[MLPProbe]] = {}
    for step in range(1, int(max(strengths)) + 1):
        batch = torch.arange(len(Z))
        if len(Z) > _BATCH:
            batch = torch.randint(len(Z), (_BATCH,), generator=generator)
        network.step(Z[batch], target[batch], counts[batch])
        if step in strengths:
            states[step] = network.probes(scaling, step)
    return [tuple(states[int(n_steps)]) for n_steps in strengths]


class _Networks:
    """Networks side by side: hidden layer of shape (d, indicator, hidden)."""

    def __init__(self, first: Float32[np.ndarray, "d indicator hidden"]) -> None:
        _, n_indicators, n_hidden = first.shape
        self._hidden = torch.from_numpy(first).requires_grad_()
        self._hidden_bias = torch.zeros(n_indicators, n_hidden, requires_grad=True)
        # Units of alternating sign: the first score is near zero, and no unit equals another.
        sign = torch.where(torch.arange(n_hidden) % 2 == 0, 1.0, -1.0)
        self._out = (sign / n_hidden).repeat(n_indicators, 1).requires_grad_()
        self._bias = torch.zeros(n_indicators, requires_grad=True)
        parameters = [self._hidden, self._hidden_bias, self._out, self._bias]
        self._optimiser = torch.optim.AdamW(
            parameters, lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY
        )

    def step(self, Z: Tensor, target: Tensor, counts: Tensor) -> None:
        """One step on the mean weighted log loss of each indicator's rows in the batch."""
        shape = self._hidden.shape
        hidden = (Z @ self._hidden.reshape(shape[0], -1)).reshape(-1, *shape[1:])
        units = torch.relu(hidden + self._hidden_bias)
        logits = (units * self._out).sum(dim=-1) + self._bias
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, target, weight=counts, reduction="none"
        )
        (loss.sum(dim=0) / counts.sum(dim=0).clamp(min=1)).sum().backward()
        self._optimiser.step()
        self._optimiser.zero_grad()

    def probes(self, scaling: Scaling, n_steps: int) -> list[MLPProbe]:
        """The networks as they are now."""
        hidden, hidden_bias, out, bias = (
            values.detach().double().numpy()
            for values in (self._hidden, self._hidden_bias, self._out, self._bias)
        )
        found: list[MLPProbe] = []
        for at in range(len(bias)):
            raw, raw_bias = scaling.fold(hidden[:, at], hidden_bias[at])
            found.append(
                MLPProbe(
                    hidden_weight=raw.astype(np.float32),
                    hidden_bias=raw_bias.astype(np.float32),
                    weight=out[at].astype(np.float32),
                    bias=float(bias[at]),
                    settings={"n_steps": float(n_steps)},
                )
            )
        return found


def _first_weights(
    X: Float[np.ndarray, "tok d"], n_indicators: int, n_hidden: int, seed: int
) -> Float32[np.ndarray, "d indicator hidden"]:
    """Uniform within 1 / sqrt(d), as in a linear layer; each column draws by its own content."""
    columns = np.ascontiguousarray(X.T)
    drawn = [
        np.random.default_rng([seed, zlib.crc32(column.tobytes())]).uniform(
            -1, 1, size=(n_indicators, n_hidden)
        )
        for column in columns
    ]
    return (np.stack(drawn) / np.sqrt(len(columns))).astype(np.float32)


def check_counts(strengths: Sequence[float], name: str) -> None:
    """Raise ConfigError unless there are candidates and all are whole and at least 1."""
    if not len(strengths) or min(strengths) < 1 or any(n != int(n) for n in strengths):
        raise ConfigError(
            f"{name} candidates are {tuple(strengths)}; give whole numbers of at least 1, such as 100."
        )
