"""Attention, and unit scores from row scores, against plain loops; monitors row by row against whole units."""

import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from mechprobe.errors import ConfigError, ShapeError
from mechprobe.probes.kinds.attention import AttentionProbe, fit_attention
from mechprobe.probes.kinds.running import (
    Rule,
    RunningProbe,
    highest_rolling_mean,
    row_scores,
    running_average,
)
from mechprobe.probes.kinds.sequence_estimators import (
    SEQUENCE_ESTIMATORS,
    find_sequence_estimator,
    fit_units_selected,
)
from mechprobe.probes.kinds.sequences import HeldOutUnits, LabelledUnits, SequenceProbe
from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.solving.logistic import fit_logistic
from tests.probes.planted import held_out_units, planted_units

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=6)


def units_of(lengths: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores and starts of units of these lengths."""
    scores = np.random.default_rng(seed).normal(size=sum(lengths)).astype(np.float32)
    return scores, np.cumsum(lengths) - np.array(lengths)


def identity(width: int = 1) -> LinearProbe:
    """A probe whose score is the first column."""
    weight = np.zeros(width, dtype=np.float32)
    weight[0] = 1
    return LinearProbe(kind="first", weight=weight, bias=0.0)


def attention_by_loops(probe: AttentionProbe, X: np.ndarray, starts: np.ndarray) -> list[float]:
    """The definition, row by row."""
    found: list[float] = []
    for first, stop in zip(starts, [*starts[1:], len(X)], strict=True):
        above = below = 0.0
        for row in X[first:stop].astype(float):
            weight = math.exp(sum(x * q for x, q in zip(row, probe.query, strict=True)))
            value = sum(x * v for x, v in zip(row, probe.value, strict=True)) + probe.bias
            above, below = above + weight * value, below + weight
        found.append(above / below)
    return found


@given(LENGTHS)
def test_attention_is_a_softmax_weighted_mean_within_each_unit(lengths: list[int]) -> None:
    rng = np.random.default_rng(1)
    query, value = rng.normal(size=(2, 3)).astype(np.float32)
    probe = AttentionProbe(query=query, value=value, bias=-0.5, settings={})
    X = rng.normal(size=(sum(lengths), 3)).astype(np.float32)
    starts = units_of(lengths)[1]
    expected = attention_by_loops(probe, X, starts)
    np.testing.assert_allclose(probe.score_units(X, starts), expected, rtol=1e-4, atol=1e-5)
    sums = np.add.reduceat(probe.attention(X, starts), starts)
    np.testing.assert_allclose(sums, 1, atol=1e-6)


def test_the_first_step_of_attention_is_adams_on_the_loss_of_unit_means() -> None:
    units = planted_units(0)
    [[probe, *_]] = fit_attention(units, (1.0,))
    X = np.asarray(units.X, dtype=np.float64)
    mean, std = X.mean(axis=0), X.std(axis=0)
    used = units.labels[:, 0] >= 0
    lengths = units.lengths[:, None]
    Z = np.add.reduceat((X - mean) / std, units.starts) / lengths
    # At zero every unit scores 0.5; Adam's first step goes against the sign of the gradient.
    gradient = ((0.5 - (units.labels[used, 0] == 1))[:, None] * Z[used]).mean(axis=0)
    expected = -np.sign(gradient) * 0.2 / np.sqrt(12) / std
    np.testing.assert_allclose(probe.value, expected, rtol=1e-3)
    assert not probe.query.any()


def test_the_loss_of_attention_falls_to_where_its_gradient_is_small() -> None:
    """After the descent the penalised loss, written out anew in float64, is flat."""
    units = planted_units(0, n=40)
    [[probe, *_]] = fit_attention(units, (300.0,), l2_strength=10.0)
    X = torch.from_numpy(np.asarray(units.X, dtype=np.float64))
    mean, std = X.mean(dim=0), X.std(dim=0, correction=0)
    query = (torch.from_numpy(probe.query).double() * std).requires_grad_()
    value = (torch.from_numpy(probe.value).double() * std).requires_grad_()
    bias = torch.tensor(probe.bias + float((torch.from_numpy(probe.value) * mean).sum()))
    bias.requires_grad_()
    Z = (X - mean) / std
    logits = torch.stack(
        [
            torch.softmax(part @ query, dim=0) @ (part @ value) + bias
            for part in torch.split(Z, units.lengths.tolist())
        ]
    )
    used = torch.from_numpy(units.labels[:, 0] >= 0)
    target = torch.from_numpy((units.labels[:, 0] == 1).astype(float))
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits[used], target[used])
    loss = loss + 10.0 / 2 / used.sum() * (query.square().sum() + value.square().sum())
    loss.backward()
    for part in (query, value, bias):
        assert part.grad is not None and float(part.grad.abs().max()) < 1e-4
    assert np.linalg.norm(probe.query) > 0.1 and np.linalg.norm(probe.value) > 0.1


def test_attention_looks_at_the_rows_that_hold_the_indicator() -> None:
    units, test = planted_units(0), planted_units(1)
    for at, probe in enumerate(fit_attention(units, (200.0,))[0]):
        weight = probe.attention(test.X, test.starts) * np.repeat(test.lengths, test.lengths)
        positive = np.repeat(test.labels[:, at] == 1, test.lengths)
        raised = np.asarray(test.X)[:, at] > 2.5
        assert weight[positive & raised].mean() > 2 * weight[positive & ~raised].mean()
        # Rows alone carry a meaning too: their own log-odds.
        assert roc_auc_score(raised[positive], probe.score(test.X)[positive]) > 0.95


def test_balanced_attention_lifts_a_rare_class() -> None:
    units = planted_units(0)
    keep = np.cumsum(units.labels[:, 0] == 1) <= 6
    labels = np.where((units.labels == 1) & ~keep[:, None], -1, units.labels).astype(np.int8)
    rare = LabelledUnits(X=units.X, starts=units.starts, labels=labels, indicators=units.indicators)
    plain, balanced = (
        fit_attention(rare, (50.0,), class_weight=weight)[0][0] for weight in (None, "balanced")
    )
    means = [p.score_units(units.X, units.starts).mean() for p in (plain, balanced)]
    assert means[1] > means[0] + 0.5


# Unit scores from row scores.


@given(LENGTHS, st.integers(1, 12))
def test_the_highest_rolling_mean_is_that_of_a_plain_loop(lengths: list[int], window: int) -> None:
    scores, starts = units_of(lengths)
    expected: list[float] = []
    for first, length in zip(starts, lengths, strict=True):
        unit = scores[first : first + length].astype(float)
        size = min(window, length)
        expected.append(max(unit[at : at + size].mean() for at in range(length - size + 1)))
    found = highest_rolling_mean(scores, starts, window)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@given(LENGTHS, st.floats(0.3, 50))
def test_the_running_average_is_that_of_a_plain_loop(lengths: list[int], half_life: float) -> None:
    scores, starts = units_of(lengths)
    found = running_average(scores, starts, half_life)
    for first, length in zip(starts, lengths, strict=True):
        average = float(scores[first])
        for at in range(first, first + length):
            average += (1 - 0.5 ** (1 / half_life)) * (float(scores[at]) - average)
            assert found[at] == pytest.approx(average, abs=1e-9)


def test_a_score_counts_half_after_a_half_life() -> None:
    scores = np.zeros(9, dtype=np.float32)
    scores[0] = 1.0
    assert running_average(scores, np.array([0]), 4.0)[[4, 8]] == pytest.approx([0.5, 0.25])


@given(LENGTHS, st.floats(0.05, 20))
def test_the_softmax_rule_is_attention_with_the_scores_for_its_query(
    lengths: list[int], temperature: float
) -> None:
    scores, starts = units_of(lengths)
    X = scores[:, None]
    one = np.ones(1, dtype=np.float32)
    attention = AttentionProbe(
        query=(one / temperature).astype(np.float32), value=one, bias=0.0, settings={}
    )
    rule = RunningProbe(probe=identity(), rule="softmax", amount=temperature)
    np.testing.assert_allclose(
        rule.score_units(X, starts), attention.score_units(X, starts), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("rule", ["softmax", "rolling_max", "ema"])
def test_the_rules_reach_from_the_mean_to_the_maximum(rule: Rule) -> None:
    scores, starts = units_of([6, 1, 9])
    X = scores[:, None]
    highest = np.maximum.reduceat(scores, starts)
    sharp = {"softmax": 1e-3, "rolling_max": 1.0, "ema": 1e-3}[rule]
    found = RunningProbe(probe=identity(), rule=rule, amount=sharp).score_units(X, starts)
    np.testing.assert_allclose(found, highest, atol=1e-4)
    if rule != "ema":
        mean = np.add.reduceat(scores, starts) / [6, 1, 9]
        blunt = RunningProbe(probe=identity(), rule=rule, amount=1e4).score_units(X, starts)
        np.testing.assert_allclose(blunt, mean, atol=1e-3)


@pytest.mark.parametrize("width", [3, 64, 501])
def test_a_monitor_ends_at_the_same_bits_as_the_whole_unit(width: int) -> None:
    rng = np.random.default_rng(width)
    lengths = np.array([1, 40, 7, 133])
    starts = np.cumsum(lengths) - lengths
    X = rng.normal(size=(lengths.sum(), width)).astype(np.float32)
    weight = rng.normal(size=width).astype(np.float32)
    token = LinearProbe(kind="logistic", weight=weight, bias=0.3)
    probe = RunningProbe(probe=token, rule="ema", amount=5.0)
    whole = probe.score_units(X, starts)
    for at, (first, length) in enumerate(zip(starts, lengths, strict=True)):
        stream = probe.stream()
        seen = [stream.push(row) for row in X[first : first + length]]
        assert np.float32(seen[-1]) == whole[at]
        assert (np.diff(seen) >= 0).all()
        # What a monitor has said so far is what the unit would score if it ended here.
        middle = length // 2
        part = probe.score_units(X[first : first + middle + 1], np.array([0]))
        assert np.float32(seen[middle]) == part[0]


def test_row_scores_do_not_depend_on_the_other_rows() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 37)).astype(np.float32)
    probe = LinearProbe(kind="x", weight=rng.normal(size=37).astype(np.float32), bias=0.1)
    together = row_scores(probe, X)
    alone = np.concatenate([row_scores(probe, X[at : at + 1]) for at in range(50)])
    assert np.array_equal(together, alone)
    np.testing.assert_allclose(together, probe.score(X), rtol=1e-4, atol=1e-4)


def test_only_the_running_average_can_be_followed() -> None:
    with pytest.raises(ConfigError, match="'softmax' cannot be followed row by row"):
        RunningProbe(probe=identity(), rule="softmax", amount=1.0).stream()
    stream = RunningProbe(probe=identity(2), rule="ema", amount=1.0).stream()
    with pytest.raises(ShapeError, match="reads rows of width 2, got 3"):
        stream.push(np.zeros(3, dtype=np.float32))


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"window is 2.5"):
        RunningProbe(probe=identity(), rule="rolling_max", amount=2.5)
    with pytest.raises(ConfigError, match="half_life is 0"):
        RunningProbe(probe=identity(), rule="ema", amount=0.0)
    with pytest.raises(ConfigError, match="unknown estimator of units 'dense_lstm'"):
        find_sequence_estimator("dense_lstm")
    with pytest.raises(ShapeError, match="reads dense activations"):
        fit_attention(planted_units(0, sparse=True))
    units = planted_units(0)
    with pytest.raises(ShapeError, match="labels need one row a unit"):
        LabelledUnits(X=units.X, starts=units.starts, labels=units.labels, indicators=("a", "b"))
    for starts in ([1, 2], [0, 0], [0, 5, 3], [0, 10**6], []):
        with pytest.raises(ShapeError, match="do not divide"):
            LabelledUnits(
                X=units.X,
                starts=np.array(starts, dtype=np.int64),
                labels=units.labels[: len(starts)],
                indicators=units.indicators,
            )


# Registry and choice.


def test_rules_stand_on_a_logistic_probe_of_rows_that_carry_their_units_label() -> None:
    units = planted_units(0)
    [probes] = SEQUENCE_ESTIMATORS["dense_ema"].fit(units, (4.0,), seed=0)
    of_rows = fit_logistic(units.rows, (10.0,))[0]
    for probe, expected in zip(probes, of_rows, strict=True):
        assert isinstance(probe, RunningProbe) and isinstance(probe, SequenceProbe)
        np.testing.assert_allclose(
            probe.score(units.X), expected.score(units.X), rtol=1e-3, atol=1e-3
        )
        assert probe.settings == {"half_life": 4.0, "l2_strength": 10.0}


def test_the_window_is_chosen_on_select_units_and_the_middle_one_where_they_cannot_judge() -> None:
    units, estimator = planted_units(0), SEQUENCE_ESTIMATORS["dense_rolling_max"]
    chosen = fit_units_selected(estimator, units, held_out_units(planted_units(1)))
    # Four neighbouring rows are raised, in units of 4 to 24.
    assert all(probe.settings["window"] in (4.0, 8.0) for probe in chosen)
    silent = HeldOutUnits(X=units.X, starts=units.starts, labels=np.zeros_like(units.labels))
    for select in (None, silent):
        for probe in fit_units_selected(estimator, units, select):
            assert probe.settings["window"] == 8.0


def test_units_of_sparse_features_score_as_dense_ones() -> None:
    units = planted_units(0, sparse=True)
    assert sp.issparse(units.X)
    for probe in fit_units_selected(SEQUENCE_ESTIMATORS["sae_softmax"], units, None):
        np.testing.assert_allclose(
            probe.score_units(units.X, units.starts),
            probe.score_units(units.X.toarray(), units.starts),
            atol=1e-4,
        )
