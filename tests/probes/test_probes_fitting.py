"""The solvers are at scikit-learn's optimum, whatever the shape of the data."""

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from mechprobe.errors import LabelError, ShapeError
from mechprobe.probes.estimators import scores_of
from mechprobe.probes.rows import LabelledRows
from mechprobe.probes.solving.design import Design
from mechprobe.probes.solving.lasso import fit_lasso
from mechprobe.probes.solving.lbfgs import minimise
from mechprobe.probes.solving.logistic import fit_logistic
from mechprobe.probes.solving.loss import logistic_columns
from mechprobe.probes.solving.proximal_newton import solve_l1
from mechprobe.probes.solving.standardise import scaling_of
from mechprobe.probes.solving.whitening import is_spread
from mechprobe.probes.weights import ClassWeight

N = 400


def correlated_rows(dtype: type = np.float32, *, n: int = N, d: int = 30) -> LabelledRows:
    """Columns that share few directions, two labels with left-out rows, one constant and one huge column."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 5)) @ rng.normal(size=(5, d)) + 0.3 * rng.normal(size=(n, d))
    logits = X[:, :2] + rng.logistic(size=(n, 2)) - 1
    labels = (logits > 0).astype(np.int8)
    labels[rng.random(labels.shape) < 0.1] = -1
    X[:, 3] = 7.0
    X[:, 4] = 1000 + 50 * X[:, 4]
    return LabelledRows(X=X.astype(dtype), labels=labels, indicators=("a", "b"))


def sparse_rows(dtype: type = np.float64) -> LabelledRows:
    """Heavy-tailed codes, two columns almost equal and one that never fires."""
    rng = np.random.default_rng(1)
    X = np.maximum(rng.standard_t(4, size=(N, 25)) - 1, 0)
    X[:, 1] = X[:, 0] * (1 + 0.01 * rng.normal(size=N))
    X[:, 2] = 0
    logits = 1.5 * X[:, :2] - X[:, 5:7] + rng.logistic(size=(N, 2)) - 1.5
    labels = (logits > 0).astype(np.int8)
    return LabelledRows(X=sp.csr_matrix(X.astype(dtype)), labels=labels, indicators=("a", "b"))


@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
def test_class_and_row_weights_are_scikit_learns(
    sparse: bool, weighted: bool, class_weight: ClassWeight
) -> None:
    rows = sparse_rows() if sparse else correlated_rows(np.float64)
    weight = np.random.default_rng(2).uniform(0, 3, size=N) if weighted else None
    (probes,) = fit_logistic(
        rows, (3.0,), tol=1e-9, class_weight=class_weight, sample_weight=weight
    )
    Z = scaling_of(rows.X).apply(rows.X)
    for at, probe in enumerate(probes):
        used = rows.labels[:, at] >= 0
        oracle = LogisticRegression(C=1 / 3, class_weight=class_weight, tol=1e-10, max_iter=5000)
        oracle.fit(
            Z[used], rows.labels[used, at], sample_weight=None if weight is None else weight[used]
        )
        np.testing.assert_allclose(probe.score(rows.X), oracle.decision_function(Z), atol=2e-4)


def test_single_precision_gives_the_scores_of_the_optimum() -> None:
    rows = correlated_rows()
    Z = StandardScaler().fit_transform(rows.X.astype(np.float64))
    for at, scores in enumerate(scores_of(fit_logistic(rows)[0], rows.X).T):
        used = rows.labels[:, at] >= 0
        y = rows.labels[used, at]
        oracle = LogisticRegression(tol=1e-10, max_iter=5000).fit(Z[used], y)
        expected = oracle.decision_function(Z)
        assert np.corrcoef(scores, expected)[0, 1] > 0.999998
        assert roc_auc_score(y, scores[used]) == pytest.approx(
            roc_auc_score(y, expected[used]), abs=1e-4
        )


def test_the_cpu_by_name_is_the_default_to_the_last_bit() -> None:
    rows = correlated_rows()
    for one, other in zip(fit_logistic(rows)[0], fit_logistic(rows, device="cpu")[0], strict=True):
        assert np.array_equal(one.weight, other.weight) and one.bias == other.bias
    with pytest.raises(RuntimeError, match="nowhere"):
        fit_logistic(rows, device="nowhere")


def test_correlated_columns_are_recognised_and_solved_in_fewer_passes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = correlated_rows(np.float64, n=2000, d=60)
    independent = np.random.default_rng(0).normal(size=(2000, 60))
    design = Design(scaling_of(rows.X).apply(rows.X))
    assert is_spread(design) and not is_spread(Design(independent))
    columns = logistic_columns(rows.labels, np.array([1.0, 100.0]))
    passes: dict[str, int] = {}
    found = {}
    for name, switch in (("whitened", 0), ("plain", 1000)):
        counted = Design(scaling_of(rows.X).apply(rows.X))
        n_passes = [0]

        def blocks(inner: Design = counted, count: list[int] = n_passes) -> object:
            count[0] += 1
            return iter(inner._blocks)  # pyright: ignore[reportPrivateUsage]

        monkeypatch.setattr(counted, "blocks", blocks)
        monkeypatch.setattr("mechprobe.probes.solving.lbfgs.gram_steps", lambda _, at=switch: at)
        found[name] = minimise(counted, columns, tol=1e-8)
        passes[name] = n_passes[0]
    assert passes["whitened"] < passes["plain"] / 2
    np.testing.assert_allclose(found["whitened"].weight, found["plain"].weight, atol=1e-4)


def test_an_order_of_rows_gives_the_same_optimum() -> None:
    rows = correlated_rows(np.float64)
    order = np.random.default_rng(3).permutation(N)
    moved = LabelledRows(X=rows.X[order], labels=rows.labels[order], indicators=rows.indicators)
    first, second = (fit_logistic(one, tol=1e-9)[0] for one in (rows, moved))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_allclose(one.weight, other.weight, atol=1e-5)


def test_weights_that_make_no_sense_are_refused() -> None:
    rows = correlated_rows()
    with pytest.raises(ShapeError, match="400 rows; give one a row"):
        fit_logistic(rows, sample_weight=np.ones(3))
    with pytest.raises(LabelError, match="all must be finite and >= 0"):
        fit_logistic(rows, sample_weight=-np.ones(N))
    with pytest.raises(LabelError, match="a class of indicator 0 has no row of positive weight"):
        fit_lasso(rows, sample_weight=(rows.labels[:, 0] != 1).astype(float))


def certificate(rows: LabelledRows, strength: float) -> None:
    """Check the optimality conditions of the L1 problem over all features, from the probes alone."""
    scaled: Any = scaling_of(rows.X).apply(rows.X)
    Z = scaled.toarray() if sp.issparse(scaled) else scaled
    factor = scaling_of(rows.X).factor
    for at, probe in enumerate(fit_lasso(rows, (strength,), tol=1e-9)[0]):
        used = rows.labels[:, at] >= 0
        y = rows.labels[used, at] == 1
        share = 1 / (1 + np.exp(-probe.score(rows.X)[used].astype(np.float64)))
        slope = Z[used].T @ (share - y)
        weight = np.divide(probe.weight, factor, out=np.zeros_like(factor), where=factor > 0)
        assert abs((share - y).sum()) < 1e-2
        assert np.abs(slope).max() < strength * 1.01
        np.testing.assert_allclose(
            slope[weight != 0], -strength * np.sign(weight[weight != 0]), rtol=0.01
        )


@pytest.mark.parametrize("strength", [30.0, 3.0, 0.3])
def test_lasso_meets_the_conditions_of_all_features(strength: float) -> None:
    certificate(sparse_rows(), strength)
    certificate(correlated_rows(np.float64), strength)


def test_lasso_is_no_worse_than_liblinear_and_its_gap_says_how_far_it_is() -> None:
    rows = sparse_rows()
    Z = scaling_of(rows.X).apply(rows.X)
    sign = np.where(rows.labels.T == 1, 1.0, -1.0)
    loose, tight = (
        solve_l1(Z, sign, np.ones_like(sign), [20.0, 2.0], tol=tol)[1] for tol in (1e-2, 1e-10)
    )

    def objective(weight: np.ndarray, bias: float, at: int) -> float:
        return np.logaddexp(0, -sign[at] * (Z @ weight + bias)).sum() + 2 * np.abs(weight).sum()

    for at in range(2):
        # liblinear penalises the offset; a long constant column makes that penalty vanish.
        peer = LogisticRegression(
            C=0.5,
            l1_ratio=1.0,
            solver="liblinear",
            intercept_scaling=10_000,
            tol=1e-8,
            max_iter=5000,
        ).fit(Z, sign[at])
        best = objective(tight.weight[:, at], tight.bias[at], at)
        assert best <= objective(peer.coef_[0], peer.intercept_[0], at) * (1 + 1e-6)
        assert best >= objective(peer.coef_[0], peer.intercept_[0], at) * (1 - 1e-3)
        reached = objective(loose.weight[:, at], loose.bias[at], at)
        assert 0 <= reached - best <= loose.gap[at] * reached + 1e-9
        assert loose.gap[at] <= 1e-2 and tight.gap[at] <= 1e-10


def test_sparse_and_dense_rows_give_the_same_probes() -> None:
    sparse = sparse_rows()
    X: Any = sparse.X
    dense = LabelledRows(X=X.toarray(), labels=sparse.labels, indicators=sparse.indicators)
    for fit in (fit_logistic, fit_lasso):
        ones, others = (fit(rows, (3.0,), tol=1e-9)[0] for rows in (sparse, dense))
        for one, other in zip(ones, others, strict=True):
            np.testing.assert_allclose(one.score(sparse.X), other.score(dense.X), atol=2e-4)


def test_lasso_weighs_as_scikit_learn_does() -> None:
    rows = sparse_rows()
    weight = np.random.default_rng(2).uniform(0, 3, size=N)
    Z = scaling_of(rows.X).apply(rows.X)
    (probes,) = fit_lasso(rows, (2.0,), tol=1e-9, class_weight="balanced", sample_weight=weight)
    for at, probe in enumerate(probes):
        oracle = LogisticRegression(
            C=0.5, l1_ratio=1.0, solver="saga", class_weight="balanced", tol=1e-9, max_iter=50_000
        ).fit(Z, rows.labels[:, at], sample_weight=weight)
        np.testing.assert_allclose(probe.score(rows.X), oracle.decision_function(Z), atol=1e-3)


def test_a_penalty_above_every_slope_leaves_the_base_rate() -> None:
    rows = sparse_rows()
    for probe, labels in zip(fit_lasso(rows, (1e4,))[0], rows.labels.T, strict=True):
        assert not probe.weight.any()
        assert probe.bias == pytest.approx(np.log(labels.mean() / (1 - labels.mean())))


def test_strengths_come_back_in_the_order_asked_for() -> None:
    rows = sparse_rows()
    weak, strong = fit_lasso(rows, (1.0, 50.0))
    assert [p.strength for p in (*weak, *strong)] == [1.0, 1.0, 50.0, 50.0]
    assert all(len(w.features) > len(s.features) for w, s in zip(weak, strong, strict=True))


def test_labels_of_very_different_strength_share_one_path() -> None:
    rows = sparse_rows()
    labels = rows.labels.copy()
    # An indicator of chance alone has nothing to enter where the other has long begun.
    labels[:, 1] = np.random.default_rng(5).random(N) < 0.5
    mixed = LabelledRows(X=rows.X, labels=labels, indicators=rows.indicators)
    certificate(mixed, 0.5)
