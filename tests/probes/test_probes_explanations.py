"""SHAP values are exact: they add up, agree with the definition, and say what drives a planted score."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import spearmanr

from mechprobe.baselines.forest import ForestProbe, fit_forest
from mechprobe.errors import ConfigError, ShapeError
from mechprobe.probes.explaining.driving_features import (
    CHECK_COLUMNS,
    FEATURE_COLUMNS,
    driving_features,
)
from mechprobe.probes.explaining.explained_sets import (
    EXPLANATION_CHECK_COLUMNS,
    EXPLANATION_COLUMNS,
    explain_set,
)
from mechprobe.probes.explaining.explanations import (
    additivity_error,
    attribute,
    chance_jaccard,
    mean_jaccard,
    top_k,
)
from mechprobe.probes.kinds.boosted import fit_boosted
from mechprobe.probes.kinds.mlp import fit_mlp
from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.probe_set import ProbeSet
from mechprobe.probes.rows import LabelledRows
from mechprobe.probes.solving.logistic import fit_logistic
from tests.probes.explained_rows import planted_rows


def test_values_of_a_linear_probe_are_weight_times_distance_from_the_background() -> None:
    probe = LinearProbe(kind="logistic", weight=np.array([2.0, -1.0], dtype=np.float32), bias=0.5)
    background = np.array([[0.0, 0.0], [2.0, 4.0]])
    found = attribute(probe, np.array([[3.0, 1.0]]), background)
    assert found.base == pytest.approx(2 * 1 - 2 + 0.5)
    assert found.columns(np.array([0, 1])).tolist() == [[4.0, 1.0]]
    assert found.total.tolist() == pytest.approx([5.5])
    assert found.mean_abs.tolist() == [4.0, 1.0]


def test_sparse_rows_are_explained_as_the_same_dense_ones() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 7)) * (rng.random((40, 7)) < 0.3)
    weight = rng.normal(size=7).astype(np.float32)
    probe = LinearProbe(kind="logistic", weight=weight, bias=-0.3)
    dense, sparse = attribute(probe, X), attribute(probe, sp.csr_matrix(X))
    assert sp.issparse(sparse.varying)
    every = np.arange(7)
    np.testing.assert_allclose(sparse.columns(every), dense.columns(every), atol=1e-12)
    np.testing.assert_allclose(sparse.mean_abs, dense.mean_abs, atol=1e-12)
    np.testing.assert_allclose(sparse.mean_abs, np.abs(dense.columns(every)).mean(0), atol=1e-12)
    np.testing.assert_allclose(sparse.total, X @ weight.astype(float) - 0.3, atol=1e-9)


@pytest.mark.parametrize("is_sparse", [False, True])
@pytest.mark.parametrize(
    ("fit", "tolerance"), [(fit_logistic, 1e-5), (fit_forest, 1e-6), (fit_boosted, 1e-5)]
)
def test_values_sum_to_the_score_of_every_row(fit, tolerance: float, is_sparse: bool) -> None:
    plain = planted_rows()
    X = sp.csr_matrix(np.maximum(plain.X, 0)) if is_sparse else plain.X
    rows = LabelledRows(X=X, labels=plain.labels, indicators=plain.indicators)
    for probe in fit(rows)[0]:
        attribution = attribute(probe, X)
        assert additivity_error(attribution, probe.score(X)) < tolerance
        # In float64, without the rounding of the score itself, a linear probe's sum is exact.
        if isinstance(probe, LinearProbe):
            exact = np.asarray(X @ probe.weight.astype(np.float64)).ravel() + probe.bias
            assert additivity_error(attribution, exact) < 1e-9


@pytest.mark.parametrize("fit", [fit_logistic, fit_forest, fit_boosted])
def test_a_planted_feature_comes_first_and_pushes_upwards(fit) -> None:
    rows = planted_rows()
    found = driving_features(fit(rows)[0][0], rows.X, rows.labels[:, 0])
    first = found.table.iloc[0]
    assert (first["feature"], first["direction"]) == (3, 1)
    assert first["share"] > 0.5 and first["auroc"] > 0.8
    assert found.same_direction > 0.8
    assert 1 <= found.n_effective < 3
    assert found.table["share"].is_monotonic_decreasing


def test_the_forest_scores_as_scikit_learns_does() -> None:
    from sklearn.ensemble import RandomForestClassifier

    rows, new = planted_rows(), planted_rows(seed=1)
    for at, probe in enumerate(fit_forest(rows, [3.0], seed=4, n_trees=20)[0]):
        theirs = RandomForestClassifier(20, min_samples_leaf=3, random_state=4)
        theirs.fit(rows.X, rows.labels[:, at])
        np.testing.assert_allclose(probe.score(new.X), theirs.predict_proba(new.X)[:, 1], atol=1e-6)
        assert isinstance(probe, ForestProbe) and probe.width == 8


def test_agreement_is_spearmans_correlation_of_importance_and_single_aurocs() -> None:
    rows = planted_rows()
    probe = fit_logistic(rows, [1.0])[0][0]
    found = driving_features(probe, rows.X, rows.labels[:, 0], k=8)
    table = found.table
    expected = spearmanr(table["shap"], (table["auroc"] - 0.5).abs()).statistic
    assert found.agreement == pytest.approx(expected)
    signs = np.sign(table["auroc"] - 0.5) == table["direction"]
    assert found.same_direction == pytest.approx(np.average(signs, weights=table["shap"]))
    assert tuple(found.table.columns) == FEATURE_COLUMNS
    assert tuple(found.checks) == CHECK_COLUMNS


def test_a_feature_that_pushes_against_its_own_side_is_told() -> None:
    """Column 1 is the noise in column 0: it lowers the score, and by itself stands with the positives."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=400)
    y = rng.random(400) < 0.5
    X = np.stack([2 * y + noise, noise + 0.5 * y], axis=1)
    labels = y.astype(np.int8)
    probe = LinearProbe(kind="logistic", weight=np.array([4.0, -4.0], dtype=np.float32), bias=0.0)
    found = driving_features(probe, X, labels)
    assert found.table.set_index("feature").loc[1, "direction"] == -1
    assert found.table.set_index("feature").loc[1, "auroc"] > 0.55
    assert 0.3 < found.same_direction < 0.7


