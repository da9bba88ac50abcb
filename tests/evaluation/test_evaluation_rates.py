import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mechprobe.evaluation import rates
from mechprobe.evaluation.bootstrap import cluster_draws
from mechprobe.evaluation.metrics import tpr_at_fpr
from mechprobe.evaluation.rates import mixed_tpr_chance, resampled_tprs, tpr_intervals
from mechprobe.evaluation.units import Turns, Units, mixed_units
from tests.evaluation.planted_turns import clustered_units, planted_turns, with_scores


def naive_rates(units: Units, counts: np.ndarray, target: float) -> list[float]:
    """The rate of every resample, recomputed from its units."""
    found = []
    for draw in counts:
        taken = np.repeat(np.arange(len(units.scores)), draw.astype(int)[units.clusters])
        labels = units.is_positive[taken]
        one_class = labels.all() or not labels.any()
        found.append(np.nan if one_class else tpr_at_fpr(units.scores[taken], labels, target).tpr)
    return found


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(2, 12),
    st.integers(0, 1),
)
def test_all_draws_together_give_the_naive_loops_rates(
    seed: int, n_transcripts: int, decimals: int
) -> None:
    units = clustered_units(np.random.default_rng(seed), n_transcripts)
    if units.is_positive.all() or not units.is_positive.any():
        return
    units = with_scores(units, np.round(units.scores, decimals))
    draws = cluster_draws(n_transcripts, 20, seed)
    targets = (0.01, 0.1, 1 / 3, 0.5, 1.0)
    for found, target in zip(
        resampled_tprs(units, units.clusters, draws, targets), targets, strict=True
    ):
        np.testing.assert_allclose(found, naive_rates(units, draws, target), atol=1e-12)


def test_blocks_of_draws_do_not_change_the_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    units = clustered_units(np.random.default_rng(0), 30)
    draws = cluster_draws(30, 50, 1)
    whole = resampled_tprs(units, units.clusters, draws, [0.1])
    monkeypatch.setattr(rates, "_BLOCK", 100)
    assert np.array_equal(
        resampled_tprs(units, units.clusters, draws, [0.1]), whole, equal_nan=True
    )


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    big = clustered_units(rng, 30_000, gap=2.0)
    truth = tpr_at_fpr(big.scores, big.is_positive, 0.1).tpr
    covered = []
    for seed in range(150):
        units = clustered_units(rng, 80, gap=2.0)
        found = tpr_intervals(units, [0.1], n_boot=200, seed=seed)[0]
        covered.append(found.low <= truth <= found.high)
    assert np.mean(covered) >= 0.89


def test_a_perfect_rate_is_not_called_certain() -> None:
    units = Units(
        scores=np.r_[np.ones(20), np.zeros(20)],
        is_positive=np.arange(40) < 20,
        clusters=np.arange(40),
    )
    found = tpr_intervals(units, [0.1])[0]
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.025 ** (1 / 20))


def test_scores_that_know_nothing_find_the_share_of_transcripts_that_is_named() -> None:
    rng = np.random.default_rng(2)
    turns, _ = planted_turns(rng, 120)
    drawn = []
    for _ in range(300):
        units = mixed_units(rng.normal(size=len(turns.transcript)), turns)
        drawn.append(tpr_at_fpr(units.scores, units.is_positive, 0.1).tpr)
    chance = mixed_tpr_chance(turns, 0.1)
    assert chance > 0.25
    assert np.mean(drawn) == pytest.approx(chance, abs=0.02)


def test_the_chance_of_a_small_case_is_worked_out_by_hand() -> None:
    turns = Turns(
        transcript=np.array([0, 1, 1, 2]),
        is_positive=np.array([True, True, False, False]),
        in_positive=np.array([True, True, True, False]),
    )
    # One turn fires with 1/10, of two at least one with 1 - 81/100.
    assert mixed_tpr_chance(turns, 0.1) == pytest.approx((0.1 + 0.19) / 2)
    nothing = Turns(
        transcript=np.zeros(1, dtype=np.int64),
        is_positive=np.array([False]),
        in_positive=np.array([False]),
    )
    assert np.isnan(mixed_tpr_chance(nothing, 0.1))
