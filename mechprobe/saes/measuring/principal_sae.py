"""A control that has learned nothing but the variance: the principal components of the same activations as a TopK SAE.

Each component gives two features, one for each sign, and the k largest are kept on a token: what as many active features
explain if they need not be features. It has 2 d_in features at most, however wide the SAE that it is compared with.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from mechprobe.activations.store import ActivationStore, Rows
from mechprobe.errors import ShapeError
from mechprobe.saes.lens import Sae, import_sae_lens

_CHUNK = 1 << 15


def principal_sae(
    store: ActivationStore, hook_name: str, *, k: int, rows: Rows = None, model_name: str = ""
) -> Sae:
    """Fit principal components to rows of a store.

    Args:
        k: active features a token, such as the L0 of the SAE that it is compared with.

    Raises:
        ShapeError: k is not between 1 and the width of the activations, or there are fewer than two rows.
    """
    width = store.width(hook_name)
    if not 1 <= k <= width:
        raise ShapeError(f"k is {k}; of {width} components between 1 and {width} can be active.")
    mean, covariance = _moments(store, hook_name, rows)
    _, vectors = torch.linalg.eigh(covariance)
    components = vectors.flip(1).T.float()  # largest variance first
    decoder = torch.cat([components, -components])
    sae_lens = import_sae_lens()
    metadata = import_sae_lens("sae_lens.saes.sae").SAEMetadata(
        hook_name=hook_name, model_name=model_name
    )
    config = sae_lens.TopKSAEConfig(d_in=width, d_sae=2 * width, k=k, metadata=metadata)
    sae = sae_lens.TopKSAE(config)
    with torch.no_grad():
        sae.W_dec.copy_(decoder)
        sae.W_enc.copy_(decoder.T)
        sae.b_enc.zero_()
        sae.b_dec.copy_(mean.float())
    return sae.requires_grad_(False).eval()


def _moments(
    store: ActivationStore, hook_name: str, rows: Rows
) -> tuple[Float[Tensor, "d_in"], Float[Tensor, "d_in d_in"]]:
    """Mean and covariance in float64."""
    numbers = store.row_numbers(rows)
    if len(numbers) < 2:
        raise ShapeError(f"principal components need at least two rows, got {len(numbers)}.")
    width = store.width(hook_name)
    total = torch.zeros(width, dtype=torch.float64)
    products = torch.zeros(width, width, dtype=torch.float64)
    for start in range(0, len(numbers), _CHUNK):
        acts = store.acts(hook_name, numbers[start : start + _CHUNK]).double()
        total += acts.sum(0)
        products += acts.T @ acts
    mean = total / len(numbers)
    return mean, products / len(numbers) - torch.outer(mean, mean)
