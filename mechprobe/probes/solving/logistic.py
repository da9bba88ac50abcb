"""Logistic probes with an L2 penalty, for all indicators and penalty strengths in shared passes.

The objective and the weights are scikit-learn's: summed weighted log loss + l2_strength / 2 * |w|^2, no penalty on
the offset.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from mechprobe.errors import ConfigError
from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.rows import LabelledRows
from mechprobe.probes.solving.design import Design
from mechprobe.probes.solving.lbfgs import minimise
from mechprobe.probes.solving.loss import logistic_columns
from mechprobe.probes.solving.standardise import no_scaling, scaling_of
from mechprobe.probes.weights import ClassWeight

L2_STRENGTHS = (1000.0, 100.0, 10.0, 1.0)
"""Candidates on standardised columns, strongest first, so that ties choose the smoother probe."""
TOLERANCE = 1e-6
"""At scikit-learn's 1e-4, scores of wide probes were still 5 % off those of the optimum."""


def fit_logistic(
    rows: LabelledRows,
    strengths: Sequence[float] = (1.0,),
    *,
    seed: int = 0,
    tol: float = TOLERANCE,
    standardise: bool = True,
    class_weight: ClassWeight = None,
    sample_weight: Float[np.ndarray, "weight"] | None = None,
    device: str = "cpu",
) -> list[tuple[LinearProbe, ...]]:
    """For each strength, one probe for each indicator.

    Args:
        strengths: L2 strengths relative to the summed log loss (1 / C in scikit-learn).
        seed: unused; the optimum is unique.
        tol: largest entry of the gradient of the mean loss at which a column is done.
        standardise: penalise weights on columns of equal spread; False: on the columns as they are.
        class_weight: "balanced" lets both classes of an indicator weigh the same.
        sample_weight: how much each row counts, for all indicators; None: 1.
        device: where dense rows are multiplied; tested on the CPU only.

    Raises:
        ConfigError: a strength is not positive.
        ShapeError: there is not one weight a row.
        LabelError: a weight is negative, or a class weighs nothing.
    """
    del seed
    check_positive(strengths, "l2_strength")
    columns = logistic_columns(
        rows.labels, np.asarray(strengths, float), class_weight, sample_weight
    )
    scaling = scaling_of(rows.X) if standardise else no_scaling(rows.X)
    found = minimise(Design(scaling.apply(rows.X), device=device), columns, tol=tol)
    weight, bias = scaling.fold(found.weight, found.bias)
    return probes_of("logistic", "l2_strength", strengths, weight, bias)


def probes_of(
    kind: str,
    setting: str,
    strengths: Sequence[float],
    weight: Float[np.ndarray, "d column"],
    bias: Float[np.ndarray, "column"],
) -> list[tuple[LinearProbe, ...]]:
    """The columns as probes: for each strength, one for each indicator."""

    def probe(column: int, strength: float) -> LinearProbe:
        return LinearProbe(
            kind=kind,
            weight=np.ascontiguousarray(weight[:, column], dtype=np.float32),
            bias=float(bias[column]),
            settings={setting: float(strength)},
        )

    n_indicators = len(bias) // len(strengths)
    return [
        tuple(probe(i * len(strengths) + at, strength) for i in range(n_indicators))
        for at, strength in enumerate(strengths)
    ]


def check_positive(strengths: Sequence[float], name: str) -> None:
    """Raise ConfigError unless there are strengths and all are above zero."""
    if not len(strengths) or min(strengths) <= 0:
        raise ConfigError(
            f"{name} candidates are {tuple(strengths)}; give at least one, all > 0 (1.0 is a good first "
            "value)."
        )
