"""The estimators by name, and the choice of their strength on rows that were not fitted on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Float32, Int8
from scipy.stats import rankdata

from mechprobe.errors import ConfigError
from mechprobe.probes.kinds.boosted import N_ROUNDS, fit_boosted
from mechprobe.probes.kinds.directions import (
    SHRINKAGES,
    fit_difference_of_means,
    fit_lda,
    fit_random_direction,
    fit_ridge,
)
from mechprobe.probes.kinds.k_sparse import KS, fit_k_sparse
from mechprobe.probes.kinds.mlp import N_STEPS, fit_mlp
from mechprobe.probes.kinds.paper import PAPER_L2_STRENGTH, fit_paper_recipe
from mechprobe.probes.kinds.principal import STANDARDISED, fit_lat, fit_pca
from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.matrix import Matrix, stack_rows
from mechprobe.probes.probe import Probe, strength_of
from mechprobe.probes.rows import (
    LEFT_OUT,
    POSITIVE,
    HeldOutRows,
    LabelledRows,
    fittable,
)
from mechprobe.probes.solving.lasso import L1_STRENGTHS, fit_lasso
from mechprobe.probes.solving.logistic import L2_STRENGTHS, fit_logistic

Reads = Literal["acts", "feature_acts"]


P = TypeVar("P", bound=Probe)
P_co = TypeVar("P_co", bound=Probe, covariant=True)
D = TypeVar("D")
D_contra = TypeVar("D_contra", contravariant=True)


@runtime_checkable
class Fit(Protocol[D_contra, P_co]):
    """Fit all indicators: for each strength, one probe for each indicator. Deterministic in the seed.

    What is fitted in steps or rounds takes their number for its strength: one fit passes all candidates, so that
    choosing among them is stopping early.
    """

    def __call__(
        self, data: D_contra, /, strengths: Sequence[float], *, seed: int
    ) -> Sequence[tuple[P_co, ...]]:
        """See the class."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimator(Generic[D_contra, P_co]):
    """A way to fit probes to labelled rows, or to labelled units, with the candidates for its one setting."""

    name: str
    """The scorer's name in tables, for instance "dense_logistic"."""
    reads: Reads
    """Raw activations, or the features of an SAE."""
    fit: Fit[D_contra, P_co]
    strengths: tuple[float, ...]
    """Candidates, the simplest or smoothest first: of equals the first is chosen."""


RowEstimator: TypeAlias = Estimator[LabelledRows, P_co]
"""Learns from rows that each have a label; those that learn from whole units stand in `kinds.sequence_estimators`."""


def _dense(
    name: str, fit: Fit[LabelledRows, Probe], strengths: Sequence[float] = (0.0,)
) -> RowEstimator[Probe]:
    return Estimator(name=name, reads="acts", fit=fit, strengths=tuple(strengths))


def _sae(
    name: str, fit: Fit[LabelledRows, Probe], strengths: Sequence[float] = (0.0,)
) -> RowEstimator[Probe]:
    return Estimator(name=name, reads="feature_acts", fit=fit, strengths=tuple(strengths))


ESTIMATORS: dict[str, RowEstimator[Probe]] = {
    estimator.name: estimator
    for estimator in (
        _dense("dense_logistic", fit_logistic, L2_STRENGTHS),
        _dense("dense_paper", fit_paper_recipe, (PAPER_L2_STRENGTH,)),
        _dense("dense_ridge", fit_ridge, L2_STRENGTHS),
        _dense("dense_lda", fit_lda, SHRINKAGES),
        _dense("dense_diff_of_means", fit_difference_of_means),
        _dense("dense_lat", fit_lat, STANDARDISED),
        _dense("dense_pca", fit_pca, STANDARDISED),
        _dense("dense_mlp", fit_mlp, N_STEPS),
        _dense("dense_boosted", fit_boosted, N_ROUNDS),
        _dense("random_direction", fit_random_direction),
        _sae("sae_k_sparse", fit_k_sparse, KS),
        _sae("sae_logistic", fit_logistic, L2_STRENGTHS),
        _sae("sae_lasso", fit_lasso, L1_STRENGTHS),
        _sae("sae_diff_of_means", fit_difference_of_means),
        _sae("sae_boosted", fit_boosted, N_ROUNDS),
    )
}


def find_estimator(name: str) -> RowEstimator[Any]:
    """The estimator of that name; which class of probe it fits follows from the name.

    Raises:
        ConfigError: there is none; the message lists those there are.
    """
    if name not in ESTIMATORS:
        raise ConfigError(f"unknown estimator {name!r}; there are {', '.join(ESTIMATORS)}.")
    return ESTIMATORS[name]


