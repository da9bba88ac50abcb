"""Baselines that mean nothing (random directions, dealt labels), and scores that other people gave."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from mechprobe.baselines.judges import judge_scores
from mechprobe.baselines.random_directions import (
    draw_directions,
    share_at_least,
    spread_of,
)
from mechprobe.baselines.shuffled import shuffle_labels, shuffle_often
from mechprobe.errors import ConfigError, ShapeError
from mechprobe.probes.estimators import auroc_by_column
from mechprobe.probes.kinds.directions import fit_random_direction
from mechprobe.probes.rows import LabelledRows
from mechprobe.probes.solving.logistic import fit_logistic
from mechprobe.transcripts.transcript import Message, Transcript, number_turns


def noisy_rows(
    n: int = 60, width: int = 5, *, n_indicators: int = 2, seed: int = 0
) -> LabelledRows:
    rng = np.random.default_rng(seed)
    labels = rng.choice([-1, 0, 1], size=(n, n_indicators)).astype(np.int8)
    X = rng.normal(size=(n, width)).astype(np.float32)
    names = tuple("abcdefgh"[:n_indicators])
    return LabelledRows(X=X, labels=labels, indicators=names)


def test_draws_are_the_probes_that_the_estimator_makes_one_by_one() -> None:
    rows = noisy_rows()
    found = draw_directions(rows, 4, seed=7)
    for draw in range(4):
        expected = fit_random_direction(rows, seed=7 + draw)[0]
        scores = found.score(rows.X)[:, draw]
        for at, (ours, theirs) in enumerate(zip(found.probes(draw), expected, strict=True)):
            np.testing.assert_allclose(ours.weight, theirs.weight, rtol=1e-6)
            np.testing.assert_allclose(scores[:, at], theirs.score(rows.X), atol=1e-5)


def test_one_signed_draw_in_one_dimension_finds_everything_and_many_say_so() -> None:
    """Where the rows have one dimension, that tells the classes apart, a signed draw has AUROC 1 by luck of the toy."""
    labels = np.array([[1], [1], [0], [0]], dtype=np.int8)
    toy = LabelledRows(X=np.array([[3.0], [2.0], [1.0], [0.0]]), labels=labels, indicators=("a",))
    scores = draw_directions(toy, 20).score(toy.X)[:, :, 0]
    found = spread_of(auroc_by_column(scores, labels[:, 0] == 1))
    assert (found.mean, found.std) == (1.0, 0.0)


def test_draws_on_new_rows_without_signal_centre_on_one_half_with_the_spread_of_their_size() -> (
    None
):
    rows, new = noisy_rows(200, 64, n_indicators=1), noisy_rows(400, 64, n_indicators=1, seed=1)
    scores = draw_directions(rows, 300).score(new.X)[:, :, 0]
    used = new.labels[:, 0] >= 0
    aurocs = auroc_by_column(scores[used], new.labels[used, 0] == 1)
    found = spread_of(aurocs)
    n_pos, n_neg = int(new.n_pos[0]), int(new.n_neg[0])
    # Mann-Whitney's variance under the null hypothesis.
    wanted = np.sqrt((n_pos + n_neg + 1) / (12 * n_pos * n_neg))
    assert found.std == pytest.approx(wanted, rel=0.25)
    assert abs(found.mean - 0.5) < 4 * wanted
    assert found.standard_error == pytest.approx(found.std / np.sqrt(300))


def test_spread_and_share_are_those_computed_by_hand() -> None:
    found = spread_of(np.array([0.2, 0.4, 0.6, 0.8]))
    assert found.mean == pytest.approx(0.5)
    assert found.std == pytest.approx(np.sqrt(0.2 / 3))
    assert (found.low, found.high) == pytest.approx((0.215, 0.785))
    assert share_at_least(np.array([0.2, 0.4, 0.6, 0.8]), 0.6) == pytest.approx(3 / 5)
    assert share_at_least(np.array([0.2, 0.4]), 0.9) == pytest.approx(1 / 3)
    normal = norm.ppf((np.arange(2000) + 0.5) / 2000)
    wide = spread_of(normal)
    assert (wide.low, wide.high) == pytest.approx((-1.96, 1.96), abs=0.01)


def test_no_draw_one_draw_and_other_widths_are_refused() -> None:
    rows = noisy_rows()
    with pytest.raises(ConfigError, match="n_draws is 0"):
        draw_directions(rows, 0)
    with pytest.raises(ConfigError, match="1 draws have no spread"):
        spread_of(np.array([0.5]))
    with pytest.raises(ShapeError, match="width 5, got 4"):
        draw_directions(rows, 2).score(rows.X[:, :4])


def test_many_shuffles_beside_each_other_fit_the_probes_of_single_shuffles() -> None:
    rows = noisy_rows(200)
    often = shuffle_often(rows, 3, seed=5)
    together = fit_logistic(often, [1.0])[0]
    for draw in range(3):
        alone = fit_logistic(shuffle_labels(rows, 5 + draw), [1.0])[0]
        for ours, theirs in zip(together[2 * draw : 2 * draw + 2], alone, strict=True):
            np.testing.assert_allclose(ours.weight, theirs.weight, atol=2e-3)


def test_shuffled_labels_keep_their_counts_and_the_rows_left_out() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice([-1, 0, 1], size=(50, 2)).astype(np.int8)
    rows = LabelledRows(
        X=rng.normal(size=(50, 3)).astype(np.float32), labels=labels, indicators=("a", "b")
    )
    shuffled = shuffle_labels(rows, seed=1)
    assert (shuffled.n_pos == rows.n_pos).all()
    assert ((shuffled.labels == -1) == (labels == -1)).all()
    assert not np.array_equal(shuffled.labels, labels)
    assert np.array_equal(shuffle_labels(rows, seed=1).labels, shuffled.labels)


def test_judges_scores_are_lined_up_with_the_turns() -> None:
    talk = [Message(role=role) for role in ("user", "assistant", "user", "assistant")]
    transcript = Transcript(
        id="a", messages=number_turns(talk), scores={"haiku": {1: 7.0}, "qwen": {2: 3.0}}
    )
    turns = pd.DataFrame({"conversation": [0, 0], "turn": [1, 2]})
    found = judge_scores([transcript], turns)
    np.testing.assert_equal(
        found, {"haiku": np.array([7.0, np.nan]), "qwen": np.array([np.nan, 3.0])}
    )
