"""The estimators that learn from labels of whole units, by name, and the choice of their setting."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np

from mechprobe.errors import ConfigError
from mechprobe.probes.estimators import Reads, choose
from mechprobe.probes.kinds.attention import ATTENTION_STEPS, fit_attention
from mechprobe.probes.kinds.running import Rule, RunningProbe
from mechprobe.probes.kinds.sequences import HeldOutUnits, LabelledUnits, SequenceProbe
from mechprobe.probes.solving.logistic import fit_logistic
from mechprobe.probes.weights import ClassWeight

S = TypeVar("S", bound=SequenceProbe)
S_co = TypeVar("S_co", bound=SequenceProbe, covariant=True)

_ROW_L2_STRENGTH = 10.0


@runtime_checkable
class FitUnits(Protocol[S_co]):
    """Fit all indicators: for each strength, one probe for each indicator. Deterministic in the seed."""

    def __call__(
        self, units: LabelledUnits, strengths: Sequence[float], *, seed: int
    ) -> Sequence[tuple[S_co, ...]]:
        """See the class."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class SequenceEstimator(Generic[S_co]):
    """A way to fit probes of units, with the candidates for its one setting."""

    name: str
    """The scorer's name in tables, for instance "dense_attention"."""
    reads: Reads
    """Raw activations, or the features of an SAE."""
    fit: FitUnits[S_co]
    strengths: tuple[float, ...]
    """Candidates, the simplest or smoothest first: of equals the first is chosen."""


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


def _running(name: str, reads: Reads, rule: Rule) -> SequenceEstimator[SequenceProbe]:
    amounts = _TEMPERATURES if rule == "softmax" else _ROWS
    return SequenceEstimator(name=name, reads=reads, fit=fit_running(rule), strengths=amounts)


SEQUENCE_ESTIMATORS: dict[str, SequenceEstimator[SequenceProbe]] = {
    estimator.name: estimator
    for estimator in (
        SequenceEstimator(
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


def find_sequence_estimator(name: str) -> SequenceEstimator[Any]:
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
    estimator: SequenceEstimator[S],
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
    if select is None or len(estimator.strengths) == 1:
        middle = estimator.strengths[len(estimator.strengths) // 2]
        return estimator.fit(units, [middle], seed=seed)[0]
    candidates = estimator.fit(units, estimator.strengths, seed=seed)

    def score(probes: Sequence[S]) -> np.ndarray:
        return np.stack([probe.score_units(select.X, select.starts) for probe in probes], axis=1)

    return choose(candidates, select.labels, score)
