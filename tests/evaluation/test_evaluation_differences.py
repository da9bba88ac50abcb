import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from mechprobe.evaluation.bootstrap import auroc_difference
from mechprobe.evaluation.delong import delong_difference
from mechprobe.evaluation.differences import difference_of, holm
from mechprobe.evaluation.swapping import swap_p_value
from tests.evaluation.planted_turns import clustered_units, with_scores


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holms_adjustment_is_that_of_statsmodels(p_values: list[float]) -> None:
    expected = multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx(expected.tolist())


def test_holm_by_hand_and_without_the_tests_that_were_not_made() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    adjusted = holm([0.01, float("nan"), 0.04, 0.03])
    assert np.isnan(adjusted[1])
    assert np.delete(adjusted, 1).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_a_difference_comes_with_all_that_is_said_about_it() -> None:
    rng = np.random.default_rng(0)
    units = clustered_units(rng, 60, gap=2.0)
    other = with_scores(units, units.scores + 2 * rng.normal(size=len(units.scores)))
    found = difference_of(units, other, n_boot=300, n_permutations=500, seed=1)
    interval = auroc_difference(units, other, n_boot=300, seed=1)
    assert (found.value, found.low, found.high) == (interval.value, interval.low, interval.high)
    assert found.value == pytest.approx(found.first - found.second)
    assert found.p_value == swap_p_value(units, other, n_permutations=500, seed=1)
    assert found.p_delong == delong_difference(units, other).p_value
    assert found.low > 0 and found.p_value < 0.01 and found.p_delong < 0.01
    assert found.n_clusters == 60
    turned = difference_of(other, units, n_boot=300, n_permutations=500, seed=1)
    assert (turned.value, turned.p_value) == (-found.value, found.p_value)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))