def test_too_few_rows_of_a_class_give_no_single_auroc() -> None:
    rows = planted_rows(40)
    labels = np.zeros(40, dtype=np.int8)
    labels[:4] = 1
    found = driving_features(fit_logistic(rows)[0][0], rows.X, labels)
    assert found.table["auroc"].isna().all()
    assert np.isnan(found.agreement) and np.isnan(found.same_direction)
    assert found.table["n_positive"].tolist() == [4] * 8


def test_rows_left_out_are_explained_and_count_in_no_class() -> None:
    rows = planted_rows(60)
    labels = rows.labels[:, 0].copy()
    labels[:20] = -1
    probe = fit_logistic(rows)[0][0]
    found = driving_features(probe, rows.X, labels)
    assert found.n_positive + found.n_negative == 40
    assert found.table["shap"].sum() == pytest.approx(
        np.abs((rows.X - rows.X.mean(0)) * probe.weight).mean(0).sum(), rel=1e-5
    )


def test_a_probe_that_moves_nothing_has_no_driving_feature() -> None:
    probe = LinearProbe(kind="logistic", weight=np.zeros(8, dtype=np.float32), bias=1.0)
    rows = planted_rows(30)
    found = driving_features(probe, rows.X, rows.labels[:, 0])
    assert len(found.table) == found.n_features == 0 and found.n_effective == 0
    assert np.isnan(found.agreement)


