"""Rows and units with planted indicators, for the tests of all probes."""

import numpy as np
import scipy.sparse as sp

from mechprobe.probes.kinds.sequences import HeldOutUnits, LabelledUnits
from mechprobe.probes.rows import HeldOutRows, LabelledRows

N_INDICATORS = 3
INDICATORS = tuple(f"indicator_{i}" for i in range(N_INDICATORS))


def planted_rows(
    seed: int, n: int = 300, d: int = 12, *, sparse: bool = False, dtype: type = np.float32
) -> LabelledRows:
    """Indicator i raises coordinate i; one coordinate is far larger than all others; some rows are left out."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, N_INDICATORS)) < 0.4).astype(np.int8)
    X = rng.normal(size=(n, d))
    X[:, :N_INDICATORS] += 3.0 * labels
    if sparse:
        X = np.maximum(X - 1.0, 0)
    else:
        X[:, -1] = 500 + 30 * X[:, -1]
    labels[rng.random(labels.shape) < 0.1] = -1
    X = X.astype(dtype)
    return LabelledRows(X=sp.csr_matrix(X) if sparse else X, labels=labels, indicators=INDICATORS)


def planted_units(seed: int, n: int = 100, d: int = 12, *, sparse: bool = False) -> LabelledUnits:
    """A positive unit of indicator i has four neighbouring rows, of 4 to 24, with coordinate i raised."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(4, 25, size=n)
    starts = np.cumsum(lengths) - lengths
    labels = (rng.random((n, N_INDICATORS)) < 0.4).astype(np.int8)
    X = rng.normal(size=(lengths.sum(), d))
    for unit in range(n):
        for at in range(N_INDICATORS):
            first = starts[unit] + rng.integers(0, lengths[unit] - 3)
            X[first : first + 4, at] += 4.0 * labels[unit, at]
    X = np.maximum(X - 0.5, 0) if sparse else X
    labels[rng.random(labels.shape) < 0.1] = -1
    X = X.astype(np.float32)
    return LabelledUnits(
        X=sp.csr_matrix(X) if sparse else X, starts=starts, labels=labels, indicators=INDICATORS
    )


def held_out(rows: LabelledRows) -> HeldOutRows:
    """The same rows as rows to choose on."""
    return HeldOutRows(X=rows.X, labels=rows.labels)


def held_out_units(units: LabelledUnits) -> HeldOutUnits:
    """The same units as units to choose on."""
    return HeldOutUnits(X=units.X, starts=units.starts, labels=units.labels)
