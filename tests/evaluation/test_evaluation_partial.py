import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import auc, roc_auc_score, roc_curve

from mechprobe.errors import ConfigError, LabelError
from mechprobe.evaluation.metrics import auroc
from mechprobe.evaluation.partial import partial_auroc

tied_cases = st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=40).filter(
    lambda cases: len({label for _, label in cases}) == 2
)


@given(tied_cases, st.sampled_from([0.01, 0.1, 0.25, 1 / 3, 0.5, 0.999]))
def test_standardised_area_is_scikit_learns(cases: list[tuple[int, bool]], max_fpr: float) -> None:
    scores = np.array([float(score) for score, _ in cases])
    labels = np.array([label for _, label in cases])
    found = partial_auroc(scores, labels, max_fpr)
    assert found.standardised == pytest.approx(
        roc_auc_score(labels, scores, max_fpr=max_fpr), abs=1e-12
    )
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    inside = fpr < max_fpr
    # Where the curve climbs at max_fpr itself, that adds no area.
    end = float(np.interp(max_fpr, fpr, tpr))
    clipped = auc(np.r_[fpr[inside], max_fpr], np.r_[tpr[inside], end])
    if max_fpr not in fpr:
        assert found.area == pytest.approx(clipped, abs=1e-12)


def test_the_area_of_a_small_case_is_that_of_its_drawing() -> None:
    # Ranked: + - + - ; the curve goes up to 1/2, right to 1/2, up to 1, right to 1.
    scores, labels = np.array([4.0, 3.0, 2.0, 1.0]), np.array([True, False, True, False])
    quarter, whole = partial_auroc(scores, labels, 0.25), partial_auroc(scores, labels, 1.0)
    assert quarter.area == 0.125
    # Between the diagonal's 1/32 and the perfect 1/4: 0.5 + 0.5 * (0.125 - 1/32) / (1/4 - 1/32).
    assert quarter.standardised == pytest.approx(0.5 + 0.5 * 3 / 7)
    assert whole.area == whole.standardised == auroc(scores, labels) == 0.75


def test_a_curve_that_climbs_at_the_bound_counts_what_lies_left_of_it() -> None:
    scores, labels = np.array([4.0, 3.0, 2.0, 1.0]), np.array([True, False, True, False])
    assert partial_auroc(scores, labels, 0.5).area == 0.25


def test_tied_scores_are_chance_at_every_bound() -> None:
    labels = np.arange(10) < 4
    for max_fpr in (0.01, 0.1, 1.0):
        found = partial_auroc(np.zeros(10), labels, max_fpr)
        assert found.standardised == pytest.approx(0.5)
        assert found.area == pytest.approx(max_fpr**2 / 2)


def test_bounds_and_labels_that_make_no_sense_are_refused() -> None:
    scores, labels = np.arange(4.0), np.array([True, False, True, False])
    for bound in (0.0, -0.1, 1.5):
        with pytest.raises(ConfigError, match=f"max_fpr is {bound}"):
            partial_auroc(scores, labels, bound)
    with pytest.raises(LabelError, match="4 of 4 units are positive"):
        partial_auroc(scores, np.ones(4, dtype=bool), 0.1)
