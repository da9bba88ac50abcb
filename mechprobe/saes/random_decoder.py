"""An SAE that has learned nothing: random decoder rows, read back by the same rows.

With 512 features in 64 dimensions some feature goes with almost anything. What a trained SAE's best feature is worth is
told by the best of as many random ones, as sparse (the frozen-decoder baseline of SAE sanity checks; for random
transformers arXiv 2501.17727).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from mechprobe.errors import CheckpointError, ShapeError
from mechprobe.saes.lens import Sae, d_sae_of, import_sae_lens


def random_decoder_sae(
    like: Sae, seed: int, *, k: int | None = None, centre: Float[Tensor, "d_in"] | None = None
) -> Sae:
    """A TopK SAE of the same width and sparsity with random unit decoder rows; the encoder is its transpose.

    Args:
        k: active features a token; None for those that `like` was trained to have.
        centre: what is taken off before encoding, such as the mean activation; None for the decoder bias of `like`.

    Raises:
        CheckpointError: `like` does not say how many features are active; give k.
        ShapeError: the centre is not as wide as the SAE.
    """
    sae_lens = import_sae_lens()
    n_active = _n_active(like) if k is None else k
    d_sae, d_in = d_sae_of(like), int(like.cfg.d_in)
    offset = like.b_dec.detach() if centre is None else centre
    if len(offset) != d_in:
        raise ShapeError(f"the centre has {len(offset)} numbers and the SAE reads {d_in}.")
    sae = sae_lens.TopKSAE(
        sae_lens.TopKSAEConfig(
            d_in=d_in,
            d_sae=d_sae,
            k=n_active,
            metadata=import_sae_lens("sae_lens.saes.sae").SAEMetadata(
                hook_name=like.cfg.metadata.hook_name,
                model_name=like.cfg.metadata.model_name,
            ),
        )
    )
    rows = torch.randn(d_sae, d_in, generator=torch.Generator().manual_seed(seed))
    rows = rows / rows.norm(dim=-1, keepdim=True)
    with torch.no_grad():
        sae.W_dec.copy_(rows)
        sae.W_enc.copy_(rows.T)
        sae.b_enc.zero_()
        sae.b_dec.copy_(offset)
    return sae.to(like.W_dec.device).requires_grad_(False).eval()


def _n_active(sae: Sae) -> int:
    metadata = sae.cfg.metadata
    details = metadata.training_architecture_details or {}
    for stated in (getattr(sae.cfg, "k", None), details.get("k"), metadata.l0):
        if stated is not None and round(float(stated)) >= 1:
            return round(float(stated))
    raise CheckpointError(
        f"the {sae.cfg.architecture()} SAE does not say how many features are active on a token; give k."
    )
