import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from mechprobe.errors import LabelError
from mechprobe.evaluation import bootstrap
from mechprobe.evaluation.bootstrap import (
    auroc_difference,
    auroc_interval,
    binomial_bounds,
    bootstrap_aurocs,
    bootstrap_differences,
    cluster_draws,
    resampled_aurocs,
)
from mechprobe.evaluation.metrics import auroc
from mechprobe.evaluation.units import Units


def planted_units(
    rng: np.random.Generator, n_transcripts: int, *, gap: float = 1.0, rate: float = 0.5
) -> Units:
    """Turns of transcripts that share an offset, so that turns are not independent."""
    clusters = np.repeat(np.arange(n_transcripts), rng.integers(1, 6, size=n_transcripts))
    is_positive = (rng.random(n_transcripts) < rate)[clusters]
    scores = rng.normal(size=n_transcripts)[clusters] + rng.normal(size=len(clusters))
    return Units(
        scores=np.round(scores + gap * is_positive, 1), is_positive=is_positive, clusters=clusters
    )


def naive_aurocs(units: Units, counts: np.ndarray) -> list[float]:
    codes, cluster = np.unique(units.clusters, return_inverse=True)
    found = []
    for draw in counts:
        taken = np.repeat(np.arange(len(units.scores)), draw.astype(int)[cluster])
        one_class = units.is_positive[taken].all() or not units.is_positive[taken].any()
        found.append(np.nan if one_class else auroc(units.scores[taken], units.is_positive[taken]))
    assert len(codes) == counts.shape[1]
    return found


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 12), st.sampled_from([0.1, 0.5]))
def test_all_draws_together_give_the_naive_loops_numbers_on_the_same_draws(
    seed: int, n_transcripts: int, rate: float
) -> None:
    units = planted_units(np.random.default_rng(seed), n_transcripts, rate=rate)
    if units.is_positive.all() or not units.is_positive.any():
        return
    draws = cluster_draws(n_transcripts, 20, seed)
    ours = bootstrap_aurocs(units, n_boot=20, seed=seed)
    np.testing.assert_allclose(ours, naive_aurocs(units, draws), rtol=0, atol=1e-12)


def test_blocks_of_draws_do_not_change_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    units = planted_units(np.random.default_rng(0), 30)
    whole = bootstrap_aurocs(units, n_boot=50, seed=1)
    monkeypatch.setattr(bootstrap, "_BLOCK", 40)
    assert np.array_equal(bootstrap_aurocs(units, n_boot=50, seed=1), whole)


def test_units_of_a_transcript_are_drawn_together() -> None:
    units = planted_units(np.random.default_rng(3), 40)
    doubled = Units(
        scores=np.tile(units.scores, 10),
        is_positive=np.tile(units.is_positive, 10),
        clusters=np.tile(units.clusters, 10),
    )
    assert auroc_interval(doubled, seed=2) == auroc_interval(units, seed=2)


def test_draws_without_a_class_are_left_out_and_counted() -> None:
    units = Units(
        scores=np.array([1.0, 2.0, 0.0]),
        is_positive=np.array([True, False, False]),
        clusters=np.arange(3),
    )
    interval = auroc_interval(units, n_boot=2000)
    # One cluster of three is missed by a draw with (2/3)^3, both others are with (1/3)^3.
    assert interval.n_degenerate / 2000 == pytest.approx(8 / 27 + 1 / 27, abs=0.04)
    assert interval.low <= 0.025 and interval.high >= 0.975


def test_perfect_separation_does_not_claim_certainty() -> None:
    for n in (5, 50, 500):
        units = Units(
            scores=np.r_[np.ones(n), np.zeros(n)],
            is_positive=np.arange(2 * n) < n,
            clusters=np.arange(2 * n),
        )
        interval = auroc_interval(units)
        assert interval.high == 1.0
        assert interval.low == pytest.approx(0.025 ** (1 / n))


def test_binomial_bounds_are_clopper_pearson() -> None:
    exact = binomtest(3, 17).proportion_ci(0.95, "exact")
    assert binomial_bounds(3.0, 17) == pytest.approx((exact.low, exact.high))
    assert binomial_bounds(0.0, 17)[0] == 0.0 and binomial_bounds(17.0, 17)[1] == 1.0


@pytest.mark.parametrize("n_transcripts", [12, 80])
def test_intervals_cover_the_truth_as_often_as_they_say(n_transcripts: int) -> None:
    rng = np.random.default_rng(5)
    big = planted_units(rng, 20_000)
    truth = auroc(big.scores, big.is_positive)
    covered = []
    for seed in range(120):
        units = planted_units(rng, n_transcripts)
        if units.is_positive.all() or not units.is_positive.any():
            continue
        interval = auroc_interval(units, n_boot=200, seed=seed)
        covered.append(interval.low <= truth <= interval.high)
    assert np.mean(covered) >= 0.89


def test_a_paired_difference_is_tighter_than_two_separate_intervals() -> None:
    rng = np.random.default_rng(7)
    units = planted_units(rng, 100)
    worse = Units(
        scores=units.scores + 2 * rng.normal(size=len(units.scores)),
        is_positive=units.is_positive,
        clusters=units.clusters,
    )
    difference = auroc_difference(units, worse)
    first, second = auroc_interval(units), auroc_interval(worse)
    assert difference.value == pytest.approx(first.value - second.value)
    assert difference.low > 0
    assert difference.high - difference.low < first.high - first.low + second.high - second.low


@pytest.mark.parametrize("decimals", [0, 6])
def test_paired_draws_are_scikit_learns_differences_on_the_same_resamples(decimals: int) -> None:
    rng = np.random.default_rng(12)
    first = planted_units(rng, 60)
    noise = 2 * rng.normal(size=len(first.scores))
    second = Units(
        scores=np.round(first.scores + noise, decimals),
        is_positive=first.is_positive,
        clusters=first.clusters,
    )
    found = bootstrap_differences(first, second, n_boot=30, seed=4)
    for draw, counts in zip(found, cluster_draws(60, 30, 4), strict=True):
        taken = np.repeat(np.arange(len(first.scores)), counts.astype(int)[first.clusters])
        labels = first.is_positive[taken]
        one, other = (roc_auc_score(labels, units.scores[taken]) for units in (first, second))
        assert draw == pytest.approx(one - other, abs=1e-12)


def test_a_scorer_does_not_differ_from_itself() -> None:
    units = planted_units(np.random.default_rng(8), 30)
    difference = auroc_difference(units, units)
    assert (difference.value, difference.low, difference.high) == (0.0, 0.0, 0.0)


def test_unpaired_units_are_refused() -> None:
    units = planted_units(np.random.default_rng(9), 30)
    other = Units(scores=units.scores, is_positive=~units.is_positive, clusters=units.clusters)
    with pytest.raises(LabelError, match="another label, transcript or fold"):
        auroc_difference(units, other)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    units = planted_units(np.random.default_rng(10), 30)
    assert auroc_interval(units, seed=1) == auroc_interval(units, seed=1)
    assert auroc_interval(units, seed=1) != auroc_interval(units, seed=2)


def test_counts_of_a_draw_sum_to_the_number_of_clusters() -> None:
    counts = cluster_draws(7, 11, 0)
    assert counts.shape == (11, 7)
    assert (counts.sum(axis=1) == 7).all()
    ones = np.ones((1, 2))
    units = Units(
        scores=np.array([2.0, 1.0]), is_positive=np.array([True, False]), clusters=np.arange(2)
    )
    assert resampled_aurocs(units, np.arange(2), ones).tolist() == [1.0]
