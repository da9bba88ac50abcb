"""The sparse step's gradients are those of dense automatic differentiation of sae-lens' training loss."""

from typing import Any

import pytest
import torch
from torch import Tensor

from mechprobe.saes.lens import import_sae_lens
from mechprobe.saes.training import selecting
from mechprobe.saes.training.selecting import BatchTopKSelector, Encoder, TopKSelector
from mechprobe.saes.training.sparse_step import SparseLoss
from mechprobe.saes.training.steps import weights_of

pytestmark = pytest.mark.slow  # importing sae-lens alone takes many seconds

D_IN, D_SAE, K, N_TOKENS = 24, 512, 4, 80
LEVELS = (64, 256, 512)
CLASSES = {"topk": "TopK", "batchtopk": "BatchTopK", "matryoshka_batchtopk": "MatryoshkaBatchTopK"}


def made_sae(architecture: str, dtype: str = "float32", **own: Any) -> Any:
    """An SAE away from its start, so that no bias is zero and no norm is one."""
    sae_lens = import_sae_lens()
    if architecture == "matryoshka_batchtopk":
        own["matryoshka_widths"] = list(LEVELS)
    name = f"{CLASSES[architecture]}TrainingSAE"
    config = getattr(sae_lens, f"{name}Config")(d_in=D_IN, d_sae=D_SAE, k=K, dtype=dtype, **own)
    torch.manual_seed(1)
    sae = getattr(sae_lens, name)(config)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        sae.b_dec += 1
    return sae


def some_tokens(dtype: torch.dtype = torch.float32) -> Tensor:
    return 1 + 2 * torch.randn(N_TOKENS, D_IN, generator=torch.Generator().manual_seed(2)).to(dtype)


def dense_output(sae: Any, x: Tensor, dead: Tensor) -> Any:
    """sae-lens' own forward pass, and backward into the parameters."""
    output = sae.training_forward_pass(
        import_sae_lens("sae_lens.saes.sae").TrainStepInput(
            sae_in=x,
            dead_neuron_mask=dead,
            coefficients={},
            n_training_steps=0,
            is_logging_step=False,
        )
    )
    output.loss.backward()
    return output


def some_dead(n: int) -> Tensor:
    dead = torch.zeros(D_SAE, dtype=torch.bool)
    dead[torch.randperm(D_SAE, generator=torch.Generator().manual_seed(3))[:n]] = True
    return dead


@pytest.mark.parametrize("architecture", CLASSES)
@pytest.mark.parametrize("rescaled", [True, False])
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("n_dead", [0, 5, 60])  # none, fewer than half of d_in, more
def test_every_gradient_is_dense_autograds(
    architecture: str, rescaled: bool, centred: bool, n_dead: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(selecting, "_DENSE_NUMBERS", 64 * D_SAE)  # the batch is cut in two
    sae = made_sae(
        architecture, rescale_acts_by_decoder_norm=rescaled, apply_b_dec_to_input=centred
    )
    x, dead = some_tokens(), some_dead(n_dead)
    output = dense_output(sae, x, dead)
    select = TopKSelector(K) if architecture == "topk" else BatchTopKSelector(K)
    levels = LEVELS if architecture == "matryoshka_batchtopk" else ()
    loss = SparseLoss(select=select, rescaled=rescaled, centred=centred, levels=levels)
    for _ in range(2):  # the second search starts at the first one's cut-off
        found = loss.gradients(weights_of(sae), x, x, dead)
        for ours, theirs in (
            (found.enc.T, sae.W_enc.grad),
            (found.b_enc, sae.b_enc.grad),
            (found.dec, sae.W_dec.grad),
            (found.b_dec, sae.b_dec.grad),
        ):
            assert float((ours - theirs).norm() / theirs.norm()) < 1e-6
        assert torch.equal(found.n_fired, (output.feature_acts > 0).sum(0))
        assert found.lowest is not None
        lowest = output.feature_acts[output.feature_acts > 0].min().detach()
        assert float(found.lowest) == pytest.approx(float(lowest), rel=1e-6)
        for name, theirs in output.losses.items():
            assert float(found.losses.get(name, 0.0)) == pytest.approx(
                float(theirs.detach()), rel=1e-5
            )


@pytest.mark.parametrize("architecture", ["topk", "matryoshka_batchtopk"])
def test_in_float64_what_is_left_of_the_difference_is_rounding(architecture: str):
    sae = made_sae(architecture, "float64")
    x, dead = some_tokens(torch.float64), some_dead(60)
    dense_output(sae, x, dead)
    select = TopKSelector(K) if architecture == "topk" else BatchTopKSelector(K)
    levels = LEVELS if architecture == "matryoshka_batchtopk" else ()
    found = SparseLoss(select=select, levels=levels).gradients(weights_of(sae), x, x, dead)
    assert float((found.b_dec - sae.b_dec.grad).norm() / sae.b_dec.grad.norm()) < 1e-14
    assert float((found.enc.T - sae.W_enc.grad).norm() / sae.W_enc.grad.norm()) < 1e-14


def test_the_search_finds_what_a_full_sort_finds():
    generator = torch.Generator().manual_seed(4)
    select = BatchTopKSelector(3)
    for scale in (1.0, 1.0, 4.0, 0.1, 0.0):  # the cut-off jumps up, down and away
        encoder = Encoder(
            rows=scale * torch.randn(200, 6, generator=generator), bias=torch.zeros(200)
        )
        x = torch.randn(90, 6, generator=generator)
        dense = (x @ encoder.rows.T).relu()
        kept = dense.flatten().topk(3 * 90).values.clamp(min=0)
        found = select(encoder, x)
        assert torch.equal(found.act.sort(descending=True).values, kept[kept > 0])
        assert torch.allclose(dense[found.token, found.feature], found.act)
        rows = TopKSelector(7)(encoder, x)
        table = torch.zeros_like(dense)
        table[rows.token, rows.feature] = rows.act
        wanted = torch.zeros_like(dense).scatter(1, dense.topk(7).indices, dense.topk(7).values)
        assert torch.allclose(table, wanted)


def test_equal_numbers_do_not_add_active_features():
    encoder = Encoder(rows=torch.ones(64, 2), bias=torch.zeros(64))
    found = TopKSelector(3)(encoder, torch.ones(5, 2))
    assert torch.equal(found.token.bincount(), torch.full((5,), 3))


def test_a_coarse_search_still_computes_in_full():
    sae = made_sae("topk")
    x = some_tokens()
    coarse = SparseLoss(select=TopKSelector(K), coarse=True).gradients(weights_of(sae), x, x)
    full = SparseLoss(select=TopKSelector(K)).gradients(weights_of(sae), x, x)
    # A few features near the cut-off are exchanged; the activations of the others are exact.
    assert int((coarse.n_fired - full.n_fired).abs().sum()) < 0.1 * K * N_TOKENS
    assert float(coarse.losses["mse_loss"]) == pytest.approx(
        float(full.losses["mse_loss"]), rel=1e-2
    )
    encoder = Encoder(rows=sae.W_enc.detach().T, bias=sae.b_enc.detach(), coarse=True)
    found = TopKSelector(K)(encoder, x)
    dense = x @ sae.W_enc.detach() + sae.b_enc.detach()
    assert torch.allclose(found.act, dense[found.token, found.feature], rtol=1e-5)
