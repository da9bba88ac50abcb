"""What is particular to networks and boosted trees."""

import lightgbm
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.metrics import roc_auc_score

from mechprobe.errors import ConfigError, LabelError, ShapeError
from mechprobe.probes.estimators import ESTIMATORS, fit_selected
from mechprobe.probes.kinds.boosted import BoostedProbe, fit_boosted
from mechprobe.probes.kinds.mlp import MLPProbe, fit_mlp
from mechprobe.probes.probe import strength_of
from mechprobe.probes.rows import LabelledRows
from mechprobe.probes.solving.logistic import fit_logistic
from tests.probes.planted import held_out, planted_rows


def either_or(seed: int, n: int = 600) -> LabelledRows:
    """Positive where two coordinates have the same sign: no direction tells the classes apart."""
    X = np.random.default_rng(seed).normal(size=(n, 6)).astype(np.float32)
    labels = (X[:, :1] * X[:, 1:2] > 0).astype(np.int8)
    return LabelledRows(X=X, labels=labels, indicators=("either_or",))


def auroc(scores: np.ndarray, rows: LabelledRows, at: int = 0) -> float:
    used = rows.labels[:, at] >= 0
    return float(roc_auc_score(rows.labels[used, at] == 1, scores[used]))


def test_networks_and_trees_find_what_no_direction_shows() -> None:
    rows, test = either_or(0), either_or(1)
    fits = {
        "linear": fit_logistic(rows)[0][0],
        "mlp": fit_mlp(rows, (400.0,))[0][0],
        "boosted": fit_boosted(rows, (32.0,))[0][0],
    }
    found = {name: auroc(probe.score(test.X), test) for name, probe in fits.items()}
    assert found["linear"] < 0.6 and found["mlp"] > 0.9 and found["boosted"] > 0.9


@pytest.mark.parametrize("name", ["dense_mlp", "dense_boosted"])
def test_the_steps_that_rank_select_rows_best_are_chosen(name: str) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 30)).astype(np.float32)
    labels = (X[:, 0] + 2.5 * rng.normal(size=400) > 0).astype(np.int8)[:, None]
    rows, select = (
        LabelledRows(X=X[part], labels=labels[part], indicators=("faint",))
        for part in (slice(100), slice(100, None))
    )
    estimator = ESTIMATORS[name]
    each = [
        auroc(probes[0].score(select.X), select)
        for probes in estimator.fit(rows, estimator.strengths, seed=0)
    ]
    chosen = fit_selected(estimator, rows, held_out(select))[0]
    assert strength_of(chosen) == estimator.strengths[int(np.argmax(each))]
    assert auroc(chosen.score(select.X), select) == pytest.approx(max(each))
    if name == "dense_boosted":
        assert each[-1] < max(each)


def test_boosted_scores_are_lightgbms_own_raw_predictions() -> None:
    rows, test = planted_rows(0), planted_rows(1)
    settings = {
        "objective": "binary",
        "num_leaves": 15,
        "min_data_in_leaf": 10,
        "max_bin": 63,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbosity": -1,
        "seed": 0,
    }
    for at, (short, long) in enumerate(zip(*fit_boosted(rows, (5.0, 20.0)), strict=True)):
        used = np.flatnonzero(rows.labels[:, at] >= 0)
        # The same bins: cut over all rows, then narrowed to those that the indicator uses.
        data = lightgbm.Dataset(rows.X, params=settings, free_raw_data=False).construct()
        part = data.subset(used.tolist()).construct()
        part.set_label(rows.labels[used, at])
        oracle = lightgbm.train(settings, part, num_boost_round=20)
        for probe, n_rounds in ((short, 5), (long, 20)):
            expected = oracle.predict(test.X, raw_score=True, num_iteration=n_rounds)
            np.testing.assert_allclose(probe.score(test.X), expected, atol=1e-5)


def test_trees_read_sparse_features_as_they_read_dense_ones() -> None:
    sparse = planted_rows(0, sparse=True)
    dense = LabelledRows(X=sparse.X.toarray(), labels=sparse.labels, indicators=sparse.indicators)
    for one, other in zip(fit_boosted(sparse)[0], fit_boosted(dense)[0], strict=True):
        assert auroc(one.score(sparse.X), sparse) == pytest.approx(
            auroc(other.score(dense.X), dense), abs=0.01
        )


def test_trees_say_which_features_they_split_on_and_what_each_gains() -> None:
    for at, probe in enumerate(fit_boosted(planted_rows(0, sparse=True), (8.0,))[0]):
        assert at in probe.features and np.argmax(probe.gain) == at
        assert (probe.gain > 0).sum() == len(probe.features)


def test_trees_refuse_rows_that_are_not_finite() -> None:
    probe = fit_boosted(planted_rows(0), (4.0,))[0][0]
    broken = np.full((2, 12), np.nan, dtype=np.float32)
    with pytest.raises(LabelError, match="24 values of the 2 x 12 matrix are not finite"):
        probe.score(broken)


def test_balanced_classes_shift_the_log_odds_of_a_rare_class_up() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((800, 1)) < 0.08).astype(np.int8)
    X = (rng.normal(size=(800, 5)) + 0.8 * labels).astype(np.float32)
    rows = LabelledRows(X=X, labels=labels, indicators=("rare",))
    for fit in (fit_mlp, fit_boosted):
        plain, balanced = (
            fit(rows, (30.0,), class_weight=weight)[0][0].score(X) for weight in (None, "balanced")
        )
        assert (plain > 0).mean() < 0.06 < 0.1 < (balanced > 0).mean()
        assert balanced.mean() > plain.mean() + 0.5


def test_a_network_scores_by_its_two_layers() -> None:
    probe = MLPProbe(
        hidden_weight=np.array([[1, -1], [0, 2]], dtype=np.float32),
        hidden_bias=np.array([0.5, -1], dtype=np.float32),
        weight=np.array([2, 3], dtype=np.float32),
        bias=0.25,
        settings={},
    )
    X = np.array([[1, 1], [-1, 0]], dtype=np.float32)
    # (1.5, 0) -> 3 + .25; (max(-.5, 0), max(0, 0)) -> .25
    np.testing.assert_allclose(probe.score(X), [3.25, 0.25])
    np.testing.assert_allclose(probe.score(sp.csr_matrix(X)), [3.25, 0.25])


def test_many_rows_are_read_in_batches_and_give_what_is_planted() -> None:
    rows, test = planted_rows(0, n=3000), planted_rows(1)
    for at, probe in enumerate(fit_mlp(rows, (100.0,))[0]):
        assert auroc(probe.score(test.X), test, at) > 0.95


def test_counts_out_of_range_are_refused() -> None:
    rows = planted_rows(0)
    with pytest.raises(ConfigError, match=r"n_steps candidates are \(1.5,\)"):
        fit_mlp(rows, (1.5,))
    with pytest.raises(ConfigError, match=r"n_rounds candidates are \(\)"):
        fit_boosted(rows, ())
    with pytest.raises(ShapeError, match="reads dense activations"):
        fit_mlp(planted_rows(0, sparse=True))
    assert isinstance(fit_boosted(planted_rows(0, sparse=True), (1.0,))[0][0], BoostedProbe)
