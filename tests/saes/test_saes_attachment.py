"""An edit of features moves the activations by exactly what the decoder says, and nothing else."""

import pytest
import torch

from mechprobe.errors import CheckpointError, ShapeError
from mechprobe.saes.attachment import error_term, feature_edit, scale_features, set_features
from tests.saes.made_sae import D_IN, D_SAE, MadeSae


def some_acts() -> torch.Tensor:
    acts = torch.randn(3, 4, D_IN, generator=torch.Generator().manual_seed(1))
    acts[0, 0, 0] = -0.0
    return acts


@pytest.mark.parametrize(
    "change", [lambda f: f, set_features([], 5.0), scale_features([1, 2], 1.0)], ids=range(3)
)
def test_an_edit_that_changes_no_feature_changes_no_bit(change):
    acts = some_acts()
    edited = feature_edit(MadeSae(), change)(acts)
    assert torch.equal(edited.view(torch.int32), acts.view(torch.int32))


@torch.no_grad()
def test_a_clamped_feature_moves_the_activations_by_its_decoder_row():
    sae, acts = MadeSae(), some_acts()
    feature_acts = sae.encode(acts)
    for feature in (0, 7, D_SAE - 1):
        edited = feature_edit(sae, set_features([feature], 3.0))(acts)
        delta = (3.0 - feature_acts[..., feature])[..., None] * sae.W_dec[feature]
        assert torch.equal(edited, acts + delta)


@torch.no_grad()
def test_tokens_whose_features_stay_keep_their_bits():
    sae, acts = MadeSae(), some_acts()

    def first_token_only(feature_acts: torch.Tensor) -> torch.Tensor:
        changed = feature_acts.clone()
        changed[:, 1, 4] += 2.0
        return changed

    edited = feature_edit(sae, first_token_only)(acts)
    kept = [0, 2, 3]
    assert torch.equal(edited[:, kept].view(torch.int32), acts[:, kept].view(torch.int32))
    assert torch.allclose(edited[:, 1] - acts[:, 1], 2.0 * sae.W_dec[4].expand(3, -1), atol=1e-6)


@torch.no_grad()
def test_the_edit_equals_decoding_plus_the_error_term():
    sae, acts = MadeSae(), some_acts()
    change = scale_features(range(6), 0.0)
    spelled_out = sae.decode(change(sae.encode(acts))) + error_term(sae, acts)
    assert torch.allclose(feature_edit(sae, change)(acts), spelled_out, atol=1e-5)
    assert torch.allclose(sae.decode(sae.encode(acts)) + error_term(sae, acts), acts, atol=1e-6)


@torch.no_grad()
def test_ablating_inactive_features_does_nothing_and_half_precision_stays_half():
    sae, acts = MadeSae(bias=-100.0), some_acts()
    assert torch.equal(feature_edit(sae, set_features(range(D_SAE), 0.0))(acts), acts)
    half = acts.bfloat16()
    made = MadeSae()
    edited = feature_edit(made, set_features([3], 2.0))
    assert edited(half.float()).to(torch.bfloat16).dtype == torch.bfloat16


def test_an_sae_that_normalises_each_input_is_refused():
    with pytest.raises(CheckpointError, match="layer_norm"):
        feature_edit(MadeSae(normalize_activations="layer_norm"), lambda f: f)


@torch.no_grad()
def test_scaling_moves_each_feature_by_its_own_share_of_its_decoder_row():
    sae, acts = MadeSae(), some_acts()
    feature_acts = sae.encode(acts)
    edited = feature_edit(sae, scale_features([2, 9], 0.25))(acts)
    moved = -0.75 * feature_acts[..., [2, 9]] @ sae.W_dec[[2, 9]]
    assert torch.allclose(edited - acts, moved, atol=1e-5)


def test_unknown_features_and_numbers_that_are_none_are_refused():
    with pytest.raises(ShapeError, match=f"feature {D_SAE} is asked for, the SAE has 0 to"):
        feature_edit(MadeSae(), set_features([D_SAE], 1.0), features=[D_SAE])
    with pytest.raises(ShapeError, match="value for the features is nan"):
        set_features([1], float("nan"))
    with pytest.raises(ShapeError, match="factor for the features is inf"):
        scale_features([1], float("inf"))


def test_activations_of_another_width_are_refused():
    with pytest.raises(ShapeError, match=f"reads {D_IN} numbers, the hook point has 3"):
        feature_edit(MadeSae(), set_features([1], 1.0))(torch.ones(2, 3))
