"""Fusions of many probes: by hand, against brute force, and the laws they must obey."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from mechprobe.errors import ConfigError, DataError, LabelError, ShapeError
from mechprobe.probes.scoring.fusion import (
    counts_above,
    fit_stack,
    max_raw,
    mean_log_odds,
    noisy_or,
    or_tuned,
    stack_from_json,
    tune_or,
)
from mechprobe.probes.scoring.thresholds import threshold_at


def correlated(seed: int, n: int = 1000, n_probes: int = 18, shared: float = 0.8) -> np.ndarray:
    """Scores of probes that share most of what they see."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(n, 1))
    return shared * common + (1 - shared**2) ** 0.5 * rng.normal(size=(n, n_probes))


def test_allotments_hold_the_fused_rate_or_do_not_as_they_say() -> None:
    negatives, new = correlated(0), correlated(1, n=20_000)
    rules = {
        how: tune_or(negatives, 0.05, allotment=how) for how in ("each", "bonferroni", "joint")
    }  # type: ignore[arg-type]
    each, equal, joint = rules["each"], rules["bonferroni"], rules["joint"]
    assert each.probe_fpr == 0.05 < 0.1 < each.fpr  # as in the paper: 18 probes, each at the target
    assert equal.fpr < 0.05 and equal.probe_fpr == 0.002
    assert equal.fpr < joint.fpr <= 0.05 and equal.probe_fpr < joint.probe_fpr
    assert (joint.thresholds < equal.thresholds).all()
    for rule in rules.values():
        assert (rule.fires(negatives)).mean() == rule.fpr < rule.fpr_upper
    assert joint.fires(new).mean() == pytest.approx(0.05, abs=0.02)
    assert equal.fires(new).mean() < 0.05


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 9999), st.integers(1, 6), st.sampled_from([0.05, 0.1, 0.2]))
def test_joint_thresholds_are_the_most_lenient_common_rate(
    seed: int, n_probes: int, target: float
) -> None:
    rng = np.random.default_rng(seed)
    negatives = rng.integers(0, 25, size=(60, n_probes)).astype(np.float64)
    found = tune_or(negatives, target)
    ordered = np.sort(negatives, axis=0)[::-1]
    rates = [(negatives > ordered[count]).any(axis=1).mean() for count in range(60)]
    best = max(count for count in range(60) if rates[count] <= target + 1e-12)
    assert (
        found.fpr == rates[best]
        and (found.thresholds == ordered[round(found.probe_fpr * 60)]).all()
    )


@given(st.integers(0, 9999))
def test_one_probe_alone_has_its_own_threshold(seed: int) -> None:
    negatives = np.random.default_rng(seed).normal(size=(80, 1))
    alone = threshold_at(negatives[:, 0], 0.05)
    for how in ("each", "bonferroni", "joint"):
        fused = tune_or(negatives, 0.05, allotment=how)  # type: ignore[arg-type]
        assert fused.thresholds.tolist() == [alone.value]
        assert (fused.fpr, fused.fpr_upper) == (alone.fpr, alone.fpr_upper)


def test_too_few_negatives_for_an_equal_part_are_refused_with_their_number() -> None:
    negatives = correlated(0, n=200)
    with pytest.raises(
        LabelError, match=r"200 negatives .* of 0\.00277778 for each of 18 .* least 360"
    ):
        tune_or(negatives, 0.05, allotment="bonferroni")
    assert tune_or(negatives, 0.05).fpr <= 0.05
    with pytest.raises(ConfigError, match="'empirical' or 'conformal'"):
        tune_or(negatives, 0.05, rule="certified")
    negatives[3, 2] = np.nan
    with pytest.raises(LabelError, match="1 of 18 probes lack scores"):
        tune_or(negatives, 0.05)


