"""The figures by hand, against brute force, and what they are read as."""

import numpy as np
import pytest

from mechprobe.evaluation.bootstrap import bootstrap_aurocs
from mechprobe.evaluation.metrics import auroc
from mechprobe.falsifiers.config import FAILS, SURVIVES, UNCLEAR
from mechprobe.falsifiers.figures import (
    NOTHING,
    Estimate,
    Resampling,
    cohens_d,
    kept_share,
    read_large,
    read_small,
)
from mechprobe.falsifiers.paraphrasing import rank_correlation


def fixed(value: float, spread: float = 0.0) -> Estimate:
    return Estimate(value=value, draws=value + spread * np.linspace(-1, 1, 101))


def resampling(ids: list[str]) -> Resampling:
    return Resampling.of(ids, n_boot=200, seed=3)


def test_the_share_is_how_far_the_altered_text_goes_towards_the_positives():
    ids = ["a", "b", "c"]
    draws = resampling(ids)
    base = draws.mean(np.array([0.0, 2.0]), ["a", "b"])
    positive = draws.mean(np.array([4.0, 6.0]), ["b", "c"])
    altered = draws.mean(np.array([2.0]), ["c"])
    assert draws.share(altered, base, positive).value == pytest.approx((2 - 1) / (5 - 1))
    assert draws.share(base, base, positive).value == 0
    assert draws.share(positive, base, positive).value == 1


def test_a_share_of_no_gap_is_nan_and_not_infinite():
    found = fixed(1.0).over(fixed(0.0))
    assert np.isnan(found.value) and np.isnan(found.draws).all()
    half = Estimate(value=1.0, draws=np.array([2.0, 3.0])).over(
        Estimate(value=2.0, draws=np.array([0.0, 6.0]))
    )
    assert np.isnan(half.draws[0]) and half.draws[1] == 0.5 and half.bounds == (0.5, 0.5)


def test_means_are_resampled_by_whole_transcripts():
    values, ids = np.array([1.0, 3.0, 10.0]), ["a", "a", "b"]
    draws = resampling(ids)
    found = draws.mean(values, ids)
    counts = draws.counts
    wanted = (counts[:, 0] * 4 + counts[:, 1] * 10) / (counts[:, 0] * 2 + counts[:, 1])
    assert np.allclose(found.draws, wanted)
    assert found.bounds == (
        2.0,
        10.0,
    )  # only one of the two transcripts, in a quarter of the draws each


def test_aurocs_are_those_of_the_evaluation_on_the_same_draws():
    rng = np.random.default_rng(0)
    ids = [f"t{i // 3:02d}" for i in range(60)]
    scores = rng.normal(size=60).round(1)
    draws = resampling(ids)
    found = draws.auroc(scores[:25], ids[:25], scores[25:], ids[25:])
    units = draws.units(scores[:25], ids[:25], scores[25:], ids[25:])
    assert found.value == auroc(units.scores, units.is_positive)
    assert np.allclose(found.draws, bootstrap_aurocs(units, n_boot=200, seed=3))


def test_the_stratified_auroc_counts_only_pairs_of_one_stratum():
    rng = np.random.default_rng(1)
    ids = [f"t{i // 4:02d}" for i in range(80)]
    scores = rng.normal(size=80).round(1)
    strata = rng.integers(4, size=80)
    strata[:30][strata[:30] == 3] = 2  # no positive in the last stratum
    draws = resampling(ids)
    found = draws.stratified_auroc(
        scores[:30], ids[:30], strata[:30], scores[30:], ids[30:], strata[30:]
    )

    def brute(weights: np.ndarray) -> float:
        wins = pairs = 0.0
        for i in range(30):
            for j in range(30, 80):
                if strata[i] == strata[j]:
                    weight = weights[i] * weights[j]
                    wins += weight * (
                        0.5 * (scores[i] >= scores[j]) + 0.5 * (scores[i] > scores[j])
                    )
                    pairs += weight
        return wins / pairs

    assert found.value == pytest.approx(brute(np.ones(80)))
    codes = draws.codes(ids)
    for draw in (0, 7, 19):
        assert found.draws[draw] == pytest.approx(brute(draws.counts[draw][codes]))


def test_a_count_of_keywords_is_worth_nothing_among_equal_counts():
    ids = [str(i) for i in range(40)]
    counts = np.arange(40) % 3
    found = resampling(ids).stratified_auroc(
        counts[:20].astype(float),
        ids[:20],
        counts[:20],
        counts[20:].astype(float),
        ids[20:],
        counts[20:],
    )
    assert found.value == 0.5 and found.bounds == (0.5, 0.5)
    apart = resampling(ids).stratified_auroc(
        np.ones(2), ids[:2], np.ones(2, int), np.zeros(2), ids[2:4], np.zeros(2, int)
    )
    assert np.isnan(apart.value)


def test_the_kept_share_is_measured_from_one_half():
    assert kept_share(fixed(0.75), fixed(1.0)).value == pytest.approx(0.5)
    assert kept_share(fixed(0.5), fixed(0.9)).value == pytest.approx(0.0)
    assert kept_share(fixed(0.9), fixed(0.9)).value == pytest.approx(1.0)


def test_cohens_d_by_hand():
    # Means 3 and 1, variances 4 and 1, sizes 3 and 3: pooled variance 2.5.
    assert cohens_d(np.array([1.0, 3, 5]), np.array([0.0, 1, 2])) == pytest.approx(2 / np.sqrt(2.5))
    assert np.isnan(cohens_d(np.ones(3), np.zeros(3))) and np.isnan(
        cohens_d(np.ones(1), np.ones(3))
    )


def test_rank_correlation_is_spearmans_with_ties():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    first, second = rng.normal(size=50).round(0), rng.normal(size=50).round(0)
    assert rank_correlation(first, second) == pytest.approx(spearmanr(first, second).statistic)
    assert np.isnan(rank_correlation(first, np.ones(50)))


@pytest.mark.parametrize(
    ("figure", "control", "wanted"),
    [
        (fixed(0.1, 0.2), fixed(0.0), SURVIVES),
        (fixed(0.9, 0.2), fixed(0.0), FAILS),
        (fixed(0.6, 0.2), fixed(0.0), UNCLEAR),
        (fixed(0.9, 0.2), fixed(0.9), UNCLEAR),
        (fixed(0.9, 0.2), NOTHING, FAILS),
        (NOTHING, NOTHING, UNCLEAR),
    ],
)
def test_a_figure_that_must_be_small_fails_only_surely_and_above_its_control(
    figure, control, wanted
):
    assert read_small(figure, control, 0.5) == wanted


@pytest.mark.parametrize(
    ("figure", "control", "wanted"),
    [
        (fixed(0.9, 0.2), fixed(1.0), SURVIVES),
        (fixed(0.1, 0.2), fixed(1.0), FAILS),
        (fixed(0.4, 0.2), fixed(1.0), UNCLEAR),
        (fixed(0.1, 0.2), fixed(0.1), UNCLEAR),
        (fixed(0.1, 0.2), NOTHING, FAILS),
    ],
)
def test_a_figure_that_must_be_large_fails_only_surely_and_below_its_control(
    figure, control, wanted
):
    assert read_large(figure, control, 0.5) == wanted
