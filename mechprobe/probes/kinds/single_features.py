"""Is the best single feature better than the best of as many would be by luck? A permutation null of the maximum.

The best of thousands of features separates any labels to some degree (the winner's curse). Labels are permuted, the
best feature is chosen anew each time, and its figure is compared with the real one: the p-value holds for the search
as a whole (Westfall and Young 1993). All permutations of a block are one product with the rows.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Integer
from scipy.stats import rankdata

from mechprobe.errors import ConfigError, LabelError
from mechprobe.probes.matrix import Matrix, is_sparse, size_of, square, take_rows
from mechprobe.probes.rows import LEFT_OUT, POSITIVE, LabelledRows

Statistic: TypeAlias = Literal["auroc", "separation"]
"""AUROC minus .5, or the difference of the class means in within-class standard deviations."""

_BLOCK = 64
"""Permutations that are scored by one product."""
_TRIES = 20
"""Draws for each permutation that must have both classes."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BestFeature:
    """The feature that tells an indicator's classes apart best, beside what the search finds in permuted labels."""

    indicator: str
    feature: int
    observed: float
    """Signed: above 0 where the feature is higher on positives."""
    null: Float[np.ndarray, "permutation"]
    """The largest absolute value over all features, for each permutation."""

    @property
    def p_value(self) -> float:
        """Chance of at least the observed absolute value without any relation, for the search as a whole."""
        return float((1 + (self.null >= abs(self.observed) - 1e-9).sum()) / (1 + len(self.null)))

    @property
    def by_luck(self) -> float:
        """What the search finds without any relation, in the median."""
        return float(np.median(self.null))


def best_single_features(
    rows: LabelledRows,
    *,
    statistic: Statistic = "auroc",
    groups: Integer[np.ndarray, "tok"] | None = None,
    n_permutations: int = 1000,
    seed: int = 0,
) -> tuple[BestFeature, ...]:
    """The best feature of each indicator and its null.

    Args:
        groups: the transcript of each row, where rows of one are not independent. Each transcript is then given the
            labels of another as a whole, stretched or squeezed to its number of rows, so that runs of labels stay
            runs. None: each row stands for itself.
        n_permutations: the smallest p-value is one over one more than this.
        seed: of the permutations.

    Raises:
        ConfigError: there is no permutation to draw.
        LabelError: there are too few groups for permuted labels to have both classes.
    """
    if n_permutations < 1:
        raise ConfigError(f"n_permutations is {n_permutations}; give at least 1, better 1000.")
    found: list[BestFeature] = []
    for at, indicator in enumerate(rows.indicators):
        used = np.flatnonzero(rows.labels[:, at] != LEFT_OUT)
        y = rows.labels[used, at] == POSITIVE
        X = take_rows(rows.X, used)
        score = _auroc(X) if statistic == "auroc" else _separation(X)
        observed = score(y[:, None])[0]
        best = int(np.argmax(np.abs(observed)))
        clusters = np.arange(len(used)) if groups is None else groups[used]
        null = [
            np.abs(score(permuted)).max(axis=1)
            for permuted in _permutations(y, clusters, indicator, n_permutations, seed)
        ]
        found.append(
            BestFeature(
                indicator=indicator,
                feature=best,
                observed=float(observed[best]),
                null=np.concatenate(null),
            )
        )
    return tuple(found)


Score = Callable[[Bool[np.ndarray, "tok permutation"]], Float[np.ndarray, "permutation d"]]


def _auroc(X: Matrix) -> Score:
    """AUROC - .5 of every feature under every labelling: sums of ranks, those of zeros being common to a column."""
    n_rows = size_of(X)[0]
    above, common = _sparse_ranks(X) if is_sparse(X) else _dense_ranks(np.asarray(X))

    def score(y: np.ndarray) -> np.ndarray:
        n_pos = y.sum(axis=0, dtype=np.float64)[:, None]
        sums = np.asarray(above.T @ y.astype(np.float64)).T + n_pos * common
        wins = sums - n_pos * (n_pos + 1) / 2
        return wins / (n_pos * (n_rows - n_pos)) - 0.5

    return score


def _dense_ranks(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    middle = (len(X) + 1) / 2
    return rankdata(X, axis=0) - middle, np.full(X.shape[1], middle)


def _sparse_ranks(X: Matrix) -> tuple[sp.csc_matrix, np.ndarray]:
    """Ranks above the common rank of a column's zeros, and that rank; only stored values are touched."""
    ranks: Any = sp.csc_matrix(X, dtype=np.float64, copy=True)
    ranks.eliminate_zeros()
    n_rows = size_of(X)[0]
    common = np.zeros(ranks.shape[1])
    bounds: list[int] = ranks.indptr.tolist()
    for column, (first, stop) in enumerate(itertools.pairwise(bounds)):
        part = slice(first, stop)
        values = ranks.data[part]
        n_zero, n_below = n_rows - len(values), int((values < 0).sum())
        common[column] = n_below + (n_zero + 1) / 2
        order = rankdata(values) + np.where(values > 0, n_zero, 0)
        ranks.data[part] = order - common[column]
    return ranks, common


def _separation(X: Matrix) -> Score:
    """Cohen's d of every feature under every labelling, as `moments.class_separation` gives it for one."""
    n_rows = size_of(X)[0]
    squared = square(X)
    total, total_squared = (np.asarray(part.sum(axis=0)).ravel() for part in (X, squared))

    def score(y: np.ndarray) -> np.ndarray:
        n_pos = y.sum(axis=0, dtype=np.float64)[:, None]
        n_neg = n_rows - n_pos
        positives = y.astype(np.float64)
        sums = np.asarray(X.T @ positives).T
        mean_pos, mean_neg = sums / n_pos, (total - sums) / n_neg
        within = total_squared - n_pos * mean_pos**2 - n_neg * mean_neg**2
        difference = mean_pos - mean_neg
        floor = 1e-3 * np.abs(difference) + 1e-12
        return difference / np.maximum(np.sqrt(np.maximum(within / n_rows, 0)), floor)

    return score


def _permutations(
    y: Bool[np.ndarray, "tok"],
    clusters: Integer[np.ndarray, "tok"],
    indicator: str,
    n_permutations: int,
    seed: int,
) -> Iterator[Bool[np.ndarray, "tok permutation"]]:
    """Blocks of permuted labels, each with both classes."""
    rng = np.random.default_rng(seed)
    _, of_row, lengths = np.unique(clusters, return_inverse=True, return_counts=True)
    # Rows of a group in their order, groups one after another.
    in_order = np.argsort(of_row, kind="stable")
    begin = np.cumsum(lengths) - lengths
    group = np.repeat(np.arange(len(lengths)), lengths)
    place = (np.arange(len(y)) - begin[group] + 0.5) / lengths[group]
    left, tries = n_permutations, _TRIES * n_permutations
    while left:
        block: list[np.ndarray] = []
        while len(block) < min(_BLOCK, left):
            if not tries:
                raise LabelError(
                    f"permuting {len(lengths)} groups rarely gives indicator {indicator!r} both classes; "
                    "label more transcripts, or permute rows (groups=None)."
                )
            tries -= 1
            donor = rng.permutation(len(lengths))[group]
            source = begin[donor] + (place * lengths[donor]).astype(np.int64)
            permuted = np.empty_like(y)
            permuted[in_order] = y[in_order][source]
            if permuted.any() and not permuted.all():
                block.append(permuted)
        left -= len(block)
        yield np.stack(block, axis=1)
