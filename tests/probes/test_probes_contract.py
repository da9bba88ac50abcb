"""One contract for all estimators, of rows and of units: fit, frozen result, score, storage, laws, refusals."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.metrics import roc_auc_score

from mechprobe.errors import LabelError, ShapeError
from mechprobe.probes.bank import ProbeBank
from mechprobe.probes.estimators import ESTIMATORS, Estimator, fit_selected
from mechprobe.probes.kinds.sequence_estimators import (
    SEQUENCE_ESTIMATORS,
    fit_units_selected,
)
from mechprobe.probes.kinds.sequences import LabelledUnits, SequenceProbe
from mechprobe.probes.probe import Probe, strength_of
from mechprobe.probes.probe_set import ProbeSet
from mechprobe.probes.rows import LabelledRows
from mechprobe.probes.stored import Storable
from tests.probes.planted import (
    INDICATORS,
    N_INDICATORS,
    held_out,
    held_out_units,
    planted_rows,
    planted_units,
)

Labelled = LabelledRows | LabelledUnits
AnyEstimator = Estimator[Labelled, Probe]

BLIND = {"dense_diff_of_means", "dense_lat", "dense_pca", "random_direction"}
"""What one massive coordinate, or the lack of any label, keeps from finding what is planted."""


def data_for(estimator: AnyEstimator, seed: int) -> Labelled:
    sparse = estimator.reads == "feature_acts"
    if estimator.name in SEQUENCE_ESTIMATORS:
        return planted_units(seed, sparse=sparse)
    return planted_rows(seed, sparse=sparse)


def fit(
    estimator: AnyEstimator, data: Labelled, strengths: Sequence[float], seed: int = 0
) -> Sequence[tuple[Probe, ...]]:
    return estimator.fit(data, strengths, seed=seed)  # pyright: ignore


def select(estimator: AnyEstimator, data: Labelled, more: Labelled | None) -> tuple[Probe, ...]:
    if isinstance(data, LabelledRows):
        return fit_selected(estimator, data, more and held_out(more))
    return fit_units_selected(estimator, data, more and held_out_units(more))


def scores(probe: Probe, data: Labelled) -> np.ndarray:
    if isinstance(data, LabelledUnits):
        assert isinstance(probe, SequenceProbe)
        return probe.score_units(data.X, data.starts)
    return probe.score(data.X)


def auroc(probe: Probe, data: Labelled, at: int) -> float:
    used = data.labels[:, at] >= 0
    return float(roc_auc_score(data.labels[used, at] == 1, scores(probe, data)[used]))


@pytest.fixture(params=[*ESTIMATORS, *SEQUENCE_ESTIMATORS])
def estimator(request: pytest.FixtureRequest) -> AnyEstimator:
    return {**ESTIMATORS, **SEQUENCE_ESTIMATORS}[request.param]


def test_a_fit_gives_frozen_probes_one_an_indicator_and_is_deterministic(
    estimator: AnyEstimator,
) -> None:
    data = data_for(estimator, 0)
    first, second = (fit(estimator, data, estimator.strengths, seed=3) for _ in range(2))
    assert [len(probes) for probes in first] == [N_INDICATORS] * len(estimator.strengths)
    for strength, ones, others in zip(estimator.strengths, first, second, strict=True):
        for one, other in zip(ones, others, strict=True):
            assert isinstance(one, Probe) and isinstance(one, Storable) and one.width == 12
            assert np.array_equal(scores(one, data), scores(other, data))
            # A k-sparse probe reads no more features than there are.
            assert len(estimator.strengths) == 1 or strength_of(one) in (strength, 12)
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(one, dataclasses.fields(one)[0].name, None)


def test_a_strength_is_fitted_the_same_alone_and_among_others(estimator: AnyEstimator) -> None:
    data = data_for(estimator, 0)
    strengths = (*estimator.strengths[:1], *estimator.strengths[2:3])
    for strength, probes in zip(strengths, fit(estimator, data, strengths), strict=True):
        alone = fit(estimator, data, [strength])[0]
        for one, other in zip(probes, alone, strict=True):
            before, after = scores(one, data), scores(other, data)
            np.testing.assert_allclose(after, before, atol=0.03 * before.std() + 1e-6)


def test_scores_are_one_number_a_row_or_unit_and_find_the_planted_indicator(
    estimator: AnyEstimator,
) -> None:
    probes = select(estimator, data_for(estimator, 0), data_for(estimator, 1))
    test = data_for(estimator, 2)
    for at, probe in enumerate(probes):
        found = scores(probe, test)
        assert found.shape == (len(test.labels),) and found.dtype == np.float32
        if estimator.name not in BLIND:
            assert auroc(probe, test, at) > 0.92


def test_a_bank_gives_the_same_bits_after_saving(estimator: AnyEstimator, tmp_path: Path) -> None:
    data = data_for(estimator, 0)
    one = ProbeSet(
        scorer=estimator.name,
        hook_name="blocks.1.hook_out",
        reads=estimator.reads,
        indicators=INDICATORS,
        probes=select(estimator, data, None),
    )
    ProbeBank(sets=(one,), model="toy").save(tmp_path)
    bank = ProbeBank.load(tmp_path)
    again = bank.find(estimator.name)
    assert bank.model == "toy" and again.indicators == INDICATORS
    assert np.array_equal(again.score_all(data.X), one.score_all(data.X))
    for probe, other in zip(one.probes, again.probes, strict=True):
        assert type(probe) is type(other)
        assert (probe.kind, dict(probe.settings)) == (other.kind, dict(other.settings))
        assert np.array_equal(scores(probe, data), scores(other, data))


def permuted(data: Labelled, columns: np.ndarray) -> Labelled:
    return dataclasses.replace(data, X=data.X[:, columns])


def test_the_order_of_columns_does_not_matter(estimator: AnyEstimator) -> None:
    if estimator.name in ("random_direction", "dense_paper"):
        pytest.skip("its first weights belong to places, as published; the order of rows is tested")
    data, test = data_for(estimator, 0), data_for(estimator, 1)
    columns = np.random.default_rng(5).permutation(12)
    for strength in estimator.strengths[1:2] or estimator.strengths:
        before = fit(estimator, data, [strength])[0]
        after = fit(estimator, permuted(data, columns), [strength])[0]
        for at, (one, other) in enumerate(zip(before, after, strict=True)):
            there = permuted(test, columns)
            if "boosted" in estimator.name:
                # Of splits with equal gain LightGBM takes the first column's.
                assert auroc(other, there, at) == pytest.approx(auroc(one, test, at), abs=0.01)
                continue
            expected = scores(one, test)
            np.testing.assert_allclose(scores(other, there), expected, atol=0.02 * expected.std())


def test_the_order_of_rows_does_not_matter(estimator: AnyEstimator) -> None:
    if estimator.name in ("dense_mlp", "dense_lat"):
        pytest.skip("its draws belong to rows: first weights, and pairs")
    data = data_for(estimator, 0)
    if isinstance(data, LabelledUnits):
        order = np.random.default_rng(5).permutation(len(data.starts))
        rows = [np.arange(data.starts[u], data.starts[u] + data.lengths[u]) for u in order]
        starts = np.cumsum(data.lengths[order]) - data.lengths[order]
        moved = dataclasses.replace(
            data, X=data.X[np.concatenate(rows)], starts=starts, labels=data.labels[order]
        )
    else:
        order = np.random.default_rng(5).permutation(len(data.labels))
        moved = dataclasses.replace(data, X=data.X[order], labels=data.labels[order])
    before = fit(estimator, data, estimator.strengths[:1])[0]
    after = fit(estimator, moved, estimator.strengths[:1])[0]
    for one, other in zip(before, after, strict=True):
        expected = scores(one, data)
        np.testing.assert_allclose(scores(other, data), expected, atol=0.02 * expected.std())


def test_a_row_scores_the_same_dense_and_sparse(estimator: AnyEstimator) -> None:
    data, test = data_for(estimator, 0), data_for(estimator, 1)
    dense = test.X.toarray() if sp.issparse(test.X) else np.asarray(test.X)
    for probe in select(estimator, data, None):
        one = scores(probe, dataclasses.replace(test, X=dense))
        other = scores(probe, dataclasses.replace(test, X=sp.csr_matrix(dense)))
        np.testing.assert_allclose(one, other, atol=1e-4 * max(1.0, np.abs(one).max()))


def test_a_score_of_the_wrong_width_is_refused(estimator: AnyEstimator) -> None:
    data = data_for(estimator, 0)
    for probe in select(estimator, data, None):
        with pytest.raises(ShapeError, match="reads rows of width 12, got 11"):
            probe.score(data.X[:, :11])
        if isinstance(probe, SequenceProbe) and isinstance(data, LabelledUnits):
            with pytest.raises(ShapeError, match="reads rows of width 12, got 11"):
                probe.score_units(data.X[:, :11], data.starts)
            with pytest.raises(ShapeError, match="do not divide"):
                probe.score_units(data.X[:5], data.starts)


def test_left_out_units_do_not_matter(estimator: AnyEstimator) -> None:
    data = data_for(estimator, 0)
    half = len(data.labels) // 2
    labels = data.labels.copy()
    labels[half:, 0] = -1
    strengths = estimator.strengths[1:2] or estimator.strengths
    part = fit(estimator, dataclasses.replace(data, labels=labels), strengths)[0][0]
    if isinstance(data, LabelledUnits):
        alone = LabelledUnits(
            X=data.X[: data.starts[half]],
            starts=data.starts[:half],
            labels=data.labels[:half],
            indicators=INDICATORS,
        )
    else:
        alone = LabelledRows(X=data.X[:half], labels=data.labels[:half], indicators=INDICATORS)
    other = fit(estimator, alone, strengths)[0][0]
    # Columns are scaled (and cut into bins) over all rows; first weights depend on them.
    least = 0.9 if estimator.name == "dense_mlp" or "boosted" in estimator.name else 0.97
    assert np.corrcoef(scores(part, data), scores(other, data))[0, 1] > least


Broken = Callable[[Labelled], Labelled]


def one_class(data: Labelled) -> Labelled:
    return dataclasses.replace(data, labels=np.zeros_like(data.labels))


def not_a_number(data: Labelled) -> Labelled:
    X = data.X.copy()
    X[3, 4] = np.nan
    return dataclasses.replace(data, X=X)


def too_few_rows(data: Labelled) -> Labelled:
    return dataclasses.replace(data, X=data.X[:7])


@pytest.mark.filterwarnings("ignore:Changing the sparsity structure")
@pytest.mark.parametrize(
    ("breaks", "error", "says"),
    [
        (one_class, LabelError, "indicator 'indicator_0' has 0 positive"),
        (not_a_number, LabelError, "1 values of the .* matrix are not finite"),
        (too_few_rows, ShapeError, "7 rows"),
    ],
)
def test_what_cannot_be_fitted_is_refused(
    estimator: AnyEstimator, breaks: Broken, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        fit(estimator, breaks(data_for(estimator, 0)), estimator.strengths[:1])
