"""Logistic probes with an L1 penalty, over all features.

On real SAE codes, whose features are correlated, coordinate descent over all rows took minutes for one indicator;
see `proximal_newton.py` for what is done instead.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.rows import LabelledRows
from mechprobe.probes.solving.logistic import check_positive, probes_of
from mechprobe.probes.solving.loss import logistic_columns
from mechprobe.probes.solving.proximal_newton import solve_l1
from mechprobe.probes.solving.standardise import scaling_of
from mechprobe.probes.weights import ClassWeight

L1_STRENGTHS = (100.0, 10.0, 1.0)
"""Candidates on standardised columns, strongest (sparsest) first."""


def fit_lasso(
    rows: LabelledRows,
    strengths: Sequence[float] = (1.0,),
    *,
    seed: int = 0,
    tol: float = 1e-4,
    max_steps: int = 100,
    class_weight: ClassWeight = None,
    sample_weight: Float[np.ndarray, "weight"] | None = None,
) -> list[tuple[LinearProbe, ...]]:
    """For each strength, one sparse probe for each indicator.

    Args:
        strengths: L1 strengths relative to the summed log loss (1 / C in scikit-learn).
        seed: unused; the optimum is unique for features in general position.
        tol: duality gap, as a share of the objective, at which an indicator is done: no probe is better by more.
        class_weight: "balanced" lets both classes of an indicator weigh the same.
        sample_weight: how much each row counts, for all indicators; None: 1.

    Raises:
        ConfigError: a strength is not positive.
        ShapeError: there is not one weight a row.
        LabelError: a weight is negative, or a class weighs nothing.
    """
    del seed
    check_positive(strengths, "l1_strength")
    falling = sorted(set(strengths), reverse=True)
    columns = logistic_columns(rows.labels, np.asarray(falling), class_weight, sample_weight)
    scaling = scaling_of(rows.X)
    found = solve_l1(
        scaling.apply(rows.X),
        columns.sign.T.astype(np.float64),
        columns.sizes().T,
        falling,
        tol=tol,
        max_steps=max_steps,
    )
    probes: dict[float, tuple[LinearProbe, ...]] = {}
    for strength, solution in zip(falling, found, strict=True):
        weight, bias = scaling.fold(solution.weight, solution.bias)
        (probes[strength],) = probes_of("lasso", "l1_strength", [strength], weight, bias)
    return [probes[strength] for strength in strengths]
