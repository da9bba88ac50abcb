"""Shapley values of trees: those of the definition, of LightGBM and of hand computation."""

from itertools import combinations
from math import factorial

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from mechprobe.baselines.forest import fit_forest
from mechprobe.probes.explaining.tree_shap import Tree, expected_value, tree_shap
from mechprobe.probes.kinds.boosted import fit_boosted
from mechprobe.probes.rows import LabelledRows
from tests.probes.explained_rows import planted_rows

STUMPS = Tree(
    # x0 <= 1 ? (x1 <= 0 ? 1 : 2) : (x0 <= 3 ? 4 : 8), with 10 fitted rows in unequal shares.
    left=np.array([1, 3, 5, -1, -1, -1, -1]),
    right=np.array([2, 4, 6, -1, -1, -1, -1]),
    feature=np.array([0, 1, 0, -1, -1, -1, -1]),
    threshold=np.array([1.0, 0.0, 3.0, 0.0, 0.0, 0.0, 0.0]),
    value=np.array([0.0, 0.0, 0.0, 1.0, 2.0, 4.0, 8.0]),
    cover=np.array([10.0, 6.0, 4.0, 2.0, 4.0, 1.0, 3.0]),
)


def known_only(tree: Tree, x: np.ndarray, known: set[int], node: int = 0) -> float:
    """A tree's mean score where only some columns are known: by its definition, node after node."""
    if tree.left[node] < 0:
        return float(tree.value[node])
    left, right = int(tree.left[node]), int(tree.right[node])
    feature = int(tree.feature[node])
    if feature in known:
        goes_left = x[feature] <= tree.threshold[node]
        return known_only(tree, x, known, left if goes_left else right)
    share = tree.cover[left] / tree.cover[node]
    return float(
        share * known_only(tree, x, known, left) + (1 - share) * known_only(tree, x, known, right)
    )


def shapley_by_definition(tree: Tree, x: np.ndarray) -> np.ndarray:
    width = len(x)
    values = np.zeros(width)
    for feature in range(width):
        others = [at for at in range(width) if at != feature]
        for size in range(width):
            weight = factorial(size) * factorial(width - size - 1) / factorial(width)
            for chosen in combinations(others, size):
                gain = known_only(tree, x, {*chosen, feature}) - known_only(tree, x, set(chosen))
                values[feature] += weight * gain
    return values


def test_values_of_a_small_tree_are_those_computed_by_hand() -> None:
    # x = (0, 1): the score is 2, and the mean of the fitted rows (2 + 8 + 4 + 24) / 10 = 3.8.
    # Known alone, x0 leaves (1 * 2 + 2 * 4) / 6 = 5/3; x1 leaves .6 * 2 + .4 * 7 = 4.
    assert expected_value(STUMPS) == pytest.approx(3.8)
    found = tree_shap(STUMPS, np.array([[0.0, 1.0]]))[0]
    first = ((5 / 3 - 3.8) + (2 - 4)) / 2
    second = ((4 - 3.8) + (2 - 5 / 3)) / 2
    assert found == pytest.approx([first, second])


@given(st.lists(st.floats(-1, 5), min_size=2, max_size=2))
@settings(deadline=None)
def test_values_of_a_tree_that_splits_twice_on_a_column_follow_the_definition(
    x: list[float],
) -> None:
    row = np.array(x)
    np.testing.assert_allclose(
        tree_shap(STUMPS, row[None])[0], shapley_by_definition(STUMPS, row), atol=1e-12
    )


def test_values_of_grown_trees_follow_the_definition() -> None:
    rows = planted_rows(120, 4)
    forest = fit_forest(rows, n_trees=3)[0][0]
    X = np.asarray(rows.X, dtype=np.float64)[:5]
    expected = np.mean(
        [[shapley_by_definition(tree, x[forest.features]) for x in X] for tree in forest.trees],
        axis=0,
    )
    found = forest.contributions(rows.X[:5])
    np.testing.assert_allclose(found[:, forest.features], expected, atol=1e-12)


@pytest.mark.parametrize("is_sparse", [False, True])
def test_values_of_boosted_trees_sum_to_the_score_and_only_columns_that_split_move_it(
    is_sparse: bool,
) -> None:
    plain = planted_rows(400, 6, flip=0.2)
    X = sp.csr_matrix(np.maximum(plain.X, 0)) if is_sparse else plain.X
    rows = LabelledRows(X=X, labels=plain.labels, indicators=plain.indicators)
    for probe in fit_boosted(rows, [2.0])[0]:
        found = probe.contributions(X)
        dense = found.toarray() if is_sparse else found
        np.testing.assert_allclose(dense.sum(axis=1), probe.score(X), atol=1e-6)
        assert np.ptp(dense[:, -1]) == 0
        assert set(np.flatnonzero(dense[:, :-1].any(axis=0))) == set(probe.features)


def test_the_values_of_one_splitting_column_are_the_scores_distance_from_their_mean() -> None:
    y = np.arange(60) < 20
    X = np.stack([y, np.zeros(60), np.ones(60)], axis=1).astype(np.float32)
    rows = LabelledRows(X=X, labels=y[:, None].astype(np.int8), indicators=("a",))
    probe = fit_boosted(rows, [1.0])[0][0]
    found, scores = probe.contributions(X), probe.score(X)
    assert (found[:, 1:3] == 0).all()
    np.testing.assert_allclose(found[:, 3], scores.mean(), atol=1e-6)
    np.testing.assert_allclose(found[:, 0], scores - scores.mean(), atol=1e-6)
    assert scores[y].min() > scores[~y].max()


def test_boosted_trees_without_a_split_explain_their_constant() -> None:
    """Too few rows for a leaf of ten: LightGBM writes one leaf."""
    labels = np.array([[1], [0]] * 4, dtype=np.int8)
    rows = LabelledRows(X=np.eye(8, dtype=np.float32), labels=labels, indicators=("a",))
    probe = fit_boosted(rows, [1.0])[0][0]
    found = probe.contributions(rows.X)
    assert (found[:, :-1] == 0).all()
    np.testing.assert_allclose(found[:, -1], probe.score(rows.X), atol=1e-6)


def test_a_tree_without_a_split_moves_nothing() -> None:
    leaf = Tree(
        left=np.array([-1]),
        right=np.array([-1]),
        feature=np.array([-1]),
        threshold=np.array([0.0]),
        value=np.array([0.25]),
        cover=np.array([7.0]),
    )
    assert expected_value(leaf) == 0.25
    assert (tree_shap(leaf, np.ones((2, 3))) == 0).all()
