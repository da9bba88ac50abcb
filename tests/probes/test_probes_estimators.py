"""What is particular to each estimator of linear probes, and the choice of a strength."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight

from mechprobe.errors import ConfigError, LabelError, ShapeError
from mechprobe.probes.estimators import (
    ESTIMATORS,
    Estimator,
    auroc_by_column,
    find_estimator,
    fit_selected,
    refit,
    scores_of,
)
from mechprobe.probes.kinds.directions import (
    fit_difference_of_means,
    fit_lda,
    fit_random_direction,
    fit_ridge,
)
from mechprobe.probes.kinds.k_sparse import fit_k_sparse
from mechprobe.probes.kinds.paper import fit_paper_recipe
from mechprobe.probes.kinds.principal import fit_lat, fit_pca
from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.probe import strength_of
from mechprobe.probes.rows import HeldOutRows, LabelledRows
from mechprobe.probes.solving.lasso import fit_lasso
from mechprobe.probes.solving.logistic import fit_logistic
from mechprobe.probes.solving.moments import class_means, class_separation
from mechprobe.probes.weights import row_weights
from tests.probes.planted import N_INDICATORS, held_out, planted_rows


def rows_for(estimator: Estimator, seed: int) -> LabelledRows:
    return planted_rows(seed, sparse=estimator.reads == "feature_acts")


@pytest.fixture(params=list(ESTIMATORS))
def estimator(request: pytest.FixtureRequest) -> Estimator:
    return ESTIMATORS[request.param]


def test_the_direction_is_a_unit_vector_along_which_the_score_rises(estimator: Estimator) -> None:
    rows = rows_for(estimator, 0)
    probe = fit_selected(estimator, rows, None)[1]
    if not isinstance(probe, LinearProbe):
        pytest.skip("has no one direction")
    direction = probe.raw_direction()
    assert np.linalg.norm(direction) == pytest.approx(1.0)
    start = np.zeros((1, 12), dtype=np.float32)
    rise = probe.score(start + direction) - probe.score(start)
    assert rise[0] == pytest.approx(np.linalg.norm(probe.weight), rel=1e-3)


def test_rows_that_are_not_finite_or_have_one_class_are_refused() -> None:
    rows = planted_rows(0)
    broken = np.array(rows.X)
    broken[3, 4] = np.nan
    with pytest.raises(LabelError, match="1 values of the 300 x 12 matrix are not finite"):
        LabelledRows(X=broken, labels=rows.labels, indicators=rows.indicators)
    with pytest.raises(LabelError, match="indicator 'indicator_0' has 0 positive"):
        LabelledRows(X=rows.X, labels=np.zeros_like(rows.labels), indicators=rows.indicators)
    with pytest.raises(ShapeError, match="labels of shape"):
        LabelledRows(X=rows.X, labels=rows.labels, indicators=rows.indicators[:2])


def test_settings_out_of_range_are_refused() -> None:
    rows = planted_rows(0)
    with pytest.raises(ConfigError, match=r"l2_strength candidates are \(0.0,\)"):
        fit_logistic(rows, (0.0,))
    with pytest.raises(ConfigError, match="whole numbers"):
        fit_k_sparse(rows, (0.5,))
    with pytest.raises(ConfigError, match="unknown estimator 'svm'"):
        find_estimator("svm")
    with pytest.raises(ShapeError, match="reads dense activations"):
        fit_lda(planted_rows(0, sparse=True))


@pytest.mark.parametrize("sparse", [False, True])
def test_logistic_probes_are_at_scikit_learns_optimum(sparse: bool) -> None:
    rows = planted_rows(0, sparse=sparse, dtype=np.float64)
    strengths = (30.0, 0.5)
    fitted = fit_logistic(rows, strengths, tol=1e-9)
    scaler = StandardScaler(with_mean=not sparse).fit(rows.X)
    for strength, probes in zip(strengths, fitted, strict=True):
        for at, probe in enumerate(probes):
            used = rows.labels[:, at] >= 0
            oracle = LogisticRegression(C=1 / strength, tol=1e-10, max_iter=5000)
            oracle.fit(scaler.transform(rows.X[used]), rows.labels[used, at])
            weight = oracle.coef_[0] / scaler.scale_
            np.testing.assert_allclose(probe.weight, weight, atol=2e-5 * np.abs(weight).max())


def test_single_precision_ends_close_to_double_precision() -> None:
    single, double = (
        scores_of(fit_logistic(rows, (1.0,), tol=tol)[0], rows.X)
        for rows, tol in (
            (planted_rows(0), 1e-4),
            (planted_rows(0, dtype=np.float64), 1e-9),
        )
    )
    assert np.abs(single - double).max() < 0.03


def test_lasso_is_at_scikit_learns_optimum() -> None:
    rows = planted_rows(0, dtype=np.float64)
    fitted = fit_lasso(rows, (20.0, 2.0), tol=1e-9, max_steps=20_000)
    Z = StandardScaler().fit_transform(rows.X)
    for strength, probes in zip((20.0, 2.0), fitted, strict=True):
        for at, probe in enumerate(probes):
            used = rows.labels[:, at] >= 0
            oracle = LogisticRegression(
                C=1 / strength, l1_ratio=1.0, solver="saga", tol=1e-9, max_iter=50_000
            ).fit(Z[used], rows.labels[used, at])
            weight = oracle.coef_[0] / rows.X.std(axis=0)
            np.testing.assert_allclose(probe.weight, weight, atol=1e-4)
            assert (probe.weight == 0).sum() == (oracle.coef_ == 0).sum()


def test_ridge_and_lda_agree_with_scikit_learn() -> None:
    rows = planted_rows(0, dtype=np.float64)
    Z = StandardScaler().fit_transform(rows.X)
    ridge, lda = fit_ridge(rows, (7.0,))[0], fit_lda(rows, (1e-9,))[0]
    for at in range(N_INDICATORS):
        used = rows.labels[:, at] >= 0
        y = rows.labels[used, at]
        of_ridge = Ridge(alpha=7.0).fit(Z[used], 2.0 * y - 1)
        np.testing.assert_allclose(ridge[at].score(rows.X), of_ridge.predict(Z), atol=1e-4)
        of_lda = LinearDiscriminantAnalysis(solver="lsqr").fit(Z[used], y)
        np.testing.assert_allclose(lda[at].score(rows.X), of_lda.decision_function(Z), atol=1e-3)


def test_the_difference_of_means_is_zero_halfway() -> None:
    rows = planted_rows(0)
    X = np.array(rows.X)
    for at, probe in enumerate(fit_difference_of_means(rows)[0]):
        positive, negative = (X[rows.labels[:, at] == label].mean(axis=0) for label in (1, 0))
        np.testing.assert_allclose(probe.weight, positive - negative, atol=1e-3)
        middle = ((positive + negative) / 2)[None].astype(np.float32)
        assert probe.score(middle)[0] == pytest.approx(0, abs=1e-2 * np.abs(probe.bias))


def test_one_massive_coordinate_blinds_the_difference_of_means_only() -> None:
    rows, test = planted_rows(0), planted_rows(2)
    plain, plain_test = (
        LabelledRows(X=np.array(one.X)[:, :-1], labels=one.labels, indicators=one.indicators)
        for one in (rows, test)
    )
    used = test.labels[:, 0] >= 0
    y = test.labels[used, 0] == 1
    found = {
        name: roc_auc_score(y, fit(fitted)[0][0].score(scored.X)[used])
        for name, fit, fitted, scored in (
            ("blinded", fit_difference_of_means, rows, test),
            ("plain", fit_difference_of_means, plain, plain_test),
            ("lda", fit_lda, rows, test),
        )
    }
    assert found["blinded"] < 0.7 and found["plain"] > 0.9 and found["lda"] > 0.95


def test_a_random_direction_is_turned_to_the_side_of_the_positives() -> None:
    rows = planted_rows(0)
    for probe, difference in zip(
        fit_random_direction(rows, seed=4)[0], class_means(rows).difference.T, strict=True
    ):
        assert probe.weight @ difference > 0


def test_k_sparse_probes_read_k_features_the_planted_first() -> None:
    rows = planted_rows(0, sparse=True)
    for k, probes in zip((1.0, 4.0), fit_k_sparse(rows, (1.0, 4.0)), strict=True):
        for at, probe in enumerate(probes):
            assert len(probe.features) == k and at in probe.features
            assert probe.settings == {"k": k}


def test_k_is_chosen_on_the_select_rows_and_the_simplest_of_equals_wins() -> None:
    rng = np.random.default_rng(0)
    y = np.tile([0, 1], 100).astype(np.int8)
    X = np.abs(rng.normal(size=(200, 30)))
    X[:, 7] = 5.0 * y
    rows = LabelledRows(X=sp.csr_matrix(X.astype(np.float32)), labels=y[:, None], indicators=("a",))
    probe = fit_selected(ESTIMATORS["sae_k_sparse"], rows, held_out(rows))[0]
    assert probe.settings == {"k": 1.0} and probe.features.tolist() == [7]


def test_an_indicator_that_the_select_rows_cannot_judge_takes_the_middle_candidate() -> None:
    rows = planted_rows(0)
    select = HeldOutRows(X=rows.X, labels=np.zeros_like(rows.labels))
    for probe in fit_selected(ESTIMATORS["dense_ridge"], rows, select):
        assert probe.settings == {"l2_strength": 10.0}


def test_a_refit_keeps_the_chosen_strengths_and_reads_the_select_rows_too(
    estimator: Estimator,
) -> None:
    rows, more = rows_for(estimator, 0), rows_for(estimator, 1)
    chosen = fit_selected(estimator, rows, held_out(more))
    again = refit(estimator, rows, held_out(more), chosen)
    assert [probe.settings for probe in again] == [probe.settings for probe in chosen]
    X = np.concatenate([one.X.toarray() if sp.issparse(one.X) else one.X for one in (rows, more)])
    both = LabelledRows(
        X=sp.csr_matrix(X) if estimator.reads == "feature_acts" else X,
        labels=np.concatenate([rows.labels, more.labels]),
        indicators=rows.indicators,
    )
    expected = estimator.fit(both, [strength_of(again[0])], seed=0)[0][0].score(both.X)
    np.testing.assert_allclose(again[0].score(both.X), expected, atol=0.01 * expected.std())


def test_class_separation_is_cohens_d() -> None:
    for sparse in (False, True):
        rows = planted_rows(0, sparse=sparse, dtype=np.float64)
        X = rows.X.toarray() if sparse else rows.X
        separation = class_separation(rows)
        for at in range(N_INDICATORS):
            pos, neg = (X[rows.labels[:, at] == label] for label in (1, 0))
            within = (len(pos) * pos.var(axis=0) + len(neg) * neg.var(axis=0)) / len([*pos, *neg])
            expected = (pos.mean(axis=0) - neg.mean(axis=0)) / np.sqrt(within)
            np.testing.assert_allclose(separation[:, at], expected, atol=1e-6)


def test_candidates_are_ranked_by_their_auroc() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random(80) < 0.3
    scores = np.round(rng.normal(size=(80, 4)) + labels[:, None], 1)
    expected = [roc_auc_score(labels, column) for column in scores.T]
    np.testing.assert_allclose(auroc_by_column(scores, labels), expected, atol=1e-6)


def test_balanced_weights_are_scikit_learns() -> None:
    labels = planted_rows(0).labels
    balanced, plain = row_weights(labels, "balanced"), row_weights(labels, None)
    for at in range(N_INDICATORS):
        used = labels[:, at] >= 0
        expected = compute_sample_weight("balanced", labels[used, at])
        np.testing.assert_allclose(balanced[used, at], expected)
        assert (balanced[~used, at] == 0).all() and (plain[:, at] == used).all()


def test_balanced_ridge_agrees_with_scikit_learn() -> None:
    rows = planted_rows(0, dtype=np.float64)
    Z = StandardScaler().fit_transform(rows.X)
    for at, probe in enumerate(fit_ridge(rows, (7.0,), class_weight="balanced")[0]):
        used = rows.labels[:, at] >= 0
        y = rows.labels[used, at]
        weights = compute_sample_weight("balanced", y)
        oracle = Ridge(alpha=7.0).fit(Z[used], 2.0 * y - 1, sample_weight=weights)
        np.testing.assert_allclose(probe.score(rows.X), oracle.predict(Z), atol=1e-4)


def pointing(direction: np.ndarray, rows: LabelledRows, at: int) -> np.ndarray:
    """The direction, turned to the side of the positives."""
    positive, negative = (
        (rows.X[rows.labels[:, at] == label] @ direction).mean() for label in (1, 0)
    )
    return direction if positive > negative else -direction


@pytest.mark.parametrize("standardised", [0.0, 1.0])
def test_pca_is_scikit_learns_first_component_turned_by_the_labels(standardised: float) -> None:
    rows = planted_rows(0, dtype=np.float64)
    std = rows.X.std(axis=0) if standardised else np.ones(12)
    for at, probe in enumerate(fit_pca(rows, (standardised,))[0]):
        used = rows.labels[:, at] >= 0
        first = PCA(n_components=1, svd_solver="full").fit(rows.X[used] / std).components_[0]
        np.testing.assert_allclose(probe.weight, pointing(first / std, rows, at), atol=1e-5)
        ends = [probe.score(rows.X[rows.labels[:, at] == label]).mean() for label in (1, 0)]
        assert ends[0] == pytest.approx(-ends[1], abs=1e-3) and ends[0] > 0


def test_lat_is_the_first_component_of_paired_differences_in_both_orders() -> None:
    rows = planted_rows(0, dtype=np.float64)
    for at, probe in enumerate(fit_lat(rows, (0.0,), seed=4)[0]):
        rng = np.random.default_rng(4)
        pos, neg = (rng.permutation(np.flatnonzero(rows.labels[:, at] == y)) for y in (1, 0))
        n_pairs = min(len(pos), len(neg))
        differences = rows.X[pos[:n_pairs]] - rows.X[neg[:n_pairs]]
        both = np.concatenate([differences, -differences])
        first = PCA(n_components=1, svd_solver="full").fit(both).components_[0]
        np.testing.assert_allclose(probe.weight, pointing(first, rows, at), atol=1e-5)


def test_lat_on_standardised_columns_is_not_blinded_by_a_massive_one() -> None:
    rows, test = planted_rows(0), planted_rows(2)
    for at, probe in enumerate(fit_lat(rows, (1.0,))[0]):
        used = test.labels[:, at] >= 0
        assert roc_auc_score(test.labels[used, at], probe.score(test.X)[used]) > 0.85


def test_principal_components_refuse_other_candidates() -> None:
    with pytest.raises(ConfigError, match=r"candidates are \(0.5,\)"):
        fit_pca(planted_rows(0), (0.5,))
    with pytest.raises(ShapeError, match="reads dense activations"):
        fit_lat(planted_rows(0, sparse=True))


def test_the_papers_recipe_step_by_step() -> None:
    """Their loop for one indicator: pooled z-scores, a linear layer without bias, 500 steps of Adam."""
    rows = planted_rows(0, dtype=np.float64)
    d = rows.X.shape[1]
    first = torch.rand(
        d, N_INDICATORS, generator=torch.Generator().manual_seed(5), dtype=torch.double
    )
    for at, probe in enumerate(fit_paper_recipe(rows, (10.0,), seed=5)[0]):
        X = torch.cat([torch.from_numpy(rows.X[rows.labels[:, at] == label]) for label in (1, 0)])
        n_pos = int((rows.labels[:, at] == 1).sum())
        target = torch.cat([torch.ones(n_pos), torch.zeros(len(X) - n_pos)]).double()
        mean, std = X.mean(dim=0), X.std(dim=0).clamp(min=1e-8)
        layer = torch.nn.Linear(d, 1, bias=False, dtype=torch.double)
        with torch.no_grad():
            layer.weight.copy_((first[:, at] * 2 - 1) / d**0.5)
        optimiser = torch.optim.Adam(layer.parameters(), lr=1e-2)
        for _ in range(500):
            optimiser.zero_grad()
            logits = layer((X - mean) / std).squeeze(1)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, target)
            (loss + 10.0 * layer.weight.square().sum() / (2 * len(X))).backward()
            optimiser.step()
        expected = layer((torch.from_numpy(rows.X) - mean) / std).squeeze(1).detach().numpy()
        np.testing.assert_allclose(probe.score(rows.X), expected, atol=2e-4)


@pytest.mark.parametrize("balanced", [False, True])
def test_k_sparse_probes_are_logistic_probes_on_their_features(balanced: bool) -> None:
    rows = planted_rows(0, sparse=True, dtype=np.float64)
    X = rows.X.toarray()
    [probes] = fit_k_sparse(rows, (3.0,), class_weight="balanced" if balanced else None)
    for at, probe in enumerate(probes):
        used, features = rows.labels[:, at] >= 0, probe.features
        std = X[used][:, features].std(axis=0)
        oracle = LogisticRegression(
            C=1.0, tol=1e-8, max_iter=1000, class_weight="balanced" if balanced else None
        ).fit(X[used][:, features] / std, rows.labels[used, at])
        expected = oracle.decision_function(X[:, features] / std)
        np.testing.assert_allclose(probe.score(rows.X), expected, atol=0.02)
