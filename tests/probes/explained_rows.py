"""Rows of which one column tells the classes apart."""

import numpy as np

from mechprobe.probes.rows import LabelledRows


def planted_rows(n: int = 300, width: int = 8, *, seed: int = 0, flip: float = 0.1) -> LabelledRows:
    """Column 3 tells the first indicator up to flips, and nothing tells the second."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, width)).astype(np.float32)
    told = (X[:, 3] > 0) ^ (rng.random(n) < flip)
    labels = np.stack([told, rng.random(n) < 0.5], axis=1).astype(np.int8)
    return LabelledRows(X=X, labels=labels, indicators=("told", "untold"))
