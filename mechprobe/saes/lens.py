"""The one door to sae-lens: imported when first needed, since that takes many seconds, and kept quiet."""

import importlib
import os
import warnings
from types import ModuleType
from typing import TYPE_CHECKING, Any

import xxhash
from jaxtyping import Float
from torch import Tensor, nn

from mechprobe.errors import CheckpointError

if TYPE_CHECKING:
    from sae_lens import SAE

    Sae = SAE[Any]
else:
    Sae = nn.Module


def import_sae_lens(name: str = "sae_lens") -> ModuleType:
    """Import sae-lens or one of its modules, without its notices about transformer-lens."""
    os.environ.setdefault("WANDB_MODE", "disabled")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        return importlib.import_module(name)


def decoder_rows(sae: Sae) -> Float[Tensor, "d_sae d_in"]:
    """What one unit of each feature adds to the activations.

    Raises:
        CheckpointError: the SAE divides its output by statistics of each input, so that there is no such row.
    """
    if sae.cfg.normalize_activations not in ("none", "expected_average_only_in"):
        raise CheckpointError(
            f"the SAE normalises each input ({sae.cfg.normalize_activations}), so its features have no fixed "
            "direction; use one trained with normalize_activations 'none' or 'expected_average_only_in'."
        )
    if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):
        return sae.W_dec / sae.W_dec.norm(dim=-1, keepdim=True)
    return sae.W_dec


def d_sae_of(sae: Sae) -> int:
    """How many features the SAE has."""
    return int(sae.W_dec.shape[0])


def sae_digest(sae: Sae) -> str:
    """Digest of the weights and of what is done with them."""
    digest = xxhash.xxh3_64(sae.cfg.architecture().encode())
    for name, tensor in sorted(sae.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
