"""Thresholds on neutral units: what each rule promises, by hand and by simulation with fixed seeds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mechprobe.errors import ConfigError, LabelError, ShapeError
from mechprobe.probes.scoring.thresholds import (
    effective_units,
    negatives_needed,
    negatives_to_certify,
    threshold_at,
)


def test_the_three_rules_on_a_hundred_negatives() -> None:
    negatives = np.arange(1.0, 101.0)
    empirical = threshold_at(negatives, 0.05)
    conformal = threshold_at(negatives, 0.05, rule="conformal")
    certified = threshold_at(negatives, 0.05, rule="certified")
    # 5 of 100 may fire; (k + 1) / 101 <= .05 allows 4; Clopper-Pearson of 1 in 100 is .0466, of 2 .0616.
    assert [one.value for one in (empirical, conformal, certified)] == [95.0, 96.0, 99.0]
    assert [one.fpr for one in (empirical, conformal, certified)] == [0.05, 0.04, 0.01]
    assert certified.fpr_upper == pytest.approx(0.0466, abs=1e-4)
    assert certified.holds and not conformal.holds and not empirical.holds


@settings(max_examples=40, deadline=None)
@given(
    st.integers(60, 300),
    st.integers(0, 999),
    st.sampled_from(["empirical", "conformal", "certified"]),
)
def test_a_higher_target_never_gives_a_higher_threshold(n: int, seed: int, rule: str) -> None:
    negatives = np.random.default_rng(seed).integers(0, 30, size=n).astype(np.float64)
    values = [threshold_at(negatives, target, rule=rule).value for target in (0.05, 0.1, 0.3, 0.6)]  # type: ignore[arg-type]
    assert values == sorted(values, reverse=True)


def test_a_conformal_threshold_fires_on_new_negatives_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    n, target, n_draws = 39, 0.1, 4000
    fired = np.empty(n_draws)
    for draw in range(n_draws):
        value = threshold_at(rng.normal(size=n), target, rule="conformal").value
        fired[draw] = (rng.normal(size=25) > value).mean()
    # For continuous scores the rate is exactly floor(.1 * 40) / 40; the empirical rule's is 4 / 40 as well
    # with 3.9 rounded down to 3 allowed, so only the mean over draws tells.
    spread = fired.std() / np.sqrt(n_draws)
    assert abs(fired.mean() - 0.1) < 4 * spread


def test_an_empirical_threshold_fires_more_often_than_its_target_and_a_certified_one_seldom() -> (
    None
):
    rng = np.random.default_rng(1)
    n, target, n_draws = 100, 0.1, 2000
    rates: dict[str, list[float]] = {"empirical": [], "certified": []}
    for _ in range(n_draws):
        negatives = rng.uniform(size=n)
        for rule, found in rates.items():
            # The rate of a threshold on uniform scores is one minus the threshold.
            found.append(1 - threshold_at(negatives, target, rule=rule).value)  # type: ignore[arg-type]
    assert np.mean(rates["empirical"]) == pytest.approx(11 / 101, abs=0.003)
    assert np.mean(np.array(rates["certified"]) > target) <= 0.05 + 4 * np.sqrt(
        0.05 * 0.95 / n_draws
    )


def test_what_each_rule_needs_is_what_it_takes_and_one_less_is_refused() -> None:
    assert negatives_needed(0.05) == 20 and negatives_needed(0.05, "conformal") == 19
    assert negatives_needed(0.05, "certified") == negatives_to_certify(0.05) == 59
    for rule, n in (("empirical", 20), ("conformal", 19), ("certified", 59)):
        threshold_at(np.arange(float(n)), 0.05, rule=rule)  # type: ignore[arg-type]
        with pytest.raises(LabelError, match=f"{n - 1} negatives cannot resolve"):
            threshold_at(np.arange(n - 1.0), 0.05, rule=rule)  # type: ignore[arg-type]


def test_twins_count_once_in_the_bound() -> None:
    rng = np.random.default_rng(2)
    single = rng.normal(size=200)
    alone = threshold_at(single, 0.05)
    twins = threshold_at(np.repeat(single, 4), 0.05, clusters=np.repeat(np.arange(200), 4))
    assert (twins.n_negatives, round(twins.n_effective)) == (800, 200)
    assert twins.value == alone.value and twins.fpr_upper == pytest.approx(
        alone.fpr_upper, rel=0.01
    )
    # Without clusters the same numbers look surer than they are.
    assert threshold_at(np.repeat(single, 4), 0.05).fpr_upper < alone.fpr_upper - 0.018
    with pytest.raises(LabelError, match="tell as much as 40 and cannot certify"):
        twin = np.repeat(np.arange(40.0), 2)
        threshold_at(twin, 0.05, rule="certified", clusters=np.repeat(np.arange(40), 2))


def test_effective_units_are_all_where_clusters_do_not_matter_and_the_clusters_where_they_do() -> (
    None
):
    rng = np.random.default_rng(3)
    clusters = np.repeat(np.arange(500), 4)
    independent = rng.random(2000) < 0.3
    alike = np.repeat(rng.random(500) < 0.3, 4)
    assert effective_units(independent, clusters) == pytest.approx(2000, rel=0.15)
    assert effective_units(alike, clusters) == pytest.approx(500, rel=0.01)
    assert effective_units(np.zeros(2000, dtype=bool), clusters) == 500
    assert effective_units(alike, None) == 2000


def test_the_clustered_bound_covers_the_true_rate_as_often_as_it_says() -> None:
    # Rates of transcripts vary (beta with mean .1), 5 turns each, 60 transcripts.
    rng = np.random.default_rng(4)
    clusters = np.repeat(np.arange(60), 5)
    covered = {"clustered": 0, "plain": 0}
    n_draws = 1500
    for _ in range(n_draws):
        rates = rng.beta(0.5, 4.5, size=60)
        fired = rng.random(300) < np.repeat(rates, 5)
        scores = fired.astype(np.float64)
        for name, groups in (("clustered", clusters), ("plain", None)):
            # The target is far above the rate, so that the threshold is 0 and all that fire are counted.
            covered[name] += threshold_at(scores, 0.6, clusters=groups).fpr_upper >= 0.1
    assert covered["clustered"] / n_draws > 0.93 > covered["plain"] / n_draws


def test_bad_negatives_are_refused() -> None:
    with pytest.raises(LabelError, match="no finite score"):
        threshold_at(np.r_[np.zeros(50), np.nan], 0.05)
    with pytest.raises(ShapeError, match="3 clusters for 50 negatives"):
        threshold_at(np.zeros(50), 0.05, clusters=np.zeros(3, dtype=np.int64))
    with pytest.raises(ConfigError, match="it must be > 0 and < 1"):
        threshold_at(np.zeros(50), 0.0)
    # All equal: nothing fires above the one value, and the bound says how little that shows.
    same = threshold_at(np.ones(50), 0.05)
    assert (
        same.value == 1.0
        and same.fpr == 0.0
        and same.fpr_upper == pytest.approx(1 - 0.05 ** (1 / 50))
    )
