"""A random forest that can be explained: scikit-learn's trees, kept as arrays, with exact Shapley values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Integer

from mechprobe.errors import ConfigError
from mechprobe.probes.explaining.tree_shap import Tree, expected_value, tree_shap
from mechprobe.probes.linear import check_width
from mechprobe.probes.matrix import Matrix, size_of, take_columns, take_rows
from mechprobe.probes.rows import LEFT_OUT, POSITIVE, LabelledRows, check_finite

N_TREES = 100
MIN_IN_LEAF = (3.0,)
"""Candidates for the fewest fitted rows in a leaf; one, since a forest depends little on it."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ForestProbe:
    """The mean of many trees, each grown on rows drawn with replacement and a few columns at each split."""

    trees: tuple[Tree, ...]
    """Their columns are counted among `features`."""
    features: Integer[np.ndarray, "k"]
    """Columns that a tree splits on."""
    width: int
    """Columns of the rows that it reads."""
    settings: Mapping[str, float] = field(default_factory=dict[str, float])
    kind: str = "forest"

    def score(self, X: Matrix) -> Float32[np.ndarray, "tok"]:
        """Mean share of positives in the leaves that a row falls into, between 0 and 1.

        Raises:
            ShapeError: the rows are not as wide as those the forest was fitted on.
            LabelError: a value is not finite.
        """
        columns = self._read(X)
        found = [tree.value[_leaves(tree, columns)] for tree in self.trees]
        return np.mean(found, axis=0).astype(np.float32)

    def contributions(self, X: Matrix) -> Float[np.ndarray, "tok d_and_base"]:
        """What each column adds to each row's score; the last column holds the score that all have in common.

        Raises:
            ShapeError, LabelError: as `score`.
        """
        columns = self._read(X)
        full = np.zeros((len(columns), self.width + 1))
        full[:, self.features] = sum(tree_shap(tree, columns) for tree in self.trees)
        full[:, -1] = sum(expected_value(tree) for tree in self.trees)
        return full / len(self.trees)

    def _read(self, X: Matrix) -> np.ndarray:
        check_width(X, self.width, "a forest")
        check_finite(X)
        # Thresholds were chosen among values in float32.
        return take_columns(X, self.features).astype(np.float32).astype(np.float64)


def fit_forest(
    rows: LabelledRows,
    strengths: Sequence[float] = MIN_IN_LEAF,
    *,
    seed: int = 0,
    n_trees: int = N_TREES,
) -> list[tuple[ForestProbe, ...]]:
    """For each number of rows in a leaf, one forest for each indicator.

    Args:
        strengths: fewest fitted rows in a leaf, whole numbers.
        seed: of the rows that each tree is grown on and of the columns tried at each split.

    Raises:
        ConfigError: a number of rows is not whole or not positive.
    """
    if not len(strengths) or min(strengths) < 1 or any(n != int(n) for n in strengths):
        raise ConfigError(
            f"min_in_leaf candidates are {tuple(strengths)}; give whole numbers of at least 1, such as 3."
        )
    return [
        tuple(
            _grow(rows, at, min_in_leaf=int(strength), n_trees=n_trees, seed=seed)
            for at in range(len(rows.indicators))
        )
        for strength in strengths
    ]


def _grow(rows: LabelledRows, at: int, *, min_in_leaf: int, n_trees: int, seed: int) -> ForestProbe:
    # scikit-learn takes seconds to import, and evaluation tables are also read without it.
    from sklearn.ensemble import RandomForestClassifier

    used = rows.labels[:, at] != LEFT_OUT
    forest = RandomForestClassifier(
        n_estimators=n_trees, min_samples_leaf=min_in_leaf, random_state=seed
    ).fit(take_rows(rows.X, np.flatnonzero(used)), rows.labels[used, at] == POSITIVE)
    grown: list[Any] = [estimator.tree_ for estimator in forest.estimators_]
    splits = [tree.feature[tree.children_left >= 0] for tree in grown]
    features = np.unique(np.concatenate(splits)).astype(np.int64)
    return ForestProbe(
        trees=tuple(_tree(tree, features) for tree in grown),
        features=features,
        width=size_of(rows.X)[1],
        settings={"min_in_leaf": float(min_in_leaf), "n_trees": float(n_trees)},
    )


def _tree(grown: Any, features: np.ndarray) -> Tree:
    """scikit-learn's tree with its columns renumbered; its values are shares of the two classes."""
    shares = grown.value[:, 0]
    column = np.searchsorted(features, grown.feature)
    return Tree(
        left=grown.children_left.astype(np.int64),
        right=grown.children_right.astype(np.int64),
        feature=np.where(grown.children_left >= 0, column, -1),
        threshold=grown.threshold.astype(np.float64),
        value=shares[:, 1] / shares.sum(axis=1),
        cover=grown.weighted_n_node_samples.astype(np.float64),
    )


def _leaves(tree: Tree, X: Float[np.ndarray, "tok k"]) -> np.ndarray:
    """The leaf that each row falls into."""
    at = np.zeros(len(X), dtype=np.int64)
    while (open_ := tree.left[at] >= 0).any():
        rows = np.flatnonzero(open_)
        node = at[rows]
        goes_left = X[rows, tree.feature[node]] <= tree.threshold[node]
        at[rows] = np.where(goes_left, tree.left[node], tree.right[node])
    return at
