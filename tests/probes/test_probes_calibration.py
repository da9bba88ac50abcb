"""Calibrations against scikit-learn, on planted truth, and through JSON."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.calibration import _sigmoid_calibration
from sklearn.isotonic import IsotonicRegression

from mechprobe.errors import DataError, LabelError
from mechprobe.probes.scoring.calibration import (
    Calibration,
    Isotonic,
    Platt,
    calibration_from_json,
    fit_isotonic,
    fit_platt,
)


def drawn(seed: int, n: int = 300, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and labels that are positive with probability expit(2 * score / scale - 1)."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=n)
    return scores * scale, rng.random(n) < expit(2 * scores - 1)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 9999), st.sampled_from([0.01, 1.0, 500.0]))
def test_platt_is_that_of_scikit_learn_at_any_scale(seed: int, scale: float) -> None:
    scores, labels = drawn(seed, scale=scale)
    ours = fit_platt(scores, labels)
    # scikit-learn stops early where the scale is bad: it gets standardised scores.
    slope, offset = _sigmoid_calibration(scores / scale, labels)
    oracle = expit(-(slope * scores / scale + offset))
    assert ours.apply(scores) == pytest.approx(oracle, abs=2e-4)


def test_platt_finds_the_planted_curve_and_stays_finite_where_classes_are_separated() -> None:
    found = fit_platt(*drawn(0, n=40_000))
    assert (found.slope, found.offset) == (pytest.approx(2, abs=0.06), pytest.approx(-1, abs=0.06))
    parted = fit_platt(np.r_[np.zeros(20), np.ones(10)], np.arange(30) >= 20)
    # The probabilities are Platt's targets themselves: 1 / 22 and 11 / 12.
    assert parted.apply(np.array([0.0, 1.0])) == pytest.approx([1 / 22, 11 / 12])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 9999))
def test_isotonic_is_that_of_scikit_learn_and_never_falls(seed: int) -> None:
    scores, labels = drawn(seed)
    ours = fit_isotonic(scores, labels)
    grid = np.linspace(-5, 5, 101)
    oracle = IsotonicRegression(out_of_bounds="clip").fit(scores, labels.astype(float))
    assert ours.apply(grid) == pytest.approx(oracle.predict(grid))
    assert (np.diff(ours.apply(grid)) >= 0).all()


@pytest.mark.parametrize("fit", [fit_platt, fit_isotonic])
def test_json_gives_the_same_numbers_to_the_last_bit(fit) -> None:
    scores, labels = drawn(7)
    found = fit(scores, labels)
    again = calibration_from_json(found.to_json())
    assert isinstance(again, Calibration) and again == found
    assert (again.apply(scores) == found.apply(scores)).all()
    assert np.isnan(again.apply(np.array([np.nan]))).all()


def test_what_cannot_be_calibrated_is_refused() -> None:
    labels = np.arange(20) < 5
    few = np.arange(20) < 4
    for fit in (fit_platt, fit_isotonic):
        with pytest.raises(LabelError, match="4 positive and 16 negative units are too few"):
            fit(np.arange(20.0), few)
        with pytest.raises(LabelError, match="20 positive and 0 negative"):
            fit(np.arange(20.0), np.ones(20, dtype=bool))
        with pytest.raises(LabelError, match="all 20 scores are 3"):
            fit(np.full(20, 3.0), labels)
        with pytest.raises(LabelError, match="no finite score"):
            fit(np.r_[np.nan, np.arange(19.0)], labels)
    with pytest.raises(DataError, match="holds no calibration"):
        calibration_from_json("{}")
    with pytest.raises(DataError, match="of kind 'spline'"):
        calibration_from_json('{"kind": "spline"}')


def test_a_curve_and_steps_by_hand() -> None:
    assert Platt(slope=1.0, offset=0.0).apply(np.array([0.0])).tolist() == [0.5]
    steps = Isotonic(scores=(0.0, 1.0), probabilities=(0.2, 0.6))
    assert steps.apply(np.array([-1.0, 0.5, 2.0])).tolist() == pytest.approx([0.2, 0.4, 0.6])
