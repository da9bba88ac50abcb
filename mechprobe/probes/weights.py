"""How much each labelled row counts in a loss."""

from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float, Int8

from mechprobe.probes.rows import NEGATIVE, POSITIVE

ClassWeight: TypeAlias = Literal["balanced"] | None
"""None: each row counts once. "balanced": both classes count the same in sum, as in scikit-learn."""


def row_weights(
    labels: Int8[np.ndarray, "row indicator"], class_weight: ClassWeight
) -> Float[np.ndarray, "row indicator"]:
    """Weight of each row for each indicator, 0 where it is left out.

    Balanced weights are n / (2 n_class), so that they sum to the n rows that the indicator uses.
    """
    weights = np.zeros(labels.shape)
    n_used = ((labels == POSITIVE) | (labels == NEGATIVE)).sum(axis=0)
    for label in (POSITIVE, NEGATIVE):
        is_class = labels == label
        share = n_used / (2 * np.maximum(1, is_class.sum(axis=0)))
        weights += is_class * (share if class_weight == "balanced" else 1.0)
    return weights
