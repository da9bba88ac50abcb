"""One contract for all estimators, then what is particular to each."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from mechprobe.errors import CheckpointError, ConfigError, LabelError, ShapeError
from mechprobe.probes.bank import ProbeBank, ProbeSet
from mechprobe.probes.directions import (
    fit_difference_of_means,
    fit_lda,
    fit_random_direction,
    fit_ridge,
)
from mechprobe.probes.estimators import (
    ESTIMATORS,
    Estimator,
    auroc_by_column,
    find_estimator,
    fit_selected,
    refit,
    scores_of,
)
from mechprobe.probes.k_sparse import fit_k_sparse
from mechprobe.probes.lasso import fit_lasso
from mechprobe.probes.logistic import fit_logistic
from mechprobe.probes.moments import class_means, class_separation
from mechprobe.probes.rows import HeldOutRows, LabelledRows

N_INDICATORS = 3


def planted_rows(
    seed: int, n: int = 300, d: int = 12, *, sparse: bool = False, dtype: type = np.float32
) -> LabelledRows:
    """Indicator i raises coordinate i; one coordinate is far larger than all others; some rows are left out."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, N_INDICATORS)) < 0.4).astype(np.int8)
    X = rng.normal(size=(n, d))
    X[:, :N_INDICATORS] += 3.0 * labels
    if sparse:
        X = np.maximum(X - 1.0, 0)
    else:
        X[:, -1] = 500 + 30 * X[:, -1]
    labels[rng.random(labels.shape) < 0.1] = -1
    X = X.astype(dtype)
    return LabelledRows(
        X=sp.csr_matrix(X) if sparse else X,
        labels=labels,
        indicators=tuple(f"indicator_{i}" for i in range(N_INDICATORS)),
    )


def rows_for(estimator: Estimator, seed: int) -> LabelledRows:
    return planted_rows(seed, sparse=estimator.reads == "feature_acts")


def held_out(rows: LabelledRows) -> HeldOutRows:
    return HeldOutRows(X=rows.X, labels=rows.labels)


@pytest.fixture(params=list(ESTIMATORS))
def estimator(request: pytest.FixtureRequest) -> Estimator:
    return ESTIMATORS[request.param]


def test_a_fit_is_deterministic_and_gives_one_probe_an_indicator(estimator: Estimator) -> None:
    rows = rows_for(estimator, 0)
    first, second = (estimator.fit(rows, estimator.strengths, seed=3) for _ in range(2))
    assert [len(probes) for probes in first] == [N_INDICATORS] * len(estimator.strengths)
    for ones, others in zip(first, second, strict=True):
        for one, other in zip(ones, others, strict=True):
            assert np.array_equal(one.weight, other.weight) and one.bias == other.bias


def test_scores_are_one_number_a_row_and_find_the_planted_indicator(estimator: Estimator) -> None:
    probes = fit_selected(estimator, rows_for(estimator, 0), held_out(rows_for(estimator, 1)))
    test = rows_for(estimator, 2)
    for at, probe in enumerate(probes):
        scores = probe.score(test.X)
        used = test.labels[:, at] >= 0
        found = roc_auc_score(test.labels[used, at] == 1, scores[used])
        assert scores.shape == (300,) and scores.dtype == np.float32
        if estimator.name not in ("random_direction", "dense_diff_of_means"):
            assert found > 0.93


