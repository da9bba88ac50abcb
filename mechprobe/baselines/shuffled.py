"""The same rows with labels that mean nothing: what an estimator finds where there is nothing to find."""

import numpy as np
from jaxtyping import Int8

from mechprobe.probes.rows import LEFT_OUT, HeldOutRows, LabelledRows

SHUFFLED_LABELS = "shuffled_labels"
"""Scorer: the dense logistic probe, fitted on shuffled labels."""


def shuffle_labels(rows: LabelledRows, seed: int = 0) -> LabelledRows:
    """Deal each indicator's labels anew among the rows that it uses; left out rows stay left out."""
    labels = _deal(rows.labels, np.random.default_rng(seed))
    return LabelledRows(X=rows.X, labels=labels, indicators=rows.indicators)


def shuffle_held_out(rows: HeldOutRows, seed: int = 0) -> HeldOutRows:
    """The same for the rows that choose a strength: true labels there would leak into the choice."""
    return HeldOutRows(X=rows.X, labels=_deal(rows.labels, np.random.default_rng([seed, 1])))


def shuffle_often(rows: LabelledRows, n_draws: int, *, seed: int = 0) -> LabelledRows:
    """Every indicator with its labels dealt anew `n_draws` times, all beside each other: one fit gives all draws.

    Columns come draw by draw, an indicator's draws under its own name; draw number k is `shuffle_labels` with
    seed + k.
    """
    draws = [shuffle_labels(rows, seed + draw).labels for draw in range(n_draws)]
    return LabelledRows(
        X=rows.X, labels=np.concatenate(draws, axis=1), indicators=rows.indicators * n_draws
    )


def _deal(labels: Int8[np.ndarray, "tok indicator"], rng: np.random.Generator) -> np.ndarray:
    dealt = labels.copy()
    for column in dealt.T:
        used = np.flatnonzero(column != LEFT_OUT)
        column[used] = column[rng.permutation(used)]
    return dealt
