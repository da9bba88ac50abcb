"""Matching, geometry, absorption and the principal control are what they are by hand."""

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from mechprobe.errors import ShapeError
from mechprobe.saes.measuring.absorption import absorption
from mechprobe.saes.measuring.matching import match_features
from mechprobe.saes.measuring.principal_sae import principal_sae
from mechprobe.saes.measuring.weights import weight_geometry
from tests.saes.made_sae import HOOK, MadeSae, write_store


def test_features_are_found_again_in_another_order_and_length():
    rows = torch.randn(30, 40, generator=torch.Generator().manual_seed(0))
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    found = match_features(rows, 3 * rows[order])
    assert np.array_equal(order.numpy()[found.second], found.first)
    assert np.allclose(found.cosine, 1.0)
    assert found.same_share == 1.0
    assert found.by_chance < 0.5
    other = torch.randn(30, 40, generator=torch.Generator().manual_seed(2))
    strangers = match_features(rows, other)
    assert strangers.cosine.mean() == pytest.approx(strangers.by_chance, abs=0.05)
    assert strangers.same_share == 0.0


def test_two_features_cannot_share_a_partner():
    first = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    found = match_features(first, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    # The largest sum pairs 1 with 0 and .6 with 1, though both are nearest to row 0.
    assert found.second.tolist() == [0, 1]
    assert found.cosine.tolist() == pytest.approx([1.0, 0.6])
    assert found.nearest.tolist() == pytest.approx([1.0, 0.8])
    with pytest.raises(ShapeError, match="cannot be matched"):
        match_features(first, torch.ones(2, 3))


def test_geometry_by_hand():
    sae = MadeSae()
    with torch.no_grad():
        sae.W_dec.zero_()
        sae.W_dec[:8], sae.W_dec[8:16] = 2 * torch.eye(8), -torch.eye(8)
        sae.W_dec[16:] = torch.eye(8)
        sae.W_enc.copy_(sae.W_dec.T * 3)
        sae.W_enc[:, 0] *= -1
    found = weight_geometry(sae)
    assert found.decoder_norm[[0, 8]].tolist() == [2.0, 1.0]
    assert found.encoder_norm[[0, 8]].tolist() == [6.0, 3.0]
    assert found.encoder_decoder_cosine[:2].tolist() == pytest.approx([-1.0, 1.0])
    assert found.nearest_cosine[[0, 8, 16]].tolist() == pytest.approx([1.0, 0.0, 1.0])
    assert found.effective_rank == pytest.approx(8.0)


def test_absorption_by_hand():
    # Feature 0 is the indicator's, 1 writes along it too, 2 across.
    rows = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.2, 0.0]])
    acts = sp.csr_matrix(
        np.array(
            [
                [2.0, 0.0, 1.0, 0.0],  # fires
                [0.0, 2.0, 1.0, 0.0],  # silent, 1 does its work
                [0.0, 0.0, 3.0, 0.0],  # silent, nothing does
                [0.0, 0.5, 0.0, 9.0],  # silent, 3 does more than half
                [0.0, 5.0, 0.0, 0.0],  # no positive
            ]
        )
    )
    is_positive = np.array([True, True, True, True, False])
    found = absorption(acts, is_positive, 0, rows, torch.tensor([2.0, 0.0]))
    assert (found.n_positive, found.silent_share, found.absorbed_share) == (4, 0.75, 0.5)
    assert found.absorber in (1, 3)
    alone = absorption(acts[:1], np.array([True]), 0, rows, torch.tensor([2.0, 0.0]))
    assert (alone.silent_share, alone.absorbed_share, alone.absorber) == (0.0, 0.0, -1)
    with pytest.raises(ShapeError, match="there are 0"):
        absorption(acts, ~is_positive & False, 0, rows, torch.tensor([1.0, 0.0]))


@pytest.mark.slow  # importing sae-lens alone takes many seconds
def test_the_principal_control_is_pca(tmp_path: Path):
    store = write_store(tmp_path / "store", sizes=(20, 30, 25))
    acts = store.acts(HOOK).double()
    centred = acts - acts.mean(0)
    whole = principal_sae(store, HOOK, k=8)
    assert torch.allclose(whole(acts.float()).double(), acts, atol=1e-4)
    _, _, axes = torch.linalg.svd(centred, full_matrices=False)
    coordinates = centred @ axes.T
    kept = coordinates.abs() >= coordinates.abs().topk(3, dim=1).values[:, -1:]
    wanted = (coordinates * kept) @ axes + acts.mean(0)
    assert torch.allclose(principal_sae(store, HOOK, k=3)(acts.float()).double(), wanted, atol=1e-4)
    with pytest.raises(ShapeError, match="between 1 and 8"):
        principal_sae(store, HOOK, k=9)
