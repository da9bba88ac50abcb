from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from mechprobe.errors import LabelError
from mechprobe.evaluation import swapping
from mechprobe.evaluation.metrics import auroc
from mechprobe.evaluation.swapping import contributions, swap_p_value
from mechprobe.evaluation.units import Units
from tests.evaluation.planted_turns import clustered_units, with_scores


def swapped_differences(first: Units, second: Units) -> np.ndarray:
    """The difference after every set of swaps, each recomputed from the swapped ranks."""
    ranks = [rankdata(units.scores) for units in (first, second)]
    codes, cluster = np.unique(first.clusters, return_inverse=True)
    found = []
    for swaps in product([False, True], repeat=len(codes)):
        is_swapped = np.array(swaps)[cluster]
        one = np.where(is_swapped, ranks[1], ranks[0])
        other = np.where(is_swapped, ranks[0], ranks[1])
        found.append(auroc(one, first.is_positive) - auroc(other, first.is_positive))
    return np.array(found)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 7), st.integers(0, 1))
def test_signed_contributions_are_the_differences_of_swapped_scorers(
    seed: int, n_transcripts: int, decimals: int
) -> None:
    rng = np.random.default_rng(seed)
    units = clustered_units(rng, n_transcripts)
    if units.is_positive.all() or not units.is_positive.any():
        return
    other = with_scores(
        units, np.round(units.scores * rng.normal(size=len(units.scores)), decimals)
    )
    shares = contributions(units, other)
    signs = 1 - 2 * np.array(list(product([0, 1], repeat=len(shares))))
    direct = swapped_differences(units, other)
    np.testing.assert_allclose(signs @ shares, direct, atol=1e-12)
    exact = (np.abs(direct) >= abs(direct[0]) - 1e-12).mean()
    assert swap_p_value(units, other) == pytest.approx(exact)


def test_drawn_swaps_agree_with_all_swaps(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    units = clustered_units(rng, 12)
    other = with_scores(units, units.scores + 1.5 * rng.normal(size=len(units.scores)))
    exact = swap_p_value(units, other)
    monkeypatch.setattr(swapping, "_MOST_EXACT", 0)
    monkeypatch.setattr(swapping, "_BLOCK", 1000)
    drawn = swap_p_value(units, other, n_permutations=20_000)
    assert 0.05 < exact < 0.95
    assert drawn == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 20_000))


def test_a_real_difference_is_found_and_its_p_value_is_never_zero() -> None:
    rng = np.random.default_rng(1)
    units = clustered_units(rng, 80, gap=3.0)
    noise = with_scores(units, rng.normal(size=len(units.scores)))
    assert swap_p_value(units, noise, n_permutations=999) == 1 / 1000


def test_equally_good_scorers_are_called_different_as_rarely_as_they_should() -> None:
    rng = np.random.default_rng(2)
    found = []
    for _ in range(300):
        units = clustered_units(rng, 40)
        signal = units.is_positive.astype(float)
        noisy = [
            signal + rng.normal(size=40)[units.clusters] + rng.normal(size=len(signal))
            for _ in "ab"
        ]
        # One of the two on another scale: only ranks count.
        pair = with_scores(units, noisy[0]), with_scores(units, np.exp(noisy[1]))
        found.append(swap_p_value(*pair, n_permutations=400))
    assert 0.02 <= np.mean(np.array(found) <= 0.05) <= 0.09
    assert np.mean(found) == pytest.approx(0.5, abs=0.06)


def test_the_order_of_the_scorers_does_not_matter_and_equal_ones_do_not_differ() -> None:
    rng = np.random.default_rng(3)
    units = clustered_units(rng, 30)
    other = with_scores(units, units.scores + rng.normal(size=len(units.scores)))
    assert swap_p_value(units, other) == swap_p_value(other, units)
    assert swap_p_value(units, units) == 1.0
    assert swap_p_value(units, with_scores(units, np.exp(units.scores))) == 1.0


def test_units_without_a_class_are_refused() -> None:
    units = Units(scores=np.arange(3.0), is_positive=np.zeros(3, dtype=bool), clusters=np.arange(3))
    with pytest.raises(LabelError, match="0 of 3 units are positive"):
        swap_p_value(units, units)
