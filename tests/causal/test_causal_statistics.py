import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from mechprobe.causal.verdicts.statistics import (
    benjamini_hochberg,
    bootstrap_many,
    cluster_bootstrap,
    dose_trend,
    empirical_p,
    equivalence,
    needed_for_equivalence,
    needed_for_sign_flip,
    sign_flip_p,
)
from mechprobe.evaluation.differences import holm


def names(n: int) -> list[str]:
    return [f"t{i}" for i in range(n)]


def test_interval_covers_the_mean_of_a_skewed_sample_about_as_often_as_it_says():
    hits = 0
    for seed in range(60):
        values = np.random.default_rng(seed).exponential(1.0, 40)
        interval = cluster_bootstrap(values, names(40), n_boot=400, seed=seed)
        hits += interval.low <= 1.0 <= interval.high
    assert hits >= 51


def test_copies_of_one_transcript_do_not_narrow_the_interval():
    values = np.random.default_rng(0).normal(size=20)
    once = cluster_bootstrap(values, names(20), seed=1)
    thrice = cluster_bootstrap(np.repeat(values, 3), np.repeat(names(20), 3).tolist(), seed=1)
    assert thrice.high - thrice.low == pytest.approx(once.high - once.low, rel=0.05)


def test_many_draws_at_once_agree_with_one_at_a_time():
    values = np.random.default_rng(0).normal(1.0, 1.0, (50, 3))
    many = bootstrap_many(values, names(50), n_boot=4000, seed=0)
    for draw in range(3):
        one = cluster_bootstrap(values[:, draw], names(50), n_boot=4000, seed=0)
        assert many[draw] == pytest.approx([one.low, one.high], abs=0.08)


def test_one_transcript_gives_a_mean_and_no_bounds():
    interval = cluster_bootstrap(np.array([1.0, 3.0]), ["a", "a"])
    assert interval.value == 2.0
    assert math.isnan(interval.low)
    assert np.isnan(bootstrap_many(np.ones((2, 2)), ["a", "a"])).all()


def test_sign_flips_of_few_clusters_are_exact():
    assert sign_flip_p(np.ones(8), names(8)) == pytest.approx(2**-8)
    assert sign_flip_p(-np.ones(8), names(8)) == 1.0
    assert math.isnan(sign_flip_p(np.zeros(0), []))


def test_sign_flips_agree_with_a_t_test_on_normal_data():
    values = np.random.default_rng(3).normal(0.3, 1.0, 40)
    p = sign_flip_p(values, names(40), seed=0)
    assert p == pytest.approx(stats.ttest_1samp(values, 0, alternative="greater").pvalue, abs=0.02)


def test_empirical_p_counts_the_draws_at_least_as_large():
    assert empirical_p(1.0, np.array([0.0, 1.0, 2.0])) == pytest.approx(3 / 4)
    assert empirical_p(3.0, np.zeros(19)) == pytest.approx(0.05)
    assert math.isnan(empirical_p(math.nan, np.zeros(3)))


@settings(max_examples=4, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_corrections_agree_with_statsmodels(p_values: list[float]):
    for ours, method in ((holm, "holm"), (benjamini_hochberg, "fdr_bh")):
        assert ours(p_values) == pytest.approx(multipletests(p_values, method=method)[1])


def test_corrections_leave_out_what_was_not_tested():
    assert holm([0.01, math.nan, 0.02])[:1] == pytest.approx([0.02])
    assert math.isnan(holm([0.01, math.nan, 0.02])[1])
    assert benjamini_hochberg([0.01, 0.02]) == pytest.approx([0.02, 0.02])


def test_equivalence_is_shown_by_many_small_values_and_not_by_few_noisy_ones():
    rng = np.random.default_rng(0)
    many = equivalence(rng.normal(0.0, 0.1, 60), names(60), margin=0.1)
    assert many.p_value < 0.05
    assert -0.1 < many.low < many.high < 0.1
    few = equivalence(rng.normal(0.0, 0.5, 6), names(6), margin=0.1)
    assert few.p_value > 0.05
    assert few.n_needed > 6


def test_an_effect_as_large_as_the_margin_is_never_equivalent():
    assert equivalence(np.full(30, 0.2), names(30), margin=0.1).p_value == 1.0
    assert needed_for_equivalence(0.1, 0.1, margin=0.1) == 0


def test_the_number_of_transcripts_needed_gives_the_promised_power():
    n = needed_for_equivalence(0.0, 0.2, margin=0.1)
    rng = np.random.default_rng(0)
    shown = [
        equivalence(rng.normal(0, 0.2, n), names(n), margin=0.1).p_value < 0.05 for _ in range(200)
    ]
    assert 0.75 < np.mean(shown) < 0.95


def test_holm_over_eighteen_indicators_needs_ten_transcripts():
    n = needed_for_sign_flip(36)
    assert n == 10
    assert sign_flip_p(np.ones(n), names(n)) * 36 <= 0.05


def test_dose_trends():
    alphas = np.array([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0])
    rising = dose_trend(alphas, np.tanh(alphas))
    assert rising.is_monotone
    assert rising.isotonic_r2 == pytest.approx(1.0)
    assert not rising.reverses
    assert dose_trend(alphas, np.array([0, -1, -0.5, 0, 0.5, 1.0, 0.2])).reverses
    assert not dose_trend(alphas, -alphas).is_monotone
    assert not dose_trend(alphas, np.zeros(7)).is_monotone
