"""A probe's score is its parts, whatever the SAE; a part minus its mean is the linear SHAP value."""

import numpy as np
import pytest
import torch

from mechprobe.causal.attribution.contributions import split_acts
from mechprobe.causal.attribution.probe_scores import (
    attribute_score,
    probe_on_features,
    shap_gap,
)
from mechprobe.errors import CheckpointError, ShapeError
from mechprobe.probes.linear import LinearProbe
from tests.causal.attribution.made import HOOK, WIDTH, made_runs, random_sae

ACTS = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(1))
PROBE = LinearProbe(
    kind="logistic",
    weight=np.random.default_rng(2).standard_normal(WIDTH).astype(np.float32),
    bias=0.7,
)


def test_the_parts_add_up_to_the_score() -> None:
    parts = attribute_score(PROBE, random_sae(), ACTS, made_runs(), HOOK)
    exact = ACTS.double().numpy() @ PROBE.weight.astype(np.float64) + PROBE.bias
    assert np.abs(parts.total - exact).max() < 1e-5
    assert np.abs(parts.total - PROBE.score(ACTS.numpy())).max() < 1e-5


def test_each_part_is_the_feature_times_the_weight_through_its_decoder_row() -> None:
    sae = random_sae()
    parts = attribute_score(PROBE, sae, ACTS, made_runs(), HOOK)
    weight = torch.from_numpy(PROBE.weight)
    features = sae.encode(ACTS)
    wanted = features * (sae.W_dec @ weight)
    assert np.allclose(parts.features.toarray(), wanted.numpy(), atol=1e-5)
    error = (ACTS - sae.decode(features)) @ weight
    assert np.allclose(parts.error, error.numpy(), atol=1e-5)
    assert parts.constant == pytest.approx(float(sae.b_dec @ weight) + 0.7, abs=1e-6)


def test_a_contribution_minus_its_mean_is_the_linear_shap_value() -> None:
    background = torch.randn(40, WIDTH, generator=torch.Generator().manual_seed(3))
    assert shap_gap(PROBE, random_sae(), ACTS, background) < 1e-5


def test_the_probe_on_features_scores_what_the_sae_reconstructs() -> None:
    sae = random_sae()
    found = probe_on_features(PROBE, sae).score(split_acts(sae, ACTS).features)
    wanted = PROBE.score(sae.decode(sae.encode(ACTS)).numpy())
    assert np.allclose(found, wanted, atol=1e-5)


def test_other_widths_are_refused() -> None:
    narrow = LinearProbe(kind="logistic", weight=np.ones(3, np.float32), bias=0.0)
    with pytest.raises(ShapeError, match="the probe reads 3 numbers"):
        attribute_score(narrow, random_sae(), ACTS, made_runs(), HOOK)
    with pytest.raises(ShapeError, match="there are 5 tokens"):
        attribute_score(PROBE, random_sae(), ACTS[:2], made_runs(), HOOK)
    with pytest.raises(CheckpointError, match="d_in = 32, these have 8"):
        split_acts(random_sae(), ACTS[:, :8])
