"""The permutation null of the best single feature: figures by an oracle, p-values by what is known."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.metrics import roc_auc_score

from mechprobe.errors import ConfigError, LabelError
from mechprobe.probes.kinds.single_features import (
    Statistic,
    best_single_features,
)
from mechprobe.probes.rows import LabelledRows
from mechprobe.probes.solving.moments import class_separation
from tests.probes.planted import planted_rows


def noise(seed: int, n: int = 80, d: int = 200, *, sparse: bool = False) -> LabelledRows:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    labels = (rng.random((n, 1)) < 0.4).astype(np.int8)
    labels[0], labels[1] = 0, 1
    X = np.where(X > 0.5, X, 0) if sparse else X
    return LabelledRows(
        X=sp.csr_matrix(X) if sparse else X, labels=labels, indicators=("unrelated",)
    )


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("signed", [False, True])
def test_the_observed_figure_is_scikit_learns_auroc_with_ties(sparse: bool, signed: bool) -> None:
    rows = planted_rows(0, sparse=True)
    X = np.round(rows.X.toarray() - signed * (rows.X.toarray()[:, ::-1] > 1), 1)
    given = LabelledRows(
        X=sp.csr_matrix(X) if sparse else X, labels=rows.labels, indicators=rows.indicators
    )
    for at, found in enumerate(best_single_features(given, n_permutations=3)):
        used = rows.labels[:, at] >= 0
        each = [roc_auc_score(rows.labels[used, at], column) - 0.5 for column in X[used].T]
        best = int(np.argmax(np.abs(each)))
        assert found.feature == best and found.observed == pytest.approx(each[best], abs=1e-9)


@pytest.mark.parametrize("sparse", [False, True])
def test_the_observed_separation_is_that_which_ranks_features(sparse: bool) -> None:
    rows = planted_rows(0, sparse=True, dtype=np.float64)
    X = rows.X if sparse else rows.X.toarray()
    given = LabelledRows(X=X, labels=rows.labels, indicators=rows.indicators)
    expected = class_separation(given)
    for at, found in enumerate(
        best_single_features(given, statistic="separation", n_permutations=3)
    ):
        assert found.feature == np.argmax(np.abs(expected[:, at]))
        assert found.observed == pytest.approx(expected[found.feature, at], rel=1e-6)


def test_each_null_value_is_the_best_figure_under_some_labelling() -> None:
    rows = noise(0, n=8, d=3)
    [found] = best_single_features(rows, n_permutations=40)
    n_pos = int(rows.labels.sum())
    possible: set[float] = set()
    for code in range(2**8):
        labels = np.array([code >> bit & 1 for bit in range(8)])
        if labels.sum() == n_pos:
            each = [abs(roc_auc_score(labels, column) - 0.5) for column in rows.X.T]
            possible.add(round(max(each), 9))
    assert {round(float(value), 9) for value in found.null} <= possible


@pytest.mark.parametrize("statistic", ["auroc", "separation"])
def test_the_best_of_many_unrelated_features_looks_good_and_is_not(statistic: Statistic) -> None:
    p_values: list[float] = []
    for seed in range(40):
        [found] = best_single_features(noise(seed), statistic=statistic, n_permutations=99)
        p_values.append(found.p_value)
        if statistic == "auroc":
            assert abs(found.observed) > 0.1
            assert found.by_luck == pytest.approx(abs(found.observed), abs=0.1)
    # Uniform if the null is right: of 40, about 4 below .1 and 20 below .5.
    assert (np.array(p_values) <= 0.1).sum() <= 9 and 10 <= (np.array(p_values) <= 0.5).sum() <= 30


def test_a_planted_feature_is_found_with_the_smallest_p_value() -> None:
    rows = planted_rows(0, sparse=True)
    for at, found in enumerate(best_single_features(rows, n_permutations=199)):
        assert found.feature == at and found.observed > 0.3
        assert found.p_value == pytest.approx(1 / 200) and found.null.shape == (199,)


def clustered(seed: int) -> tuple[LabelledRows, np.ndarray]:
    """Thirty transcripts, each with a label and features of its own, whatever the label is."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, 30, size=30)
    groups = np.repeat(np.arange(30), lengths)
    X = rng.normal(size=(30, 50))[groups] + 0.1 * rng.normal(size=(len(groups), 50))
    label = rng.permutation(np.arange(30) < 12).astype(np.int8)
    return LabelledRows(X=X, labels=label[groups][:, None], indicators=("of_transcripts",)), groups


def test_transcripts_are_permuted_as_wholes_or_luck_would_pass_for_evidence() -> None:
    by_rows, by_groups = [], []
    for seed in range(30):
        rows, groups = clustered(seed)
        by_rows.append(best_single_features(rows, n_permutations=49)[0].p_value)
        by_groups.append(best_single_features(rows, groups=groups, n_permutations=49)[0].p_value)
    assert np.mean(np.array(by_rows) <= 0.05) > 0.9
    assert np.mean(np.array(by_groups) <= 0.05) <= 0.2


def test_a_transcripts_labels_stay_together_and_in_order() -> None:
    """With one feature that counts rows, only whole transcripts' patterns can appear in the null."""
    pattern = np.array([[0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]], dtype=np.int8)
    place = np.tile(np.arange(4.0), 3)
    rows = LabelledRows(X=place[:, None], labels=pattern.reshape(-1, 1), indicators=("late",))
    [found] = best_single_features(rows, groups=np.repeat([0, 1, 2], 4), n_permutations=50)
    # Positives stay at places 2, 3 and 3 whichever transcript has them: the figure never moves.
    np.testing.assert_allclose(found.null, abs(found.observed))
    assert found.p_value == 1.0


def test_the_order_of_a_groups_rows_in_the_table_does_not_matter_to_which_rows_are_its() -> None:
    rows, groups = clustered(0)
    shuffled = np.random.default_rng(1).permutation(len(groups))
    moved = LabelledRows(
        X=rows.X[shuffled], labels=rows.labels[shuffled], indicators=rows.indicators
    )
    [one] = best_single_features(rows, groups=groups, n_permutations=20)
    [other] = best_single_features(moved, groups=groups[shuffled], n_permutations=20)
    np.testing.assert_allclose(one.null, other.null, atol=1e-12)


def test_the_same_seed_gives_the_same_null_and_another_gives_another() -> None:
    rows = noise(0, sparse=True)
    first, again, other = (
        best_single_features(rows, n_permutations=70, seed=seed)[0].null for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_too_few_groups_or_permutations_are_refused() -> None:
    rows = noise(0)
    with pytest.raises(ConfigError, match="n_permutations is 0"):
        best_single_features(rows, n_permutations=0)
    # Squeezed to one row, the long transcript's labels lose their one positive.
    labels = np.zeros((130, 1), dtype=np.int8)
    labels[33] = 1
    few = LabelledRows(X=np.zeros((130, 1)), labels=labels, indicators=("rare",))
    groups = np.maximum(0, np.arange(130) - 99)
    with pytest.raises(LabelError, match="permuting 31 groups rarely gives indicator 'rare'"):
        best_single_features(few, groups=groups, n_permutations=50)