def test_features_of_dealt_labels_change_from_deal_to_deal_and_planted_ones_stay() -> None:
    wide, real, dealt = 60, [], []
    for seed in range(5):
        rows = planted_rows(150, wide, seed=seed)
        columns = (rows.labels[:, 0], np.random.default_rng(seed).permutation(rows.labels[:, 0]))
        for labels, found in zip(columns, (real, dealt), strict=True):
            one = LabelledRows(X=rows.X, labels=labels[:, None], indicators=("a",))
            probe = fit_logistic(one, [1.0])[0][0]
            found.append(top_k(attribute(probe, rows.X).mean_abs, 1))
    assert mean_jaccard(real) == 1.0
    assert mean_jaccard(dealt) < 0.4


def test_overlaps_are_those_computed_by_hand() -> None:
    sets = [np.array([1, 2]), np.array([2, 3]), np.array([1, 2])]
    assert mean_jaccard(sets) == pytest.approx((1 / 3 + 1 + 1 / 3) / 3)
    assert mean_jaccard([np.zeros(0, dtype=np.int64)] * 2) == 1.0
    # Of 4 features, two sets of 2 share 2, 1, 0 with chances 1/6, 4/6, 1/6: overlaps 1, 1/3, 0.
    assert chance_jaccard(2, 4) == pytest.approx(1 / 6 + 4 / 6 / 3)
    assert chance_jaccard(3, 3) == pytest.approx(1.0)
    rng = np.random.default_rng(0)
    drawn = [rng.choice(30, 5, replace=False) for _ in range(150)]
    assert mean_jaccard(drawn) == pytest.approx(chance_jaccard(5, 30), abs=0.005)


def test_what_cannot_be_explained_is_refused() -> None:
    rows = planted_rows(40)
    mlp = fit_mlp(rows)[0][0]
    with pytest.raises(ConfigError, match="no exact SHAP values"):
        attribute(mlp, rows.X)
    probe = fit_logistic(rows)[0][0]
    with pytest.raises(ShapeError, match="width 8, got 7"):
        attribute(probe, rows.X[:, :7])
    with pytest.raises(ShapeError, match="3 labels"):
        driving_features(probe, rows.X, np.zeros(3, dtype=np.int8))
    with pytest.raises(ShapeError, match="2 names"):
        driving_features(probe, rows.X, rows.labels[:, 0], names=["a", "b"])
    with pytest.raises(ShapeError, match="3 scores for 40"):
        additivity_error(attribute(probe, rows.X), np.zeros(3))
    with pytest.raises(ConfigError, match="fit at least twice"):
        mean_jaccard([np.array([1])])
    with pytest.raises(ConfigError, match="k is 5"):
        chance_jaccard(5, 4)
    with pytest.raises(ConfigError, match="min_in_leaf"):
        fit_forest(rows, [0.5])


@pytest.mark.parametrize("fit", [fit_logistic, fit_boosted])
def test_all_probes_of_a_set_are_explained_as_each_is(fit) -> None:
    rows = planted_rows()
    probes = ProbeSet(
        scorer="ours",
        hook_name="blocks.1.hook_out",
        reads="acts",
        indicators=rows.indicators,
        probes=fit(rows)[0],
    )
    names = [f"feature {at}" for at in range(8)]
    table, checks = explain_set(probes, rows.X, rows.labels, names=names, k=3)
    assert tuple(table.columns) == EXPLANATION_COLUMNS
    assert tuple(checks.columns) == EXPLANATION_CHECK_COLUMNS
    alone = driving_features(probes.probes[0], rows.X, rows.labels[:, 0], names=names, k=3)
    told = table[table["indicator"] == "told"].reset_index(drop=True)
    assert told[list(FEATURE_COLUMNS)].equals(alone.table)
    assert told.loc[0, "name"] == "feature 3"
    assert checks["indicator"].tolist() == ["told", "untold"]
    assert (checks["additivity"] < 1e-4).all()
    # What tells nothing is spread over more features than what is planted in one.
    assert checks.loc[1, "n_effective"] > checks.loc[0, "n_effective"]
    with pytest.raises(ShapeError, match="1 columns of labels for the 2 indicators"):
        explain_set(probes, rows.X, rows.labels[:, :1])
