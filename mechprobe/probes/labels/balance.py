"""Positives are rare: two ways to let both classes of an indicator count the same in a fit."""

import inspect
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Int8

from mechprobe.errors import ConfigError
from mechprobe.probes.estimators import Estimator
from mechprobe.probes.probe import Probe
from mechprobe.probes.rows import LEFT_OUT, NEGATIVE, POSITIVE

P = TypeVar("P", bound=Probe)
D = TypeVar("D")

UNWEIGHTED = ("dense_paper",)
"""Estimators that minimise a loss over rows and take no class weights; those that compare class means need none."""


def draw_balanced(
    labels: Int8[np.ndarray, "tok indicator"], negatives_per_positive: float = 1.0, seed: int = 0
) -> Int8[np.ndarray, "tok indicator"]:
    """The labels with surplus negatives of each indicator left out, drawn by the seed; positives all stay."""
    rng = np.random.default_rng(seed)
    drawn = labels.copy()
    for column in drawn.T:
        negatives = np.flatnonzero(column == NEGATIVE)
        n_kept = int(np.ceil(negatives_per_positive * (column == POSITIVE).sum()))
        if n_kept < len(negatives):
            column[rng.permutation(negatives)[n_kept:]] = LEFT_OUT
    return drawn


def with_class_weights(estimator: Estimator[D, P]) -> Estimator[D, P]:
    """The estimator that lets both classes of an indicator count the same.

    Raises:
        ConfigError: it has a loss and takes no class weights.
    """
    fit: Any = estimator.fit
    if "class_weight" in inspect.signature(fit).parameters:
        return replace(estimator, fit=partial(fit, class_weight="balanced"))
    if estimator.name in UNWEIGHTED:
        raise ConfigError(
            f"estimator {estimator.name!r} takes no class weights; leave it out, or balance by 'draw'."
        )
    return estimator
