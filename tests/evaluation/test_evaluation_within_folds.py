"""Units of several folds: pairs count within a fold only, in the figure, its draws, its tests and its chance."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from mechprobe.evaluation.bootstrap import auroc_interval, bootstrap_aurocs, pair_auroc
from mechprobe.evaluation.delong import delong_auroc, delong_difference, placements
from mechprobe.evaluation.differences import difference_of
from mechprobe.evaluation.metrics import auroc
from mechprobe.evaluation.swapping import contributions, swap_p_value
from mechprobe.evaluation.units import (
    Turns,
    Units,
    joined,
    mixed_chance,
    mixed_units,
    transcript_units,
    turn_units,
)

BY_HAND = Units(
    scores=np.array([1.0, 0, 9, 8, 7, 5]),
    is_positive=np.array([True, False, True, False, False, False]),
    clusters=np.array([0, 1, 2, 3, 4, 5]),
    fold=np.array([0, 0, 1, 1, 1, 2]),
)
"""Fold 0: one pair, won; fold 1: two pairs, both won; fold 2 has no positive. Pooled, the 1 loses to 8, 7 and 5."""


def made(seed: int, *, n_folds: int = 3) -> Units:
    """Transcripts of one to four turns, each in one fold; folds differ in base rate and in the scale of the scores."""
    rng = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(30), rng.integers(1, 5, size=30))
    fold = clusters % n_folds
    is_positive = rng.random(len(clusters)) < 0.2 + 0.2 * fold
    scores = (is_positive + rng.normal(size=len(clusters))).round(1) * (1 + fold)
    return Units(scores=scores, is_positive=is_positive, clusters=clusters, fold=fold)


def moved(units: Units) -> Units:
    """Every fold on another scale of its own."""
    assert units.fold is not None
    return replace(
        units, scores=np.array([3.0, 0.5, 20.0])[units.fold] * units.scores - 100 * units.fold
    )


def test_pairs_are_counted_within_folds_by_hand() -> None:
    assert BY_HAND.n_pairs == 3 and pair_auroc(BY_HAND) == 1.0
    assert pair_auroc(replace(BY_HAND, fold=None)) == (1 + 4) / 8
    assert np.isnan(pair_auroc(replace(BY_HAND, fold=np.arange(6))))


def test_a_fold_s_scale_changes_nothing_where_pooled_it_changes_the_figure() -> None:
    units = made(0)
    other = replace(units, scores=np.random.default_rng(1).normal(size=len(units.scores)))
    assert pair_auroc(moved(units)) == pair_auroc(units)
    assert auroc_interval(moved(units), n_boot=50) == auroc_interval(units, n_boot=50)
    assert delong_auroc(moved(units)) == delong_auroc(units)
    assert difference_of(moved(units), other, n_boot=50) == difference_of(units, other, n_boot=50)
    pooled = [auroc(one.scores, one.is_positive) for one in (units, moved(units))]
    assert abs(pooled[0] - pooled[1]) > 0.05


def test_every_draw_is_the_figure_of_its_resample() -> None:
    units = made(2)
    rng = np.random.default_rng(0)
    drawn = rng.integers(30, size=(1000, 30))[:20]
    for which, value in zip(drawn, bootstrap_aurocs(units, n_boot=1000, seed=0), strict=False):
        rows = np.concatenate([np.flatnonzero(units.clusters == one) for one in which])
        assert units.fold is not None
        taken = Units(
            scores=units.scores[rows],
            is_positive=units.is_positive[rows],
            clusters=units.clusters[rows],
            fold=units.fold[rows],
        )
        assert value == pytest.approx(pair_auroc(taken), abs=1e-12)


def test_delong_s_error_is_near_the_bootstrap_s_and_its_value_the_figure() -> None:
    found = [
        (delong_auroc(units), bootstrap_aurocs(units, n_boot=500, seed=1), units)
        for units in map(made, range(5))
    ]
    for normal, draws, units in found:
        assert normal.value == pytest.approx(pair_auroc(units), abs=1e-12)
        assert normal.standard_error == pytest.approx(np.nanstd(draws), rel=0.25)
    one_fold = replace(made(3), fold=np.zeros(len(made(3).scores), dtype=np.int64))
    assert delong_auroc(one_fold) == delong_auroc(replace(one_fold, fold=None))
    weights = placements(made(4)).weights
    assert [one.mean() for one in weights] == pytest.approx([1.0, 1.0])


def test_swaps_within_folds_are_those_of_doing_them() -> None:
    rng = np.random.default_rng(5)
    clusters = np.repeat(np.arange(6), 4)
    first = Units(
        scores=rng.permutation(24).astype(float),
        is_positive=rng.random(24) < 0.5,
        clusters=clusters,
        fold=clusters % 2,
    )
    second = replace(first, scores=rng.permutation(24).astype(float))
    shares = contributions(first, second)
    # Ranks within a fold can be exchanged between scorers; scores cannot.
    ranks = [_ranks_within(one) for one in (first, second)]
    for signs in itertools.product([False, True], repeat=6):
        swapped = np.array(signs)[clusters]
        ours = replace(first, scores=np.where(swapped, ranks[1], ranks[0]))
        theirs = replace(first, scores=np.where(swapped, ranks[0], ranks[1]))
        expected = pair_auroc(ours) - pair_auroc(theirs)
        assert (shares * np.where(signs, -1, 1)).sum() == pytest.approx(expected, abs=1e-12)
    assert swap_p_value(first, first) == 1.0
    assert delong_difference(first, second).value == pytest.approx(shares.sum(), abs=1e-12)


def _ranks_within(units: Units) -> np.ndarray:
    ranks = np.zeros(len(units.scores))
    assert units.fold is not None
    for number in np.unique(units.fold):
        here = units.fold == number
        ranks[here] = units.scores[here].argsort().argsort()
    return ranks


def test_units_of_turns_keep_their_fold_and_the_mixture_s_chance_is_that_of_its_pairs() -> None:
    rng = np.random.default_rng(7)
    transcript = np.repeat(np.arange(12), 3)
    is_positive = (transcript % 2 == 0) & (np.arange(36) % 3 == 1)
    turns = Turns(
        transcript=transcript,
        is_positive=is_positive,
        in_positive=transcript % 2 == 0,
        fold=transcript // 4,
    )
    scores = rng.normal(size=36)
    assert turn_units(scores, turns).fold is turns.fold
    of_transcripts = transcript_units(scores, turns)
    assert (
        of_transcripts.fold is not None
        and of_transcripts.fold.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    )
    means = np.mean([pair_auroc(mixed_units(rng.normal(size=36), turns)) for _ in range(1500)])
    assert mixed_chance(turns) == pytest.approx(means, abs=0.01)
    parts = [mixed_units(scores[turns.fold == at], turns.of_fold(at)) for at in range(3)]  # type: ignore[operator]
    whole = mixed_units(scores, turns)
    assert joined(parts).chance == pytest.approx(whole.chance)
    assert pair_auroc(joined(parts)) == pytest.approx(pair_auroc(whole), abs=1e-12)
