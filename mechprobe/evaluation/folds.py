"""Probes fitted on some scenarios score the tokens of others: the out-of-fold part of a detection study."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Float32, Int, Int8

from mechprobe.baselines.shuffled import SHUFFLED_LABELS, shuffle_held_out, shuffle_labels
from mechprobe.probes.estimators import (
    Reads,
    RowEstimator,
    find_estimator,
    fit_on_both,
    fit_selected,
    scores_of,
)
from mechprobe.probes.labels.balance import draw_balanced, with_class_weights
from mechprobe.probes.labels.examples import LabelledTokens
from mechprobe.probes.labels.labelling import LabelRule
from mechprobe.probes.matrix import Matrix
from mechprobe.probes.probe_set import ProbeSet
from mechprobe.probes.rows import NEGATIVE, HeldOutRows, LabelledRows, fittable
from mechprobe.probes.scoring.aggregation import (
    PAPER_POOLING,
    Pooling,
    PoolingRule,
    View,
    ViewPoolings,
    pool_views,
)

_BLOCK = 65_536
"""Rows read from the store at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenSource:
    """How to read a store at one hook point."""

    hook_name: str
    acts: Callable[[Int[np.ndarray, "tok"]], np.ndarray]
    """Activations of some rows."""
    features: Callable[[Int[np.ndarray, "tok"]], sp.csr_matrix] | None = None
    """SAE features of some rows, if there is an SAE."""

    def read(self, reads: Reads, rows: np.ndarray) -> Matrix:
        """What a scorer reads at some rows."""
        return self.features(rows) if reads == "feature_acts" and self.features else self.acts(rows)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Fold:
    """Which conversations are fitted on, which choose the strengths, and which are scored."""

    fit: Bool[np.ndarray, "conversation"]
    select: Bool[np.ndarray, "conversation"]
    test: Bool[np.ndarray, "conversation"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Calibrated:
    """A probe set, and the mean and spread of its scores on negatives of the select conversations."""

    probes: ProbeSet
    columns: Int[np.ndarray, "fitted"]
    """Columns of the labels that could be fitted."""
    mean: Float[np.ndarray, "fitted"]
    std: Float[np.ndarray, "fitted"]

    def score(self, X: Matrix) -> Float32[np.ndarray, "tok fitted"]:
        """Scores in standard deviations above the mean negative, so that folds and indicators compare."""
        return ((self.probes.score_all(X) - self.mean) / self.std).astype(np.float32)


def folds_of(fold_of_conversation: Int[np.ndarray, "conversation"]) -> Iterator[Fold]:
    """Each fold in turn is scored; the one after it chooses the strengths, the rest is fitted on."""
    n_folds = int(fold_of_conversation.max()) + 1
    for number in range(n_folds):
        test = fold_of_conversation == number
        select = fold_of_conversation == (number + 1) % n_folds
        yield Fold(fit=~test & ~select, select=select, test=test)


def fit_fold(
    fold: Fold,
    labelled: LabelledTokens,
    source: TokenSource,
    estimators: Sequence[str],
    *,
    rule: LabelRule | None = None,
    seed: int = 0,
) -> Iterator[Calibrated]:
    """Every estimator that the source can serve; last, the probe that was given shuffled labels.

    Args:
        rule: says how the classes are balanced, among the rows fitted on; None: as they are.
    """
    scorers = {name: find_estimator(name) for name in estimators}
    scorers[SHUFFLED_LABELS] = find_estimator("dense_logistic")
    yield from fit_scorers(fold, labelled, source, scorers, rule=rule, seed=seed)


def fit_scorers(
    fold: Fold,
    labelled: LabelledTokens,
    source: TokenSource,
    scorers: Mapping[str, RowEstimator[Any]],
    *,
    rule: LabelRule | None = None,
    seed: int = 0,
) -> Iterator[Calibrated]:
    """Estimators by the names that tables call them; see `fit_fold`."""
    fit = labelled.take(fold.fit[labelled.conversation])
    select = labelled.take(fold.select[labelled.conversation])
    fit_labels, select_labels = fit.labels, select.labels
    if rule and rule.balance == "draw":
        # The select rows are fitted on in the end: both are drawn from.
        ratio = rule.negatives_per_positive
        fit_labels = draw_balanced(fit_labels, ratio, seed)
        select_labels = draw_balanced(select_labels, ratio, seed)
    columns = fittable(fit_labels)
    if rule and rule.balance == "weights":
        scorers = {name: with_class_weights(one) for name, one in scorers.items()}
    for reads in ("acts", "feature_acts"):
        chosen = {name: one for name, one in scorers.items() if one.reads == reads}
        if not chosen or (reads == "feature_acts" and source.features is None):
            continue
        rows = LabelledRows(
            X=source.read(reads, fit.rows),
            labels=fit_labels[:, columns],
            indicators=tuple(labelled.indicators[at] for at in columns),
        )
        held = HeldOutRows(X=source.read(reads, select.rows), labels=select_labels[:, columns])
        for scorer, estimator in chosen.items():
            if scorer == SHUFFLED_LABELS:
                given = shuffle_labels(rows, seed), shuffle_held_out(held, seed)
                probes = fit_selected(estimator, *given, seed=seed)
            else:
                probes = fit_on_both(estimator, rows, held, seed=seed)
            mean, std = negatives_of(scores_of(probes, held.X), held.labels)
            yield Calibrated(
                probes=ProbeSet(
                    scorer=scorer,
                    hook_name=source.hook_name,
                    reads=reads,
                    indicators=rows.indicators,
                    probes=probes,
                ),
                columns=columns,
                mean=mean,
                std=std,
            )


def score_turns(
    fitted: Sequence[Calibrated], pooling: Pooling, source: TokenSource
) -> list[Float32[np.ndarray, "turn fitted"]]:
    """Turn scores of every probe set, each block of tokens being read once for all of them."""
    plan = ViewPoolings(rows=pooling.rows, views={"full": pooling})
    return [views["full"] for views in score_views(fitted, plan, source)]


def score_views(
    fitted: Sequence[Calibrated],
    plan: ViewPoolings,
    source: TokenSource,
    rule: PoolingRule = PAPER_POOLING,
) -> list[dict[View, Float32[np.ndarray, "turn fitted"]]]:
    """Turn scores of every probe set in every view; tokens are read and scored once, and pooled all at once."""
    if not fitted:
        return []
    blocks = np.array_split(plan.rows, max(1, -(-len(plan.rows) // _BLOCK)))
    scores: list[np.ndarray] = []
    for rows in blocks:
        read: dict[Reads, Matrix] = {}
        found: list[np.ndarray] = []
        for one in fitted:
            reads = one.probes.reads
            if reads not in read:
                read[reads] = source.read(reads, rows)
            found.append(one.score(read[reads]))
        scores.append(np.concatenate(found, axis=1))
    pooled = pool_views(np.concatenate(scores), plan, rule)
    ends = np.cumsum([len(one.columns) for one in fitted])
    return [
        {name: of_view.turn[:, end - len(one.columns) : end] for name, of_view in pooled.items()}
        for one, end in zip(fitted, ends, strict=True)
    ]


def negatives_of(
    scores: Float[np.ndarray, "unit fitted"], labels: Int8[np.ndarray, "unit fitted"]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and spread of each column's negatives, 0 and 1 where there is no spread: what a fold's scores are scaled by.

    They are the negatives that choose strengths, for every scorer: tokens, turns or texts, whatever it was fitted on.
    """
    mean, std = np.zeros(labels.shape[1]), np.ones(labels.shape[1])
    for at in range(labels.shape[1]):
        negatives = scores[labels[:, at] == NEGATIVE, at]
        if len(negatives) > 1 and negatives.std() > 0:
            mean[at], std[at] = negatives.mean(), negatives.std()
    return mean, std
