"""Means and spreads of the classes of every indicator, from one product with the labels."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mechprobe.probes.matrix import is_sparse, square
from mechprobe.probes.rows import NEGATIVE, POSITIVE, LabelledRows


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Moments:
    """First moments of the positive and the negative rows of every indicator."""

    mean_positive: Float[np.ndarray, "d indicator"]
    mean_negative: Float[np.ndarray, "d indicator"]

    @property
    def difference(self) -> Float[np.ndarray, "d indicator"]:
        """Mean of the positives minus mean of the negatives."""
        return self.mean_positive - self.mean_negative


def class_means(rows: LabelledRows) -> Moments:
    """Means of both classes of every indicator, in float64."""
    return Moments(mean_positive=_means(rows, POSITIVE), mean_negative=_means(rows, NEGATIVE))


def class_separation(rows: LabelledRows) -> Float[np.ndarray, "d indicator"]:
    """Difference of the class means in within-class standard deviations (Cohen's d), signed.

    Columns rank as by the F statistic, one of the criteria for choosing the neurons of a k-sparse probe in
    arXiv 2305.01610, section 3; a column without spread inside the classes ranks by its difference alone.
    """
    squared = LabelledRows(X=square(rows.X), labels=rows.labels, indicators=rows.indicators)
    means, seconds = class_means(rows), class_means(squared)
    spread_pos = seconds.mean_positive - means.mean_positive**2
    spread_neg = seconds.mean_negative - means.mean_negative**2
    pooled = (rows.n_pos * spread_pos + rows.n_neg * spread_neg) / (rows.n_pos + rows.n_neg)
    floor = 1e-3 * np.abs(means.difference) + 1e-12
    return means.difference / np.maximum(np.sqrt(np.maximum(pooled, 0)), floor)


def _means(rows: LabelledRows, which: int) -> np.ndarray:
    chosen = (rows.labels == which).astype(np.float64 if is_sparse(rows.X) else rows.X.dtype)
    return np.asarray(rows.X.T @ chosen, dtype=np.float64) / chosen.sum(axis=0, dtype=np.float64)
