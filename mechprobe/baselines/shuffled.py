"""The same rows with labels that mean nothing: what an estimator finds where there is nothing to find."""

import numpy as np

from mechprobe.probes.rows import LEFT_OUT, LabelledRows

SHUFFLED_LABELS = "shuffled_labels"
"""Scorer: the dense logistic probe, fitted on shuffled labels."""


def shuffle_labels(rows: LabelledRows, seed: int = 0) -> LabelledRows:
    """Deal each indicator's labels anew among the rows that it uses; left out rows stay left out."""
    rng = np.random.default_rng(seed)
    labels = rows.labels.copy()
    for column in labels.T:
        used = np.flatnonzero(column != LEFT_OUT)
        column[used] = column[rng.permutation(used)]
    return LabelledRows(X=rows.X, labels=labels, indicators=rows.indicators)
