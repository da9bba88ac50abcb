"""Probes fitted on some scenarios score the tokens of others: the out-of-fold part of a detection study."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Float32, Int, Int8

from mechprobe.baselines.shuffled import SHUFFLED_LABELS, shuffle_held_out, shuffle_labels
from mechprobe.probes.aggregation import Pooling, pool
from mechprobe.probes.bank import ProbeSet
from mechprobe.probes.estimators import Reads, find_estimator, fit_selected, refit, scores_of
from mechprobe.probes.examples import LabelledTokens
from mechprobe.probes.matrix import Matrix
from mechprobe.probes.rows import NEGATIVE, HeldOutRows, LabelledRows, fittable

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
    """A probe set, and the mean and spread of its scores on negative tokens of the select conversations."""

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
    seed: int = 0,
) -> Iterator[Calibrated]:
    """Every estimator that the source can serve; last, the probe that was given shuffled labels."""
    fit = labelled.take(fold.fit[labelled.conversation])
    select = labelled.take(fold.select[labelled.conversation])
    columns = fittable(fit.labels)
    scorers = {name: find_estimator(name) for name in estimators}
    scorers[SHUFFLED_LABELS] = find_estimator("dense_logistic")
    for reads in ("acts", "feature_acts"):
        chosen = {name: one for name, one in scorers.items() if one.reads == reads}
        if not chosen or (reads == "feature_acts" and source.features is None):
            continue
        rows = LabelledRows(
            X=source.read(reads, fit.rows),
            labels=fit.labels[:, columns],
            indicators=tuple(labelled.indicators[at] for at in columns),
        )
        held = HeldOutRows(X=source.read(reads, select.rows), labels=select.labels[:, columns])
        for scorer, estimator in chosen.items():
            if scorer == SHUFFLED_LABELS:
                given = shuffle_labels(rows, seed), shuffle_held_out(held, seed)
                probes = fit_selected(estimator, *given, seed=seed)
            else:
                probes = fit_selected(estimator, rows, held, seed=seed)
                probes = refit(estimator, rows, held, probes, seed=seed)
            mean, std = _negatives(scores_of(probes, held.X), held.labels)
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
    blocks = np.array_split(pooling.rows, max(1, -(-len(pooling.rows) // _BLOCK)))
    scores: list[list[np.ndarray]] = [[] for _ in fitted]
    for rows in blocks:
        read: dict[Reads, Matrix] = {}
        for one, found in zip(fitted, scores, strict=True):
            reads = one.probes.reads
            if reads not in read:
                read[reads] = source.read(reads, rows)
            found.append(one.score(read[reads]))
    return [pool(np.concatenate(found), pooling).turn for found in scores]


def _negatives(
    scores: Float[np.ndarray, "tok fitted"], labels: Int8[np.ndarray, "tok fitted"]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and spread of each column's negatives; 0 and 1 where there is no spread."""
    mean, std = np.zeros(labels.shape[1]), np.ones(labels.shape[1])
    for at in range(labels.shape[1]):
        negatives = scores[labels[:, at] == NEGATIVE, at]
        if len(negatives) > 1 and negatives.std() > 0:
            mean[at], std[at] = negatives.mean(), negatives.std()
    return mean, std
