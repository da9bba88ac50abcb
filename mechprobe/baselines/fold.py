"""The contract of baselines: fit on some units, choose on others, score further ones; and what they share in a fold.

Several baselines read the same numbers, for instance a logistic regression and a forest the same TF-IDF. A fold keeps
what was computed, so that texts are vectorised once and not once for each baseline.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Integer

from mechprobe.baselines.passages import LabelledTexts, Passages
from mechprobe.errors import ShapeError
from mechprobe.probes.estimators import RowEstimator, fit_on_both, fit_selected
from mechprobe.probes.matrix import Matrix, stack_rows
from mechprobe.probes.probe import Probe
from mechprobe.probes.rows import HeldOutRows, LabelledRows, fittable

Needs = Literal["places", "n_tokens"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FoldRows:
    """One matrix of numbers for the texts of a fold; the columns were made from the fit texts alone."""

    fit: Matrix
    select: Matrix | None
    test: Matrix
    names: tuple[str, ...]
    """What each column counts, for instance a word."""

    @property
    def known(self) -> Matrix:
        """The rows with labels: those fitted on, and those that choose."""
        return self.fit if self.select is None else stack_rows(self.fit, self.select)


class BaselineFold:
    """The units of one fold, and the numbers that baselines have made of them so far.

    Raises:
        ShapeError: fit and select units are labelled for different numbers of indicators.
    """

    def __init__(self, fit: LabelledTexts, select: LabelledTexts | None, test: Passages) -> None:
        if select is not None and select.labels.shape[1] != fit.labels.shape[1]:
            raise ShapeError(
                f"the fit units have labels for {fit.labels.shape[1]} indicators and the select units for "
                f"{select.labels.shape[1]}; label both for the same."
            )
        self.fit = fit
        # Units without labels choose nothing, and some vectorisers refuse none at all.
        self.select = select if select is not None and len(select.texts) else None
        self.test = test
        self._made: dict[str, FoldRows] = {}

    @property
    def columns(self) -> Integer[np.ndarray, "fitted"]:
        """Indicators with both classes among the fit units; the others score 0."""
        return fittable(self.fit.labels)

    @property
    def parts(self) -> tuple[Passages, ...]:
        """Fit, select (if there is one) and test."""
        return (self.fit, self.test) if self.select is None else (self.fit, self.select, self.test)

    def rows(self, name: str, make: Callable[["BaselineFold"], FoldRows]) -> FoldRows:
        """The matrix of that name, made when it is first asked for."""
        if name not in self._made:
            self._made[name] = make(self)
        return self._made[name]

    def split(
        self,
        numbers: Callable[[Passages], Float[np.ndarray, "text d"]],
        names: tuple[str, ...],
    ) -> FoldRows:
        """A matrix whose rows depend on their own unit only: nothing is learned from the fit texts."""
        parts = [np.asarray(numbers(part), dtype=np.float32) for part in self.parts]
        select = None if self.select is None else parts[1]
        return FoldRows(fit=parts[0], select=select, test=parts[-1], names=names)


@runtime_checkable
class Score(Protocol):
    """Score the fold's test units for every indicator; deterministic in the seed; 0 where nothing can be learned."""

    def __call__(self, fold: BaselineFold, *, seed: int) -> Float[np.ndarray, "text indicator"]:
        """See the class."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Baseline:
    """A scorer that reads no activation of the model under study."""

    name: str
    """The scorer's name in tables."""
    about: str
    """What it reads and how, as a report says it."""
    score: Score
    needs: tuple[Needs, ...] = ()
    """What it needs to know of the units beside their texts; it does not run where that is unknown."""

    def can_score(self, fold: BaselineFold) -> bool:
        """Whether the fold knows what this baseline needs."""
        return all(getattr(part, need) is not None for part in fold.parts for need in self.needs)


def fit_baseline(
    estimator: RowEstimator[Probe], fold: BaselineFold, rows: FoldRows, *, seed: int = 0
) -> tuple[Probe, ...]:
    """One probe for each of `fold.columns`: strength chosen on the select units, fitted again on both."""
    columns = fold.columns
    given = LabelledRows(
        X=rows.fit,
        labels=fold.fit.labels[:, columns],
        indicators=tuple(f"column {column}" for column in columns),
    )
    if fold.select is None or rows.select is None:
        return fit_selected(estimator, given, None, seed=seed)
    held = HeldOutRows(X=rows.select, labels=fold.select.labels[:, columns])
    return fit_on_both(estimator, given, held, seed=seed)


def fit_and_score(
    estimator: RowEstimator[Probe], fold: BaselineFold, rows: FoldRows, *, seed: int = 0
) -> Float[np.ndarray, "text indicator"]:
    """Scores of the test units; an indicator with one class only among the fit units scores 0."""
    scores = np.zeros((len(fold.test.texts), fold.fit.labels.shape[1]))
    if len(fold.columns) and len(rows.names) and len(scores):
        probes = fit_baseline(estimator, fold, rows, seed=seed)
        for column, probe in zip(fold.columns, probes, strict=True):
            scores[:, column] = probe.score(rows.test)
    return scores
