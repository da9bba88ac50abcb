from types import SimpleNamespace

import pytest
import torch

from mechprobe.errors import CheckpointError, ShapeError
from mechprobe.saes.attachment import error_term
from mechprobe.saes.lens import decoder_rows
from mechprobe.saes.random_decoder import random_decoder_sae
from tests.saes.made_sae import D_IN, D_SAE, HOOK, MadeSae


def like(k: int | None = None, l0: float | None = 4.2, **details: object) -> MadeSae:
    metadata = SimpleNamespace(
        hook_name=HOOK, model_name="made", l0=l0, training_architecture_details=details
    )
    cfg = {"metadata": metadata} | ({} if k is None else {"k": k})
    return MadeSae(**cfg)


def test_rows_have_unit_length_and_as_many_features_fire_as_in_the_model_sae() -> None:
    sae = random_decoder_sae(like(), seed=0)
    assert decoder_rows(sae).shape == (D_SAE, D_IN)
    assert torch.allclose(decoder_rows(sae).norm(dim=-1), torch.ones(D_SAE), atol=1e-6)
    acts = 5 * torch.randn(50, D_IN, generator=torch.Generator().manual_seed(1))
    active = (sae.encode(acts) > 0).sum(-1)
    assert active.max() == 4
    assert torch.equal(sae.W_enc, sae.W_dec.T)
    assert sae.cfg.metadata.hook_name == HOOK
    assert error_term(sae, acts).shape == acts.shape


def test_sparsity_is_what_the_sae_was_trained_for_unless_it_is_given() -> None:
    acts = 5 * torch.randn(50, D_IN, generator=torch.Generator().manual_seed(1))
    for sae, wanted in (
        (random_decoder_sae(like(k=3), seed=0), 3),
        (random_decoder_sae(like(k=None, l0=9.0, k_=1), seed=0), 9),
        (random_decoder_sae(like(l0=9.0), seed=0, k=2), 2),
    ):
        assert (sae.encode(acts) > 0).sum(-1).max() <= wanted
        assert sae.cfg.k == wanted


def test_the_seed_decides_the_rows() -> None:
    once, again, other = (random_decoder_sae(like(), seed=seed) for seed in (0, 0, 1))
    assert torch.equal(once.W_dec, again.W_dec)
    assert not torch.equal(once.W_dec, other.W_dec)


def test_bad_input_is_one_clear_error() -> None:
    with pytest.raises(CheckpointError, match="does not say how many features"):
        random_decoder_sae(like(l0=None), seed=0)
    with pytest.raises(ShapeError, match="centre has 3 numbers and the SAE reads 8"):
        random_decoder_sae(like(), seed=0, centre=torch.zeros(3))
