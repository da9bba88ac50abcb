"""The trees of a boosted probe, read from LightGBM's own text, so that they can be explained without LightGBM."""

import re
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from mechprobe.errors import CheckpointError
from mechprobe.probes.explaining.tree_shap import Tree, expected_value, tree_shap
from mechprobe.probes.kinds.boosted import BoostedProbe
from mechprobe.probes.linear import check_width
from mechprobe.probes.matrix import Matrix, size_of, take_columns
from mechprobe.probes.rows import check_finite

_TREE = re.compile(r"^Tree=\d+\n(.*?)\n\n", re.MULTILINE | re.DOTALL)
_CATEGORICAL = 1


def boosted_contributions(probe: BoostedProbe, X: Matrix) -> Float[np.ndarray, "tok d_and_base"]:
    """What each column adds to each row's log-odds; the last column holds what all rows have in common.

    Equal to LightGBM's `predict(pred_contrib=True)`.

    Raises:
        ShapeError: the rows are not as wide as those the probe was fitted on.
        LabelError: a value is not finite.
        CheckpointError: the text is not that of numerical trees.
    """
    check_width(X, probe.width, "a boosted probe")
    check_finite(X)
    trees = list(trees_of(probe.model))
    full = np.zeros((size_of(X)[0], probe.width + 1))
    for tree in trees:
        features = np.unique(tree.feature[tree.left >= 0])
        own = take_columns(X, features).astype(np.float64)
        full[:, features] += tree_shap(_renumbered(tree, features), own)
        full[:, -1] += expected_value(tree)
    return full


def trees_of(model: str) -> Iterator[Tree]:
    """The trees in LightGBM's text of a model.

    Raises:
        CheckpointError: there is no tree, or one has categorical splits.
    """
    found = _TREE.findall(model)
    if not found:
        raise CheckpointError("the text of the boosted probe holds no tree; fit it again.")
    for block in found:
        lines = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        yield _tree({name: value.split() for name, value in lines.items()})


def _tree(fields: dict[str, list[str]]) -> Tree:
    """Splits come first, then leaves, as nodes of one numbering; LightGBM counts leaves as -1, -2, ..."""
    value = _floats(fields["leaf_value"])
    n_leaves = len(value)
    n_splits = n_leaves - 1
    if n_splits == 0:
        nothing = np.array([-1])
        one = np.ones(1)
        return Tree(
            left=nothing, right=nothing, feature=nothing, threshold=one, value=value, cover=one
        )
    if any(int(kind) & _CATEGORICAL for kind in fields["decision_type"]):
        raise CheckpointError("the boosted probe has categorical splits, which are not explained.")

    def nodes(name: str) -> np.ndarray:
        child = np.array(fields[name], dtype=np.int64)
        numbered = np.where(child < 0, n_splits + ~child, child)
        return np.concatenate([numbered, np.full(n_leaves, -1)])

    return Tree(
        left=nodes("left_child"),
        right=nodes("right_child"),
        feature=np.concatenate(
            [np.array(fields["split_feature"], dtype=np.int64), np.full(n_leaves, -1)]
        ),
        threshold=np.concatenate([_floats(fields["threshold"]), np.zeros(n_leaves)]),
        value=np.concatenate([np.zeros(n_splits), value]),
        cover=_floats(fields["internal_count"] + fields["leaf_count"]),
    )


def _renumbered(tree: Tree, features: np.ndarray) -> Tree:
    """The same tree with its columns counted among `features`."""
    column = np.where(tree.left >= 0, np.searchsorted(features, tree.feature), -1)
    return Tree(
        left=tree.left,
        right=tree.right,
        feature=column,
        threshold=tree.threshold,
        value=tree.value,
        cover=tree.cover,
    )


def _floats(numbers: list[str]) -> Float[np.ndarray, "n"]:
    return np.array(numbers, dtype=np.float64)
