"""The estimators by name, and the choice of their strength on rows that were not fitted on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int8
from scipy.stats import rankdata

from mechprobe.errors import ConfigError
from mechprobe.probes.directions import (
    SHRINKAGES,
    fit_difference_of_means,
    fit_lda,
    fit_random_direction,
    fit_ridge,
)
from mechprobe.probes.k_sparse import KS, fit_k_sparse
from mechprobe.probes.lasso import L1_STRENGTHS, fit_lasso
from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.logistic import L2_STRENGTHS, fit_logistic
from mechprobe.probes.matrix import Matrix, stack_rows
from mechprobe.probes.paper import PAPER_L2_STRENGTH, fit_paper_recipe
from mechprobe.probes.rows import (
    LEFT_OUT,
    POSITIVE,
    HeldOutRows,
    LabelledRows,
    fittable,
)

Reads = Literal["acts", "feature_acts"]


@runtime_checkable
class Fit(Protocol):
    """Fit all indicators: for each strength, one probe for each indicator. Deterministic in the seed."""

    def __call__(
        self, rows: LabelledRows, strengths: Sequence[float], *, seed: int
    ) -> list[tuple[LinearProbe, ...]]:
        """See the class."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimator:
    """A way to fit probes, with the candidates for its one setting."""

    name: str
    """The scorer's name in tables, for instance "dense_logistic"."""
    reads: Reads
    """Raw activations, or the features of an SAE."""
    fit: Fit
    strengths: tuple[float, ...]
    """Candidates, the simplest or smoothest first: of equals the first is chosen."""


ESTIMATORS: dict[str, Estimator] = {
    estimator.name: estimator
    for estimator in (
        Estimator(name="dense_logistic", reads="acts", fit=fit_logistic, strengths=L2_STRENGTHS),
        Estimator(
            name="dense_paper", reads="acts", fit=fit_paper_recipe, strengths=(PAPER_L2_STRENGTH,)
        ),
        Estimator(name="dense_ridge", reads="acts", fit=fit_ridge, strengths=L2_STRENGTHS),
        Estimator(name="dense_lda", reads="acts", fit=fit_lda, strengths=SHRINKAGES),
        Estimator(
            name="dense_diff_of_means", reads="acts", fit=fit_difference_of_means, strengths=(0.0,)
        ),
        Estimator(
            name="random_direction", reads="acts", fit=fit_random_direction, strengths=(0.0,)
        ),
        Estimator(name="sae_k_sparse", reads="feature_acts", fit=fit_k_sparse, strengths=KS),
        Estimator(
            name="sae_logistic", reads="feature_acts", fit=fit_logistic, strengths=L2_STRENGTHS
        ),
        Estimator(name="sae_lasso", reads="feature_acts", fit=fit_lasso, strengths=L1_STRENGTHS),
    )
}


def find_estimator(name: str) -> Estimator:
    """The estimator of that name.

    Raises:
        ConfigError: there is none; the message lists those there are.
    """
    if name not in ESTIMATORS:
        raise ConfigError(f"unknown estimator {name!r}; there are {', '.join(ESTIMATORS)}.")
    return ESTIMATORS[name]


def fit_selected(
    estimator: Estimator, rows: LabelledRows, select: HeldOutRows | None, *, seed: int = 0
) -> tuple[LinearProbe, ...]:
    """One probe for each indicator, with the strength of highest AUROC on the select rows.

    Without select rows, or with only one class of an indicator there, it takes the middle candidate.

    Args:
        select: rows of other groups than those fitted on, with labels for the same indicators.
    """
    middle = len(estimator.strengths) // 2
    if select is None or len(estimator.strengths) == 1:
        return estimator.fit(rows, [estimator.strengths[middle]], seed=seed)[0]
    candidates = estimator.fit(rows, estimator.strengths, seed=seed)
    can_judge = set(fittable(select.labels).tolist())
    chosen: list[LinearProbe] = []
    for at in range(len(rows.indicators)):
        probes = [probes[at] for probes in candidates]
        best = _best(probes, select.X, select.labels[:, at]) if at in can_judge else middle
        chosen.append(probes[best])
    return tuple(chosen)


def refit(
    estimator: Estimator,
    rows: LabelledRows,
    select: HeldOutRows,
    chosen: Sequence[LinearProbe],
    *,
    seed: int = 0,
) -> tuple[LinearProbe, ...]:
    """The probes that were chosen, fitted again on fit and select rows together: no labelled text is wasted."""
    both = LabelledRows(
        X=stack_rows(rows.X, select.X),
        labels=np.concatenate([rows.labels, select.labels]),
        indicators=rows.indicators,
    )
    strengths = sorted({probe.strength for probe in chosen}, reverse=True)
    fitted = dict(zip(strengths, estimator.fit(both, strengths, seed=seed), strict=True))
    return tuple(fitted[probe.strength][at] for at, probe in enumerate(chosen))


def _best(probes: Sequence[LinearProbe], X: Matrix, labels: Int8[np.ndarray, "tok"]) -> int:
    """The first of the probes that rank these rows best."""
    used = labels != LEFT_OUT
    quality = auroc_by_column(scores_of(probes, X)[used], labels[used] == POSITIVE)
    return int(np.argmax(quality))


def scores_of(probes: Sequence[LinearProbe], X: Matrix) -> Float[np.ndarray, "tok probe"]:
    """Scores of several probes from one product with the rows."""
    weight = np.stack([probe.weight for probe in probes], axis=1)
    return np.asarray(X @ weight + np.array([probe.bias for probe in probes], dtype=np.float32))


def auroc_by_column(
    scores: Float[np.ndarray, "tok candidate"], is_positive: Bool[np.ndarray, "tok"]
) -> Float[np.ndarray, "candidate"]:
    """AUROC of each column of scores against the same labels, rounded to what can be told apart."""
    n_pos = int(is_positive.sum())
    n_pairs = n_pos * (len(is_positive) - n_pos)
    wins = rankdata(scores, axis=0)[is_positive].sum(axis=0) - n_pos * (n_pos + 1) / 2
    return np.round(wins / n_pairs, 6)
