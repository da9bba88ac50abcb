"""An SAE whose features are the axes themselves, and runs of a tiny model, for tests of attribution."""

from types import SimpleNamespace

import torch
from torch import Tensor, nn

from mechprobe.causal.attribution.readouts import Readout
from mechprobe.causal.attribution.runs import Runs

IDS = ((5, 9, 12, 7), (5, 8, 11), (5, 3, 12, 6))
PARTNERS = ((5, 9, 4, 7), (5, 10, 11), (5, 3, 2, 6))
HOOK, LATER = "blocks.0.hook_out", "blocks.1.hook_out"
WIDTH, D_SAE = 32, 48


class PlainSae(nn.Module):
    """ReLU encoder, linear decoder."""

    def __init__(self, w_enc: Tensor, w_dec: Tensor, hook_name: str = HOOK) -> None:
        super().__init__()
        self.W_enc, self.W_dec = nn.Parameter(w_enc), nn.Parameter(w_dec)
        self.b_dec = nn.Parameter(torch.linspace(-0.1, 0.1, w_dec.shape[1]))
        self.cfg = SimpleNamespace(
            d_in=w_dec.shape[1],
            d_sae=w_dec.shape[0],
            normalize_activations="none",
            reshape_activations="none",
            metadata=SimpleNamespace(hook_name=hook_name, model_name=""),
        )
        self.requires_grad_(False)

    def encode(self, acts: Tensor) -> Tensor:
        return ((acts - self.b_dec) @ self.W_enc).relu()

    def decode(self, feature_acts: Tensor) -> Tensor:
        return feature_acts @ self.W_dec + self.b_dec


def random_sae(seed: int = 0, hook_name: str = HOOK) -> PlainSae:
    generator = torch.Generator().manual_seed(seed)
    w_enc = torch.randn(WIDTH, D_SAE, generator=generator) / WIDTH**0.5
    return PlainSae(w_enc, torch.randn(D_SAE, WIDTH, generator=generator) / 4, hook_name)


def axis_sae(width: int) -> PlainSae:
    """Feature i is the positive part of coordinate i; what is negative is the error term."""
    sae = PlainSae(torch.eye(width), torch.eye(width))
    sae.b_dec.zero_()
    return sae


def margin_readout() -> Readout:
    return Readout(name="margin", read=lambda logits, _case: logits[:, 4] - logits[:, 6])


def made_runs(*, paired: bool = True) -> Runs:
    """Two explained tokens in each of the first two runs, one in the last."""
    positions = torch.tensor([[1, 2], [1, 2], [2, -1]])
    return Runs(
        ids=IDS,
        positions=positions,
        spans=torch.tensor([[0, 0], [1, 2], [3, -1]]),
        span_names=("a", "a", "b", "b"),
        clusters=("t0", "t1", "t1"),
        readout=margin_readout(),
        partner_ids=PARTNERS if paired else None,
        partner_positions=positions if paired else None,
    )