def test_a_missing_probe_never_fires_and_other_widths_are_refused() -> None:
    negatives = correlated(0, n=100, n_probes=3)
    negatives[:, 1] = np.nan
    rule = tune_or(negatives, 0.05)
    assert np.isinf(rule.thresholds).tolist() == [False, True, False]
    assert not rule.fires(np.array([[-9.0, 99.0, -9.0]])).any()
    with pytest.raises(ShapeError, match="3 probes, got scores of 2"):
        rule.fires(np.zeros((1, 2)))


def test_the_tuned_or_scores_minus_the_least_target_at_which_it_fires() -> None:
    negatives = np.stack([np.arange(100.0), np.arange(100.0)[::-1]], axis=1)
    scores = np.array([[99.5, 0.0], [0.0, 98.5], [0.0, 97.0], [50.0, 50.0]])
    # 1 % lets one of 100 fire (threshold 98), 5 % five (94), 20 % twenty (79).
    assert or_tuned(scores, negatives, (0.01, 0.05, 0.2)).tolist() == [-0.01, -0.01, -0.05, -1.0]
    # 100 negatives cannot resolve .2 %: nothing fires there.
    assert or_tuned(scores, negatives, (0.002, 0.05)).tolist() == [-0.05, -0.05, -0.05, -1.0]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 9999))
def test_the_tuned_or_is_the_or_of_single_thresholds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    negatives, scores = (rng.integers(0, 20, size=(n, 3)).astype(float) for n in (50, 30))
    levels = or_tuned(scores, negatives, (0.02, 0.1, 0.3))
    for target in (0.02, 0.1, 0.3):
        values = np.array([threshold_at(column, target).value for column in negatives.T])
        assert ((scores > values).any(axis=1) == (levels >= -target)).all()


@given(st.integers(0, 9999))
def test_counts_above_by_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    negatives, scores = (rng.integers(0, 9, size=(n, 2)).astype(float) for n in (20, 7))
    brute = [min(int((negatives[:, p] >= s[p]).sum()) for p in range(2)) for s in scores]
    assert counts_above(scores, negatives).tolist() == brute


PROBABILITIES = st.lists(st.floats(0, 1), min_size=1, max_size=8)


@given(PROBABILITIES)
def test_a_noisy_or_lies_between_the_highest_and_the_sum(values: list[float]) -> None:
    fused = noisy_or(np.array([values])).item()
    assert max(values) - 1e-12 <= fused <= min(1.0, sum(values)) + 1e-12


def test_fusions_by_hand_and_without_scores() -> None:
    rows = np.array([[0.5, 0.5, np.nan], [0.9, 0.1, np.nan], [np.nan, np.nan, np.nan]])
    assert noisy_or(rows) == pytest.approx([0.75, 0.91, np.nan], nan_ok=True)
    assert mean_log_odds(rows) == pytest.approx([0.0, 0.0, np.nan], nan_ok=True, abs=1e-12)
    assert max_raw(rows) == pytest.approx([0.5, 0.9, np.nan], nan_ok=True)


def test_a_stack_is_scikit_learns_on_log_odds_and_survives_json() -> None:
    rng = np.random.default_rng(5)
    odds = rng.normal(size=(400, 3))
    labels = rng.random(400) < expit(2 * odds[:, 0] - 1)
    stack = fit_stack(expit(odds), labels)
    oracle = LogisticRegression(tol=1e-10, max_iter=1000).fit(odds, labels)
    assert stack.apply(expit(odds)) == pytest.approx(oracle.decision_function(odds), abs=1e-5)
    assert stack.weight[0] > 5 * abs(stack.weight[1:]).max()
    again = stack_from_json(stack.to_json())
    assert (again.weight == stack.weight).all() and again.offset == stack.offset
    # A probe that is missing says nothing either way.
    assert stack.apply(np.array([[0.5, 0.5, 0.5], [np.nan, np.nan, np.nan]])) == pytest.approx(
        stack.offset
    )
    assert logit(0.5) == 0
    with pytest.raises(LabelError, match="too few"):
        fit_stack(expit(odds), np.arange(400) < 4)
    with pytest.raises(DataError, match="holds no stack"):
        stack_from_json("[]")
