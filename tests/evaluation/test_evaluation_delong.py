import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from mechprobe.errors import LabelError, ShapeError
from mechprobe.evaluation.bootstrap import bootstrap_aurocs
from mechprobe.evaluation.delong import delong_auroc, delong_difference, placements
from mechprobe.evaluation.metrics import auroc
from mechprobe.evaluation.units import Units
from tests.evaluation.planted_turns import clustered_units, with_scores


def direct_placements(units: Units) -> tuple[np.ndarray, np.ndarray]:
    """Every pair, one by one."""
    pos, neg = units.scores[units.is_positive], units.scores[~units.is_positive]
    wins = (pos[:, None] > neg) + (pos[:, None] == neg) / 2
    return wins.mean(1), wins.mean(0)


def direct_variance(of_pos: np.ndarray, of_neg: np.ndarray) -> float:
    """DeLong, DeLong & Clarke-Pearson 1988: the variances of the placements over their numbers."""
    return of_pos.var(ddof=1) / len(of_pos) + of_neg.var(ddof=1) / len(of_neg)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 1))
def test_midranks_give_the_placements_of_all_pairs(seed: int, decimals: int) -> None:
    units = clustered_units(np.random.default_rng(seed), 12)
    units = with_scores(units, np.round(units.scores, decimals))
    found, (of_pos, of_neg) = placements(units), direct_placements(units)
    np.testing.assert_allclose(found.of_positives, of_pos, atol=1e-12)
    np.testing.assert_allclose(found.of_negatives, of_neg, atol=1e-12)
    assert found.of_positives.mean() == pytest.approx(auroc(units.scores, units.is_positive))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 1))
def test_unclustered_errors_are_delongs(seed: int, decimals: int) -> None:
    rng = np.random.default_rng(seed)
    units = clustered_units(rng, 14)
    if not 2 <= units.is_positive.sum() <= len(units.scores) - 2:
        return
    other = with_scores(
        units, np.round(units.scores + rng.normal(size=len(units.scores)), decimals)
    )
    one, two = direct_placements(units), direct_placements(other)
    found = delong_auroc(units, clustered=False)
    assert found.standard_error**2 == pytest.approx(direct_variance(*one), abs=1e-12)
    difference = delong_difference(units, other, clustered=False)
    expected = direct_variance(one[0] - two[0], one[1] - two[1])
    assert difference.standard_error**2 == pytest.approx(expected, abs=1e-12)


# Two positives at 3 and 2, two negatives at 1 and 2.5: placements 1 and 1/2 on either side, AUROC 3/4.
SMALL = {
    "scores": np.array([3.0, 1.0, 2.0, 2.5]),
    "is_positive": np.array([True, False, True, False]),
}


def test_the_errors_of_four_units_are_those_worked_out_by_hand() -> None:
    # Each side has variance 1/8; 1/8 / 2 + 1/8 / 2.
    alone = delong_auroc(Units(**SMALL, clusters=np.arange(4)))
    assert alone.value == 0.75
    assert alone.standard_error**2 == pytest.approx(1 / 8)
    # In two transcripts, {3, 1} and {2, 2.5}, the sums are +-1/4 on both sides: the two sides add 1/16 each as
    # above, and twice the product, 2 * S11 / (2 * 2) with S11 = 2 * (1/16 + 1/16) = 1/4, adds 1/8.
    paired = delong_auroc(Units(**SMALL, clusters=np.array([0, 0, 1, 1])))
    assert paired.standard_error**2 == pytest.approx(1 / 4)
    # Each class in one transcript: the spread between transcripts cannot be known.
    parted = delong_auroc(Units(**SMALL, clusters=np.array([0, 1, 0, 1])))
    assert np.isnan([parted.standard_error, parted.low, parted.p_value]).all()


def test_interval_and_p_value_are_those_of_the_normal_distribution() -> None:
    found = delong_auroc(Units(**SMALL, clusters=np.arange(4)), level=0.9)
    error = np.sqrt(1 / 8)
    assert (found.low, found.high) == pytest.approx(norm.interval(0.9, 0.75, error))
    assert found.p_value == pytest.approx(2 * norm.sf(0.25 / error))


def test_one_unit_a_transcript_makes_both_variances_one() -> None:
    units = clustered_units(np.random.default_rng(0), 40)
    alone = Units(
        scores=units.scores, is_positive=units.is_positive, clusters=np.arange(len(units.scores))
    )
    assert delong_auroc(alone).standard_error == pytest.approx(
        delong_auroc(units, clustered=False).standard_error
    )


