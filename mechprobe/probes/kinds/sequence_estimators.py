"""The estimators that learn from labels of whole units, by name, and the choice of their setting."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np
from jaxtyping import Float32

from mechprobe.errors import ConfigError
from mechprobe.probes.estimators import Estimator, Reads, fit_chosen
from mechprobe.probes.kinds.attention import ATTENTION_STEPS, fit_attention
from mechprobe.probes.kinds.running import Rule, RunningProbe
from mechprobe.probes.kinds.sequences import HeldOutUnits, LabelledUnits, SequenceProbe, Starts
from mechprobe.probes.matrix import Matrix
from mechprobe.probes.solving.logistic import fit_logistic
from mechprobe.probes.weights import ClassWeight

S = TypeVar("S", bound=SequenceProbe)
S_co = TypeVar("S_co", bound=SequenceProbe, covariant=True)

_ROW_L2_STRENGTH = 10.0


UnitEstimator: TypeAlias = Estimator[LabelledUnits, S_co]
"""Learns from units of rows with one label for all, as an `Estimator` of rows learns from labelled rows."""


def fit_running(rule: Rule) -> Callable[..., list[tuple[RunningProbe, ...]]]:
    """How to fit a rule: a logistic probe of rows that each carry the label of their unit, then the rule.

    Long units count more in that fit, as they have more rows.
    """

    def fit(
        units: LabelledUnits,
        strengths: Sequence[float],
        *,
        seed: int = 0,
        class_weight: ClassWeight = None,
    ) -> list[tuple[RunningProbe, ...]]:
        [probes] = fit_logistic(
            units.rows, [_ROW_L2_STRENGTH], seed=seed, class_weight=class_weight
        )
        return [
            tuple(RunningProbe(probe=probe, rule=rule, amount=float(amount)) for probe in probes)
            for amount in strengths
        ]

    return fit


_TEMPERATURES = (30.0, 10.0, 3.0, 1.0, 0.3)
_ROWS = (64.0, 16.0, 8.0, 4.0, 1.0)


def _running(name: str, reads: Reads, rule: Rule) -> UnitEstimator[SequenceProbe]:
    amounts = _TEMPERATURES if rule == "softmax" else _ROWS
    return Estimator(name=name, reads=reads, fit=fit_running(rule), strengths=amounts)


SEQUENCE_ESTIMATORS: dict[str, UnitEstimator[SequenceProbe]] = {
    estimator.name: estimator
    for estimator in (
        Estimator(
            name="dense_attention", reads="acts", fit=fit_attention, strengths=ATTENTION_STEPS
        ),
        _running("dense_softmax", "acts", "softmax"),
        _running("dense_rolling_max", "acts", "rolling_max"),
        _running("dense_ema", "acts", "ema"),
        _running("sae_softmax", "feature_acts", "softmax"),
        _running("sae_rolling_max", "feature_acts", "rolling_max"),
        _running("sae_ema", "feature_acts", "ema"),
    )
}


def find_sequence_estimator(name: str) -> UnitEstimator[Any]:
    """The estimator of that name.

    Raises:
        ConfigError: there is none; the message lists those there are.
    """
    if name not in SEQUENCE_ESTIMATORS:
        raise ConfigError(
            f"unknown estimator of units {name!r}; there are {', '.join(SEQUENCE_ESTIMATORS)}."
        )
    return SEQUENCE_ESTIMATORS[name]


def fit_units_selected(
    estimator: UnitEstimator[S],
    units: LabelledUnits,
    select: HeldOutUnits | None,
    *,
    seed: int = 0,
) -> tuple[S, ...]:
    """One probe for each indicator, with the strength of highest AUROC on the select units.

    Without select units, or with only one class of an indicator there, it takes the middle candidate.

    Args:
        select: units of other groups than those fitted on, with labels for the same indicators.
    """

    def score(probes: Sequence[S]) -> np.ndarray:
        assert select is not None
        return unit_scores_of(probes, select.X, select.starts)

    return fit_chosen(estimator, units, select and select.labels, score, seed=seed)


def unit_scores_of(
    probes: Sequence[SequenceProbe], X: Matrix, starts: Starts
) -> Float32[np.ndarray, "unit probe"]:
    """Scores of several probes."""
    return np.stack([probe.score_units(X, starts) for probe in probes], axis=1)
