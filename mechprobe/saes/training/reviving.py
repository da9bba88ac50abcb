"""Features that have not fired for long: made to explain what the living ones leave (arXiv 2406.04093, appendix A.2)."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechprobe.saes.training.weights import Weights


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadGradients:
    """The auxiliary loss and its gradients for the dead features' weights."""

    features: Int[Tensor, "dead"]
    enc: Float[Tensor, "dead d_in"]
    b_enc: Float[Tensor, "dead"]
    dec: Float[Tensor, "dead d_out"]
    loss: Float[Tensor, ""]


def auxiliary_gradients(
    weights: Weights,
    seen: Float[Tensor, "tok d_in"],
    residual: Float[Tensor, "tok d_out"],
    dead: Bool[Tensor, "d_sae"],
    norms: Float[Tensor, "d_sae"] | None,
    *,
    coefficient: float,
) -> DeadGradients:
    """Gradients of the error with which the largest dead features explain the residual, as sae-lens weighs it.

    Args:
        seen: what the encoder reads, the decoder bias taken off where that is done.
        residual: target minus reconstruction; no gradient goes through it.
        norms: of the decoder's rows, where features are chosen by activations in units of the output.
    """
    features = dead.nonzero().squeeze(1)
    enc, dec = weights.enc[features], weights.dec[features]
    codes = torch.addmm(weights.b_enc[features], seen, enc.T)
    half = seen.shape[1] // 2
    if len(features) > half:
        size = codes if norms is None else codes * norms[features]
        chosen = torch.zeros_like(codes)
        chosen.scatter_(1, size.topk(half, sorted=False).indices, 1.0)
        codes = codes * chosen
    else:
        chosen = None
    error = codes @ dec - residual
    weight = coefficient * min(len(features) / half, 1.0)
    sent = error * (2 * weight / len(seen))
    dcodes = sent @ dec.T
    if chosen is not None:
        dcodes *= chosen
    return DeadGradients(
        features=features,
        enc=dcodes.T @ seen,
        b_enc=dcodes.sum(0),
        dec=codes.T @ sent,
        loss=weight * error.square().sum(1).mean(),
    )
