"""The SAE before its first step, as sae-lens' training class of its architecture."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mechprobe.saes.lens import Sae, import_sae_lens
from mechprobe.saes.training.config import SaeConfig

_PRE_ACT = 3e-6
"""Weight of the penalty that raises JumpReLU features which never fire (Anthropic, January 2025)."""


def untrained_sae(
    config: SaeConfig,
    *,
    d_in: int,
    mean: Float[Tensor, "d_in"],
    hook_name: str,
    model_name: str = "",
    activations: str = "",
) -> Sae:
    """A new SAE; its weights depend on the seed alone, and torch's generator is left as it was.

    Args:
        mean: where the decoder bias starts.
        activations: digest of the store, kept in the metadata.
    """
    sae_lens = import_sae_lens()
    make, make_config, own = _classes(sae_lens, config)
    metadata = import_sae_lens("sae_lens.saes.sae").SAEMetadata(
        hook_name=hook_name, model_name=model_name, activations=activations
    )
    scaling = "expected_average_only_in" if config.scale_inputs else "none"
    shared = {"d_in": d_in, "d_sae": config.d_sae, "normalize_activations": scaling}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        sae = make(make_config(metadata=metadata, **shared, **own))
    with torch.no_grad():
        sae.b_dec.copy_(mean)
        # Features first in memory: every sum over a feature's tokens then reads and writes whole rows.
        sae.W_enc.data = sae.W_enc.data.T.contiguous().T
    return sae.train()


def _classes(sae_lens: Any, config: SaeConfig) -> tuple[Any, Any, dict[str, Any]]:
    keeping = {
        "k": config.k,
        "rescale_acts_by_decoder_norm": config.rescale_by_decoder_norm,
        "aux_loss_coefficient": 0.0 if config.revive == "none" else 1.0,
    }
    # The threshold is a running mean from zero; its default rate is for runs of many thousand steps.
    batch = keeping | {"topk_threshold_lr": min(1.0, max(0.01, 10 / config.n_steps))}
    penalised = {"l1_coefficient": config.sparsity}
    jumping = {
        "jumprelu_sparsity_loss_mode": "quadratic",
        "jumprelu_ste_to_input": True,
        "target_l0": config.k,
        "l0_coefficient": config.sparsity,
        "pre_act_loss_coefficient": _PRE_ACT if config.revive == "auxiliary" else None,
    }
    prefix, own = {
        "standard": ("Standard", penalised),
        "gated": ("Gated", penalised),
        "jumprelu": ("JumpReLU", jumping),
        "topk": ("TopK", keeping),
        "batchtopk": ("BatchTopK", batch),
        "matryoshka_batchtopk": (
            "MatryoshkaBatchTopK",
            batch | {"matryoshka_widths": list(config.widths)},
        ),
    }[config.architecture]
    name = f"{prefix}TrainingSAE"
    return getattr(sae_lens, name), getattr(sae_lens, f"{name}Config"), own
