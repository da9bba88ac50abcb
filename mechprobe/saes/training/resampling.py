"""Dead features pointed at tokens that are badly explained (Anthropic, Towards Monosemanticity, 2023)."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_ENCODER_SHARE = 0.2
"""Length of a resampled encoder row, relative to the mean of the living ones."""


@torch.no_grad()
def resample(
    sae: Any,
    x: Float[Tensor, "tok d_in"],
    dead: Bool[Tensor, "d_sae"],
    moments: Sequence[tuple[Tensor, dict[str, Any]]],
    *,
    seed: tuple[int, int],
) -> bool:
    """Give dead features the directions of tokens drawn by their squared loss; whether there were any.

    Args:
        moments: each parameter with Adam's memory of it, which is cleared for these features.
        seed: of the SAE, and the step.
    """
    features = dead.nonzero().squeeze(1)
    if len(features) in (0, len(dead)):
        return False
    residual = x - sae.decode(sae.encode(x))
    generator = torch.Generator().manual_seed(seed[0] * 1_000_003 + seed[1])
    chances = residual.square().sum(1).square().cpu() + 1e-12
    drawn = torch.multinomial(chances, len(features), replacement=True, generator=generator)
    directions = torch.nn.functional.normalize((x - sae.b_dec)[drawn.to(x.device)], dim=1)
    alive = ~dead
    sae.W_dec[features] = directions * sae.W_dec[alive].norm(dim=1).mean()
    sae.W_enc[:, features] = (
        directions * (_ENCODER_SHARE * sae.W_enc[:, alive].norm(dim=0).mean())
    ).T
    for name in ("b_enc", "b_gate", "b_mag", "r_mag"):
        if getattr(sae, name, None) is not None:
            getattr(sae, name)[features] = 0.0
    if hasattr(sae, "threshold"):
        sae.threshold[features] = sae.cfg.jumprelu_init_threshold
    for parameter, memory in moments:
        for part in ("exp_avg", "exp_avg_sq"):
            if parameter is sae.W_enc:
                memory[part][:, features] = 0.0
            elif parameter is not sae.b_dec:
                memory[part][features] = 0.0
    return True
