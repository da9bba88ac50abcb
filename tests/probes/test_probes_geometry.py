"""How directions lie to each other, what they share, and what is left without it."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.decomposition import TruncatedSVD
from sklearn.metrics import roc_auc_score

from mechprobe.errors import ConfigError, LabelError, ShapeError
from mechprobe.probes.comparison.cross_scores import compare_removal, cross_auroc
from mechprobe.probes.comparison.geometry import geometry_of
from mechprobe.probes.comparison.shared_direction import shared_direction, without_direction
from mechprobe.probes.exchange.artefact import key_of
from mechprobe.probes.exchange.detector_folders import import_detectors
from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.probe_set import ProbeSet
from mechprobe.probes.rows import LabelledRows
from mechprobe.probes.solving.standardise import Scaling
from mechprobe.taxonomy import load_taxonomy

NAMES = ("first", "second", "third", "fourth")


def probe_set(weight: np.ndarray, bias: float = 0.0) -> ProbeSet:
    """A set with these rows as weights."""
    return ProbeSet(
        scorer="made",
        hook_name="blocks.1.hook_out",
        reads="acts",
        indicators=NAMES[: len(weight)],
        probes=tuple(
            LinearProbe(kind="made", weight=np.asarray(row, dtype=np.float32), bias=bias)
            for row in weight
        ),
    )


def drawn(seed: int, n: int = 4, d: int = 10) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def test_cosines_of_known_directions():
    found = geometry_of(probe_set(np.array([[2.0, 0, 0], [3.0, 3.0, 0], [0, -1.0, 0]])))
    half = np.sqrt(0.5)
    wanted = [[1, half, 0], [half, 1, -half], [0, -half, 1]]
    assert found.cosines == pytest.approx(np.array(wanted), abs=1e-7)
    assert found.eigenvalues == pytest.approx([2, 1, 0], abs=1e-7)
    assert found.participation_ratio == pytest.approx(9 / 5)
    assert found.shared_share == pytest.approx(2 / 3)


def test_participation_ratio_is_1_for_one_direction_and_n_for_orthogonal_ones():
    assert geometry_of(probe_set(np.eye(4))).participation_ratio == pytest.approx(4)
    same = np.outer([1.0, 2.0, 3.0, 4.0], [1.0, 1.0, 0])
    assert geometry_of(probe_set(same)).participation_ratio == pytest.approx(1)


def test_mean_cosines_within_and_across_groups_are_those_of_the_pairs():
    found = geometry_of(probe_set(drawn(0)))
    groups = {"first": "a", "second": "a", "third": "b", "fourth": "c"}
    c = found.cosines
    assert found.mean_cosine(groups, within=True) == pytest.approx(c[0, 1])
    across = np.mean([c[0, 2], c[0, 3], c[1, 2], c[1, 3], c[2, 3]])
    assert found.mean_cosine(groups, within=False) == pytest.approx(across)
    alone = dict(zip(NAMES, NAMES, strict=True))
    assert found.mean_cosine(alone, within=True) is None


def test_the_z_scored_space_undoes_each_probes_own_scaling():
    directions = drawn(1)
    scalings = [
        Scaling(mean=np.zeros(10), factor=1 / np.random.default_rng(seed).uniform(0.1, 9, 10))
        for seed in range(4)
    ]
    raw = np.stack([w * scaling.factor for w, scaling in zip(directions, scalings, strict=True)])
    found = geometry_of(probe_set(raw), space="z_scored", scalings=scalings)
    wanted = geometry_of(probe_set(directions))
    assert found.cosines == pytest.approx(wanted.cosines, abs=1e-6)
    assert np.abs(geometry_of(probe_set(raw)).cosines - wanted.cosines).max() > 0.1


@pytest.mark.parametrize("sparse", [False, True])
def test_a_cosine_in_the_whitened_space_is_the_correlation_of_scores(sparse: bool):
    rows = np.random.default_rng(2).normal(size=(300, 10)) @ np.random.default_rng(3).normal(
        size=(10, 10)
    )
    rows = np.maximum(rows.astype(np.float32) + 5, 0)
    one = probe_set(drawn(4))
    X = sp.csr_matrix(rows) if sparse else rows
    found = geometry_of(one, space="whitened", rows=X)
    wanted = np.corrcoef(rows.astype(np.float64) @ one.weight.astype(np.float64), rowvar=False)
    assert found.cosines == pytest.approx(wanted, abs=1e-6)


def test_cosines_do_not_depend_on_lengths_or_a_rotation():
    weight = drawn(5)
    turn = np.linalg.qr(np.random.default_rng(6).normal(size=(10, 10)))[0]
    other = (weight * np.array([[0.01], [3], [50], [1]])) @ turn
    found = geometry_of(probe_set(other)).cosines
    assert found == pytest.approx(geometry_of(probe_set(weight)).cosines, abs=1e-5)


def test_the_published_probes_lie_as_the_paper_says(shared_data):
    """Section 6.6: over all 18 at layer 27 across groups .502, from .25 to .81; raw and z-scored alike for this model."""
    taxonomy = load_taxonomy()
    found, _ = import_detectors(shared_data / "paper_probes" / "probes_paper_main", taxonomy)
    (one,) = found.bank.sets
    groups = {indicator.slug: indicator.group for indicator in taxonomy.indicators}
    assert len({groups[name] for name in one.indicators}) == 3
    z_scored = geometry_of(one, space="z_scored", scalings=found.scalings[key_of(one)])
    pairs = z_scored.cosines[np.triu_indices(3, k=1)]
    # Also the cosines of the stored directions themselves.
    assert pairs == pytest.approx([0.5810, 0.5195, 0.5684], abs=1e-4)
    assert (pairs > 0.25).all() and (pairs < 0.81).all()
    assert z_scored.mean_cosine(groups, within=True) is None
    across = z_scored.mean_cosine(groups, within=False)
    assert across == pytest.approx(0.502, abs=0.06)
    raw = geometry_of(one)
    assert raw.mean_cosine(groups, within=False) == pytest.approx(across, abs=0.005)


def test_the_shared_direction_is_the_first_singular_vector_of_the_units():
    weight = drawn(7) + 1.5
    one = probe_set(weight)
    units = weight / np.linalg.norm(weight, axis=1, keepdims=True)
    oracle = TruncatedSVD(1, algorithm="arpack", random_state=0).fit(units.astype(np.float64))
    found = shared_direction(one)
    assert abs(found @ oracle.components_[0]) == pytest.approx(1, abs=1e-6)
    assert np.linalg.norm(found) == pytest.approx(1)
    assert (units @ found).sum() > 0
    geometry = geometry_of(one)
    assert geometry.loadings == pytest.approx(units @ found, abs=1e-6)
    assert np.square(geometry.loadings).mean() == pytest.approx(geometry.shared_share, abs=1e-6)


def test_after_removal_moving_along_the_direction_changes_no_score():
    one, direction = probe_set(drawn(8), bias=0.3), np.arange(10.0) - 4
    X = drawn(9, n=50)
    moved = (X + 3 * direction).astype(np.float32)
    removed = without_direction(one, direction)
    assert removed.score_all(moved) == pytest.approx(removed.score_all(X), abs=1e-4)
    assert np.abs(one.score_all(moved) - one.score_all(X)).max() > 1
    assert removed.scorer == "made_without_shared"
    assert [probe.bias for probe in removed.probes] == [0.3] * 4
    again = without_direction(removed, -7 * direction)
    assert again.weight == pytest.approx(removed.weight, abs=1e-6)


def test_removal_about_a_centre_keeps_the_score_there():
    one, centre = probe_set(drawn(10), bias=-1.0), np.full(10, 100.0)
    removed = without_direction(one, np.ones(10), centre=centre)
    X = centre[None].astype(np.float32)
    assert removed.score_all(X) == pytest.approx(one.score_all(X), abs=1e-3)


def planted(seed: int, n: int = 2000) -> LabelledRows:
    """Each row is of one indicator or of none; all indicators raise coordinate 0, indicator i raises 1 + i as well."""
    rng = np.random.default_rng(seed)
    which = rng.integers(-1, 3, size=n)
    X = rng.normal(size=(n, 8))
    X[:, 0] += 4.0 * (which >= 0)
    for at in range(3):
        X[:, 1 + at] += 2.0 * (which == at)
    labels = (which[:, None] == np.arange(3)).astype(np.int8)
    return LabelledRows(X=X.astype(np.float32), labels=labels, indicators=NAMES[:3])


def shared_and_own(own: float) -> ProbeSet:
    """Probes that all read coordinate 0, and each its own by as much as said."""
    return probe_set(np.hstack([np.ones((3, 1)), own * np.eye(3), np.zeros((3, 4))]))


def test_what_the_shared_direction_carries_is_found_apart_from_what_is_particular():
    rows = planted(11)
    found = compare_removal(shared_and_own(0.6), rows)
    before, after = found.before, found.after
    # Every probe detects that there is something; what is left tells what it is.
    assert before.others > 0.55 and before.best_is_own == 1
    assert (after.apart > before.apart + 0.02).all()
    assert after.others < 0.5 < after.own and after.best_is_own == 1
    assert found.shared_alone.min() > 0.6
    assert found.after_random.own == pytest.approx(before.own, abs=0.1)


def test_probes_that_are_one_direction_cannot_tell_indicators_apart():
    found = compare_removal(shared_and_own(0.02), planted(12))
    # Two thirds of the negatives hold another indicator, so 2/3 is what a perfect detector of "something" reaches.
    assert found.before.own == pytest.approx(2 / 3, abs=0.03)
    assert np.abs(found.before.apart - 0.5).max() < 0.08


def test_cross_aurocs_are_scikit_learns(seed: int = 13):
    rows = planted(seed, n=300)
    labels = rows.labels.copy()
    labels[::7] = -1
    rows = LabelledRows(X=rows.X, labels=labels, indicators=rows.indicators)
    one = shared_and_own(0.5)
    found = cross_auroc(one, rows)
    scores = one.score_all(rows.X)
    for i in range(3):
        for j in range(3):
            used = labels[:, j] != -1
            wanted = roc_auc_score(labels[used, j] == 1, scores[used, i])
            assert found.matrix[i, j] == pytest.approx(wanted, abs=1e-6)
        others = (labels[:, i] == 0) & (np.delete(labels, i, axis=1) == 1).any(axis=1)
        used = others | (labels[:, i] == 1)
        wanted = roc_auc_score(labels[used, i] == 1, scores[used, i])
        assert found.apart[i] == pytest.approx(wanted, abs=1e-6)


def test_labels_are_found_by_name_whatever_their_order():
    rows, one = planted(14), shared_and_own(0.5)
    turned = LabelledRows(X=rows.X, labels=rows.labels[:, ::-1], indicators=rows.indicators[::-1])
    assert np.array_equal(cross_auroc(one, rows).matrix, cross_auroc(one, turned).matrix)


def test_an_indicator_with_fewer_than_5_positive_rows_has_no_figure():
    rows = planted(15)
    labels = rows.labels.copy()
    positive = np.flatnonzero(labels[:, 1] == 1)
    labels[positive[4:], 1] = -1
    rows = LabelledRows(X=rows.X, labels=labels, indicators=rows.indicators)
    found = cross_auroc(shared_and_own(0.5), rows)
    assert np.isnan(found.matrix[:, 1]).all() and np.isnan(found.apart[1])
    assert np.isfinite(found.matrix[:, [0, 2]]).all() and np.isfinite(found.own)
    assert found.best_is_own == 1


def test_all_equal_scores_are_chance():
    one = probe_set(np.vstack([np.zeros(8), np.eye(8)[:2]]))
    assert cross_auroc(one, planted(16)).matrix[0] == pytest.approx([0.5] * 3)


def test_mistakes_are_named():
    one = probe_set(drawn(17))
    with pytest.raises(ConfigError, match="scaling for each of the 4"):
        geometry_of(one, space="z_scored")
    with pytest.raises(ConfigError, match="needs rows"):
        geometry_of(one, space="whitened")
    with pytest.raises(ShapeError, match="read width 10, the rows have 3"):
        geometry_of(one, space="whitened", rows=np.ones((5, 3), dtype=np.float32))
    with pytest.raises(ConfigError, match="'second' has no direction"):
        geometry_of(probe_set(np.array([[1.0, 0], [0, 0]])))
    with pytest.raises(ConfigError, match="'second' has no direction"):
        shared_direction(probe_set(np.array([[1.0, 0], [0, 0]])))
    with pytest.raises(ShapeError, match="3 numbers"):
        without_direction(one, np.ones(3))
    with pytest.raises(ConfigError, match="length 0"):
        without_direction(one, np.zeros(10))
    with pytest.raises(LabelError, match="no labels for 'fourth'"):
        cross_auroc(probe_set(drawn(18, d=8)), planted(19))