def test_copies_of_a_transcripts_turns_bring_no_certainty() -> None:
    units = clustered_units(np.random.default_rng(1), 40)
    tripled = Units(
        scores=np.tile(units.scores, 3),
        is_positive=np.tile(units.is_positive, 3),
        clusters=np.tile(units.clusters, 3),
    )
    assert delong_auroc(tripled).standard_error == pytest.approx(delong_auroc(units).standard_error)
    fooled = delong_auroc(tripled, clustered=False).standard_error
    assert fooled < 0.65 * delong_auroc(units, clustered=False).standard_error


def test_negated_scores_turn_the_auroc_over_and_keep_its_error() -> None:
    units = clustered_units(np.random.default_rng(2), 40)
    found, turned = delong_auroc(units), delong_auroc(with_scores(units, -units.scores))
    assert turned.value == pytest.approx(1 - found.value)
    assert turned.standard_error == pytest.approx(found.standard_error)
    assert turned.p_value == pytest.approx(found.p_value)


def test_the_clustered_error_is_the_bootstraps() -> None:
    units = clustered_units(np.random.default_rng(3), 150, whole=True)
    resampled = bootstrap_aurocs(units, n_boot=4000, seed=0).std()
    assert delong_auroc(units).standard_error == pytest.approx(resampled, rel=0.06)
    assert delong_auroc(units, clustered=False).standard_error < 0.8 * resampled


def test_the_clustered_error_of_a_difference_is_the_bootstraps() -> None:
    rng = np.random.default_rng(4)
    units = clustered_units(rng, 150)
    offset = rng.normal(size=150)[units.clusters]
    other = with_scores(units, units.scores + offset + rng.normal(size=len(units.scores)))
    apart = [bootstrap_aurocs(one, n_boot=4000, seed=0) for one in (units, other)]
    found = delong_difference(units, other)
    assert found.standard_error == pytest.approx((apart[0] - apart[1]).std(), rel=0.06)
    assert found.value == pytest.approx(
        auroc(units.scores, units.is_positive) - auroc(other.scores, other.is_positive)
    )


def test_intervals_cover_the_truth_as_often_as_they_say_only_if_transcripts_count() -> None:
    rng = np.random.default_rng(5)
    big = clustered_units(rng, 30_000, shared=1.5, whole=True)
    truth = auroc(big.scores, big.is_positive)
    covered = {True: 0, False: 0}
    for _ in range(400):
        units = clustered_units(rng, 60, shared=1.5, whole=True)
        for clustered in covered:
            found = delong_auroc(units, clustered=clustered)
            covered[clustered] += found.low <= truth <= found.high
    # 95 % of 400 within three standard deviations of such a count, which is 3.3 %.
    assert 0.917 <= covered[True] / 400 <= 0.983
    assert covered[False] / 400 < 0.85


def test_two_equally_good_scorers_differ_as_rarely_as_they_should() -> None:
    rng = np.random.default_rng(6)
    found = []
    for _ in range(400):
        units = clustered_units(rng, 50, gap=0.0)
        signal = units.is_positive.astype(float)
        noisy = [
            signal + rng.normal(size=50)[units.clusters] + rng.normal(size=len(signal))
            for _ in "ab"
        ]
        pair = [with_scores(units, scores) for scores in noisy]
        found.append(delong_difference(*pair).p_value)
    assert 0.02 <= np.mean(np.array(found) < 0.05) <= 0.085


def test_a_scorer_does_not_differ_from_itself_and_unpaired_units_are_refused() -> None:
    units = clustered_units(np.random.default_rng(7), 20)
    same = delong_difference(units, units)
    assert (same.value, same.standard_error, same.p_value) == (0.0, 0.0, 1.0)
    half = Units(
        scores=units.scores[1:], is_positive=units.is_positive[1:], clusters=units.clusters[1:]
    )
    with pytest.raises(ShapeError, match="a paired difference"):
        delong_difference(units, half)
    turned = Units(scores=units.scores, is_positive=~units.is_positive, clusters=units.clusters)
    with pytest.raises(LabelError, match="another label, transcript or fold"):
        delong_difference(units, turned)


def test_perfect_ranks_have_no_spread_and_no_p_value() -> None:
    units = Units(scores=np.arange(6.0), is_positive=np.arange(6) >= 3, clusters=np.arange(6))
    found = delong_auroc(units)
    assert (found.value, found.standard_error) == (1.0, 0.0)
    assert np.isnan(found.p_value)
