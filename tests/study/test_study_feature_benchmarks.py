"""Features that are the planted indicators themselves score full marks; random ones do not."""

import numpy as np
import pytest
import torch

from mechprobe.errors import LabelError
from mechprobe.study.feature_benchmarks import (
    LabelledActs,
    ablated,
    sparse_probing,
    spurious_removal,
    targeted_perturbation,
)
from tests.saes.made_sae import D_IN, MadeSae

NAMES = ("first", "second", "third")


def known_sae() -> MadeSae:
    """Feature i reads and writes coordinate i, so far as it is above 1."""
    sae = MadeSae(bias=-1.0)
    with torch.no_grad():
        sae.b_dec.zero_()
        sae.W_enc.zero_()
        sae.W_dec.zero_()
        sae.W_enc[:, :D_IN], sae.W_dec[:D_IN] = torch.eye(D_IN), torch.eye(D_IN)
    return sae


def random_sae() -> MadeSae:
    """As many features that read and write anything."""
    sae = MadeSae(seed=3, bias=0.0)
    with torch.no_grad():
        sae.W_enc.copy_(torch.nn.functional.normalize(sae.W_dec, dim=-1).T)
        sae.W_dec.copy_(sae.W_enc.T)
        sae.b_dec.zero_()
    return sae


def rows(seed: int, labels: np.ndarray, noise: float = 0.4) -> LabelledActs:
    """Coordinate i is 5 higher where indicator i is held, and all have noise."""
    rng = np.random.default_rng(seed)
    acts = noise * rng.standard_normal((len(labels), D_IN))
    acts[:, :3] += 5.0 * labels
    return LabelledActs(acts=acts.astype(np.float32), is_positive=labels, indicators=NAMES)


def drawn(seed: int, n: int = 300) -> np.ndarray:
    return np.random.default_rng(seed).random((n, 3)) < 0.4


def test_one_feature_tells_a_planted_indicator():
    fit, test = rows(0, drawn(0), noise=1.5), rows(1, drawn(1), noise=1.5)
    found = sparse_probing(known_sae(), fit, test, ks=(1, 3))
    control = sparse_probing(random_sae(), fit, test, ks=(1, 3))
    assert all(found[name][1] > 0.97 for name in NAMES)
    assert (
        np.mean([control[name][1] for name in NAMES])
        < np.mean([found[name][1] for name in NAMES]) - 0.02
    )


def test_ablation_takes_away_what_a_feature_writes_and_nothing_else():
    acts = rows(0, drawn(0)).acts
    changed = ablated(known_sae(), acts, np.array([0]))
    assert np.array_equal(changed[:, 1:], acts[:, 1:])
    assert np.allclose(changed[:, 0], np.minimum(acts[:, 0], 1.0), atol=1e-6)


def test_perturbing_its_features_hurts_an_indicators_own_probe_alone():
    fit, test = rows(0, drawn(0)), rows(1, drawn(1))
    found = targeted_perturbation(known_sae(), fit, test, n=1)
    control = targeted_perturbation(random_sae(), fit, test, n=1)
    assert all(found[name] > 0.4 for name in NAMES)
    assert all(found[name] > control[name] for name in NAMES)


def test_removing_a_spurious_indicator_gives_the_accuracy_back():
    together = drawn(0)
    together[:, 1] = together[:, 0]
    biased, test = rows(0, together), rows(1, drawn(1, 600))
    found = spurious_removal(known_sae(), biased, test, wanted=0, spurious=1, n=1)
    control = spurious_removal(random_sae(), biased, test, wanted=0, spurious=1, n=1)
    # Not all: the probe's threshold still counts on the spurious part.
    assert found > max(control, 0.0) + 0.2


def test_an_indicator_of_one_class_is_refused():
    labels = drawn(0)
    labels[:, 2] = False
    with pytest.raises(LabelError, match="'third' has 0 positive rows of 300"):
        rows(0, labels)