def fit_selected(
    estimator: RowEstimator[P], rows: LabelledRows, select: HeldOutRows | None, *, seed: int = 0
) -> tuple[P, ...]:
    """One probe for each indicator, with the strength of highest AUROC on the select rows.

    Without select rows, or with only one class of an indicator there, it takes the middle candidate.

    Args:
        select: rows of other groups than those fitted on, with labels for the same indicators.
    """

    def score(probes: Sequence[P]) -> np.ndarray:
        assert select is not None
        return scores_of(probes, select.X)

    return fit_chosen(estimator, rows, select and select.labels, score, seed=seed)


def fit_chosen(
    estimator: Estimator[D, P],
    data: D,
    labels: Int8[np.ndarray, "unit indicator"] | None,
    score: Callable[[Sequence[P]], Float[np.ndarray, "unit candidate"]],
    *,
    seed: int = 0,
) -> tuple[P, ...]:
    """One probe for each indicator, with the strength that `choose` takes; the middle one without held-out labels."""
    if labels is None or len(estimator.strengths) == 1:
        middle = estimator.strengths[len(estimator.strengths) // 2]
        return estimator.fit(data, [middle], seed=seed)[0]
    return choose(estimator.fit(data, estimator.strengths, seed=seed), labels, score)


def choose(
    candidates: Sequence[tuple[P, ...]],
    labels: Int8[np.ndarray, "unit indicator"],
    score: Callable[[Sequence[P]], Float[np.ndarray, "unit candidate"]],
) -> tuple[P, ...]:
    """Of the candidates of each indicator the first of highest AUROC; the middle one where a class is lacking.

    Args:
        candidates: for each strength, one probe for each indicator.
        labels: of the units that `score` scores.
    """
    can_judge = set(fittable(labels).tolist())
    chosen: list[P] = []
    for at in range(labels.shape[1]):
        probes = [probes[at] for probes in candidates]
        best = len(probes) // 2
        if at in can_judge:
            used = labels[:, at] != LEFT_OUT
            quality = auroc_by_column(score(probes)[used], labels[used, at] == POSITIVE)
            best = int(np.argmax(quality))
        chosen.append(probes[best])
    return tuple(chosen)


def fit_on_both(
    estimator: RowEstimator[P], rows: LabelledRows, select: HeldOutRows, *, seed: int = 0
) -> tuple[P, ...]:
    """One probe for each indicator: the strength chosen on the select rows, the fit on fit and select rows together."""
    if len(estimator.strengths) == 1:
        # Nothing to choose: one fit will do.
        return estimator.fit(_together(rows, select), estimator.strengths, seed=seed)[0]
    chosen = fit_selected(estimator, rows, select, seed=seed)
    return refit(estimator, rows, select, chosen, seed=seed)


def refit(
    estimator: RowEstimator[P],
    rows: LabelledRows,
    select: HeldOutRows,
    chosen: Sequence[P],
    *,
    seed: int = 0,
) -> tuple[P, ...]:
    """The probes that were chosen, fitted again on fit and select rows together: no labelled text is wasted."""
    return fit_again(estimator, _together(rows, select), chosen, seed=seed)


def _together(rows: LabelledRows, select: HeldOutRows) -> LabelledRows:
    return LabelledRows(
        X=stack_rows(rows.X, select.X),
        labels=np.concatenate([rows.labels, select.labels]),
        indicators=rows.indicators,
    )


def fit_again(
    estimator: Estimator[D, P], data: D, chosen: Sequence[P], *, seed: int = 0
) -> tuple[P, ...]:
    """Each indicator's probe with the strength that was chosen for it, fitted on other data."""
    strengths = sorted({strength_of(probe) for probe in chosen}, reverse=True)
    fitted = dict(zip(strengths, estimator.fit(data, strengths, seed=seed), strict=True))
    return tuple(fitted[strength_of(probe)][at] for at, probe in enumerate(chosen))


def scores_of(probes: Sequence[Probe], X: Matrix) -> Float32[np.ndarray, "tok probe"]:
    """Scores of several probes; those of linear ones from one product with the rows."""
    if any(not isinstance(probe, LinearProbe) for probe in probes):
        return np.stack([probe.score(X) for probe in probes], axis=1)
    linear = [probe for probe in probes if isinstance(probe, LinearProbe)]
    weight = np.stack([probe.weight for probe in linear], axis=1)
    bias = np.array([probe.bias for probe in linear], dtype=np.float32)
    return np.asarray(X @ weight + bias, dtype=np.float32)


def auroc_by_column(
    scores: Float[np.ndarray, "tok candidate"], is_positive: Bool[np.ndarray, "tok"]
) -> Float[np.ndarray, "candidate"]:
    """AUROC of each column of scores against the same labels, rounded to what can be told apart."""
    n_pos = int(is_positive.sum())
    n_pairs = n_pos * (len(is_positive) - n_pos)
    wins = rankdata(scores, axis=0)[is_positive].sum(axis=0) - n_pos * (n_pos + 1) / 2
    return np.round(wins / n_pairs, 6)
