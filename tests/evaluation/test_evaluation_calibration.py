"""The calibration error on probabilities whose truth is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mechprobe.errors import LabelError, ShapeError
from mechprobe.evaluation.turns.calibration_error import calibration_error


def test_the_error_by_hand_in_two_bins() -> None:
    stated = np.r_[np.full(10, 0.2), np.full(10, 0.8)]
    positive = np.r_[np.arange(10) < 4, np.arange(10) < 5]
    found = calibration_error(stated, positive, n_bins=2, n_boot=50)
    # Gaps .2 and .3; noise .4 * .6 / 9 and .5 * .5 / 9.
    assert found.ece == pytest.approx(0.25) and found.n_bins == 2
    assert found.rms_debiased == pytest.approx(
        (0.5 * (0.04 - 0.24 / 9) + 0.5 * (0.09 - 0.25 / 9)) ** 0.5
    )
    assert found.brier == pytest.approx(((stated - positive) ** 2).mean())
    assert found.brier_of_rate == pytest.approx(0.45 * 0.55)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 9999), st.integers(2, 12))
def test_the_error_is_that_of_a_loop_over_bins(seed: int, n_bins: int) -> None:
    rng = np.random.default_rng(seed)
    stated = rng.random(97)
    positive = rng.random(97) < stated**2
    order = np.argsort(stated)
    edges = np.quantile(stated, np.arange(1, n_bins) / n_bins, method="lower")
    bins = np.searchsorted(edges, stated[order])
    parts = [order[bins == number] for number in range(n_bins)]
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 2  # equal mass
    expected = sum(
        len(part) / 97 * abs(stated[part].mean() - positive[part].mean()) for part in parts
    )
    assert calibration_error(stated, positive, n_bins=n_bins, n_boot=2).ece == pytest.approx(
        expected
    )


def test_perfect_probabilities_show_the_error_that_chance_says() -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(200):
        stated = rng.beta(1, 4, size=300)
        found.append(calibration_error(stated, rng.random(300) < stated, n_boot=2))
    plain = np.array([one.ece for one in found])
    assert plain.mean() == pytest.approx(np.mean([one.ece_by_chance for one in found]), rel=0.05)
    # The squared error without its noise, cut off at 0, is far below the squared error with it.
    assert np.mean([one.rms_debiased**2 for one in found]) < (plain**2).mean() / 2


def test_the_interval_covers_a_true_error_as_often_as_it_says() -> None:
    # Probabilities that are .15 too high throughout have an error of .15, whatever the bins.
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        true = rng.uniform(0.1, 0.8, size=200)
        found = calibration_error(true + 0.15, rng.random(200) < true, n_bins=5, n_boot=300)
        covered += found.low <= 0.15 <= found.high
    assert covered / 200 > 0.88


def test_twins_widen_the_interval() -> None:
    rng = np.random.default_rng(1)
    stated = np.repeat(rng.random(60), 5)
    positive = np.repeat(rng.random(60) < 0.5, 5)
    clusters = np.repeat(np.arange(60), 5)
    alone = calibration_error(stated, positive)
    together = calibration_error(stated, positive, clusters)
    assert together.ece == alone.ece
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


def test_equal_probabilities_are_one_bin_and_bad_ones_are_refused() -> None:
    positive = np.arange(20) < 5
    found = calibration_error(np.full(20, 0.25), positive, n_boot=20)
    assert (found.n_bins, found.ece) == (1, 0.0)
    with pytest.raises(LabelError, match="not all between 0 and 1"):
        calibration_error(np.full(20, 1.5), positive)
    with pytest.raises(LabelError, match="not all between 0 and 1"):
        calibration_error(np.full(20, np.nan), positive)
    with pytest.raises(ShapeError, match="2 clusters for 20 units"):
        calibration_error(np.full(20, 0.5), positive, np.arange(2))
