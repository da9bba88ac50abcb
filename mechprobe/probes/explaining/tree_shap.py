"""Exact Shapley values of decision trees, path-dependent as in TreeSHAP (Lundberg and others, arXiv 1802.03888).

A leaf is a product: a row reaches it if every feature on its path goes the right way, and a feature that is not known
goes that way with the share of the fitted rows that did. The Shapley value of a feature in such a game is an integral,

    leaf * (o_i - z_i) * int_0^1 prod_{f != i} (z_f (1 - u) + o_f u) du,

with o_f = 1 where the row goes the right way at f, and z_f that share. The integrand is a polynomial, so few points of
Gauss-Legendre give it exactly. (The weights of the Shapley value are Beta integrals; arXiv 2209.08192 uses the same.)
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

_BLOCK = 2**22
"""Numbers in the largest array that is made at once."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Tree:
    """A fitted binary tree; node 0 is the root, a row goes left where its value is at most the threshold."""

    left: Int[np.ndarray, "node"]
    """Left child, -1 at a leaf."""
    right: Int[np.ndarray, "node"]
    feature: Int[np.ndarray, "node"]
    """Column that a node splits on; unused at a leaf."""
    threshold: Float[np.ndarray, "node"]
    value: Float[np.ndarray, "node"]
    """What a leaf scores; unused elsewhere."""
    cover: Float[np.ndarray, "node"]
    """Fitted rows, or their weight, that came by."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Paths:
    """The leaves of a tree whose paths split on the same number of features."""

    value: Float[np.ndarray, "leaf"]
    features: Int[np.ndarray, "leaf m"]
    low: Float[np.ndarray, "leaf m"]
    """A row goes the right way at a feature if its value is above `low` and at most `high`."""
    high: Float[np.ndarray, "leaf m"]
    share: Float[np.ndarray, "leaf m"]
    """Share of the fitted rows that went the right way."""


def tree_shap(tree: Tree, X: Float[np.ndarray, "tok d"]) -> Float[np.ndarray, "tok d"]:
    """What each column adds to the tree's score of each row, beside `expected_value`."""
    values = np.zeros(X.shape)
    for paths in _grouped(tree):
        n_leaves, n_features = paths.features.shape
        nodes, weights = np.polynomial.legendre.leggauss(n_features // 2 + 1)
        nodes, weights = (nodes + 1) / 2, weights / 2
        step = max(1, _BLOCK // (n_leaves * n_features * len(nodes)))
        for start in range(0, len(X), step):
            rows = X[start : start + step][:, paths.features]
            goes = (rows > paths.low) & (rows <= paths.high)
            moved = _shapley(goes, paths, nodes, weights)
            flat = values[start : start + step]
            for at in range(n_leaves):
                flat[:, paths.features[at]] += moved[:, at]
    return values


def expected_value(tree: Tree) -> float:
    """Mean score of the fitted rows."""
    is_leaf = tree.left < 0
    return float((tree.value * tree.cover)[is_leaf].sum() / tree.cover[0])


def _shapley(
    goes: Bool[np.ndarray, "tok leaf m"],
    paths: _Paths,
    nodes: Float[np.ndarray, "node"],
    weights: Float[np.ndarray, "node"],
) -> Float[np.ndarray, "tok leaf m"]:
    factor = paths.share[..., None] * (1 - nodes) + goes[..., None] * nodes
    # No factor is 0 inside the interval: fitted rows went every way that there is.
    others = factor.prod(axis=2, keepdims=True) / factor
    return paths.value[:, None] * (goes - paths.share) * (others @ weights)


def _grouped(tree: Tree) -> list[_Paths]:
    """All leaves below at least one split, by how many features stand on their paths."""
    by_size: dict[int, list[tuple[float, dict[int, tuple[float, float, float]]]]] = {}
    waiting: list[tuple[int, dict[int, tuple[float, float, float]]]] = [(0, {})]
    while waiting:
        node, path = waiting.pop()
        if tree.left[node] < 0:
            by_size.setdefault(len(path), []).append((float(tree.value[node]), path))
            continue
        feature, threshold = int(tree.feature[node]), float(tree.threshold[node])
        low, high, share = path.get(feature, (-np.inf, np.inf, 1.0))
        for child, bounds in (
            (int(tree.left[node]), (low, min(high, threshold))),
            (int(tree.right[node]), (max(low, threshold), high)),
        ):
            kept = share * float(tree.cover[child] / tree.cover[node])
            waiting.append((child, {**path, feature: (*bounds, kept)}))
    return [
        _Paths(
            value=np.array([value for value, _ in leaves]),
            features=np.array([list(path) for _, path in leaves], dtype=np.int64),
            low=np.array([[low for low, _, _ in path.values()] for _, path in leaves]),
            high=np.array([[high for _, high, _ in path.values()] for _, path in leaves]),
            share=np.array([[share for *_, share in path.values()] for _, path in leaves]),
        )
        for size, leaves in by_size.items()
        if size
    ]