def test_a_probe_bank_is_exact_after_saving(
    estimator: Estimator, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = rows_for(estimator, 0)
    one = ProbeSet(
        scorer=estimator.name,
        hook_name="blocks.1.hook_out",
        reads=estimator.reads,
        indicators=rows.indicators,
        probes=fit_selected(estimator, rows, None),
    )
    folder = tmp_path_factory.mktemp("bank")
    ProbeBank(sets=(one,)).save(folder)
    again = ProbeBank.load(folder).find(estimator.name)
    assert np.array_equal(again.score_all(rows.X), one.score_all(rows.X))
    for probe, other in zip(one.probes, again.probes, strict=True):
        assert (probe.kind, probe.settings, probe.bias) == (other.kind, other.settings, other.bias)
        assert np.array_equal(probe.weight, other.weight)


def test_the_order_of_rows_and_columns_does_not_matter(estimator: Estimator) -> None:
    rows = rows_for(estimator, 0)
    rng = np.random.default_rng(5)
    row_order, column_order = rng.permutation(300), rng.permutation(12)
    moved = LabelledRows(
        X=rows.X[row_order][:, column_order],
        labels=rows.labels[row_order],
        indicators=rows.indicators,
    )
    for strength in estimator.strengths[:1]:
        before = scores_of(estimator.fit(rows, [strength], seed=0)[0], rows.X)[row_order]
        after = scores_of(estimator.fit(moved, [strength], seed=0)[0], moved.X)
        if estimator.name in ("random_direction", "dense_paper"):
            # Their draws belong to coordinates, so only the order of rows is free.
            rows_only = LabelledRows(
                X=rows.X[row_order], labels=rows.labels[row_order], indicators=rows.indicators
            )
            after = scores_of(estimator.fit(rows_only, [strength], seed=0)[0], rows_only.X)
        np.testing.assert_allclose(after, before, atol=0.02 * before.std())


def test_left_out_rows_do_not_matter(estimator: Estimator) -> None:
    rows = rows_for(estimator, 0)
    labels = rows.labels.copy()
    labels[:, 0] = np.where(np.arange(300) < 150, labels[:, 0], -1)
    part = LabelledRows(X=rows.X, labels=labels, indicators=rows.indicators)
    X = rows.X.copy()
    alone = LabelledRows(X=X[:150], labels=rows.labels[:150], indicators=rows.indicators)
    first = estimator.fit(part, estimator.strengths[-1:], seed=0)[0][0].score(rows.X)
    second = estimator.fit(alone, estimator.strengths[-1:], seed=0)[0][0].score(rows.X)
    # Columns are scaled over all rows, so that the two agree up to how the penalty weighs the columns.
    assert np.corrcoef(first, second)[0, 1] > 0.97


def test_a_score_of_the_wrong_width_is_refused(estimator: Estimator) -> None:
    rows = rows_for(estimator, 0)
    probe = fit_selected(estimator, rows, None)[0]
    with pytest.raises(ShapeError, match="reads rows of width 12, got 11"):
        probe.score(rows.X[:, :11])


def test_the_direction_is_a_unit_vector_along_which_the_score_rises(estimator: Estimator) -> None:
    rows = rows_for(estimator, 0)
    probe = fit_selected(estimator, rows, None)[1]
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


def test_lasso_reads_only_screened_features() -> None:
    rows = planted_rows(0, sparse=True)
    for probe in fit_lasso(rows, (0.01,), n_screened=2)[0]:
        assert 1 <= len(probe.features) <= 2


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
    expected = estimator.fit(both, [again[0].strength], seed=0)[0][0]
    np.testing.assert_allclose(again[0].weight, expected.weight, atol=1e-3)


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


def test_a_bank_names_what_it_holds_and_refuses_damage(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("bank")
    rows = planted_rows(0)
    one = ProbeSet(
        scorer="dense_ridge",
        hook_name="blocks.0.hook_out",
        reads="acts",
        indicators=rows.indicators,
        probes=fit_ridge(rows)[0],
    )
    bank = ProbeBank(sets=(one,))
    with pytest.raises(ConfigError, match="the bank holds dense_ridge at "):
        bank.find("dense_logistic")
    with pytest.raises(ConfigError, match="stands twice"):
        ProbeBank(sets=(one, one))
    with pytest.raises(ConfigError, match="has no probe for 'b'"):
        one.probe("b")
    with pytest.raises(ShapeError, match="reads rows of width"):
        one.score_all(np.zeros((1, 3), dtype=np.float32))
    with pytest.raises(CheckpointError, match="holds no probe bank"):
        ProbeBank.load(folder)
    bank.save(folder)
    numbers = folder / "probes.safetensors"
    numbers.write_bytes(numbers.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="damaged"):
        ProbeBank.load(folder)
