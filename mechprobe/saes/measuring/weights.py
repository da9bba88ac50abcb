"""The geometry of an SAE's weights: lengths, how crowded the decoder is, and whether encoder and decoder agree."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from mechprobe.saes.describing.directions import nearest_rows
from mechprobe.saes.lens import Sae, decoder_rows


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class WeightGeometry:
    """One number for each feature, and one for all."""

    decoder_norm: Float[Tensor, "d_sae"]
    encoder_norm: Float[Tensor, "d_sae"]
    encoder_decoder_cosine: Float[Tensor, "d_sae"]
    """Near 1: the feature writes what it reads; low: it reads around features that interfere."""
    nearest_cosine: Float[Tensor, "d_sae"]
    """Largest cosine with another decoder row: near 1, two features say the same."""
    effective_rank: float
    """Dimensions that the unit decoder rows fill: the participation ratio of their second moments, at most d_in."""


@torch.no_grad()
def weight_geometry(sae: Sae) -> WeightGeometry:
    """Measure the weights.

    Raises:
        CheckpointError: the SAE's features have no fixed direction.
    """
    rows = decoder_rows(sae).float()
    unit = normalize(rows, dim=-1).double()
    spectrum = torch.linalg.eigvalsh(unit.T @ unit).clamp_min(0)
    return WeightGeometry(
        decoder_norm=rows.norm(dim=-1),
        encoder_norm=sae.W_enc.float().norm(dim=0),
        encoder_decoder_cosine=cosine_similarity(rows, sae.W_enc.float().T, dim=-1),
        nearest_cosine=nearest_rows(rows, 1).cosine[:, 0],
        effective_rank=float(spectrum.sum() ** 2 / spectrum.pow(2).sum()),
    )
