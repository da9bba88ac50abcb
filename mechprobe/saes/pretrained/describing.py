"""What an SAE says of itself."""

from typing import Any

from mechprobe.saes.lens import Sae


def sae_lines(sae: Sae) -> list[str]:
    """Lines that tell its kind, its size, where it belongs and what it was trained on."""
    cfg: Any = sae.cfg
    metadata = cfg.metadata
    active = metadata.l0 or getattr(cfg, "k", None)
    facts = {
        "architecture": cfg.architecture(),
        "trained as": metadata.training_architecture,
        "reads": f"{metadata.hook_name or 'not stated'}, width {cfg.d_in}",
        "reconstructs": metadata.hook_name_out
        and f"{metadata.hook_name_out}, width {sae.W_dec.shape[1]}",
        "features": sae.W_dec.shape[0],
        "active on a token": f"{active:.4g}" if active else None,
        "model": metadata.model_name,
        "BOS": {True: "yes", False: "no"}.get(metadata.prepend_bos),
        "input scaling": cfg.normalize_activations,
        "texts": metadata.dataset_path,
        "decoder norms": f"{float(sae.W_dec.norm(dim=-1).min()):.3g} to {float(sae.W_dec.norm(dim=-1).max()):.3g}",
    }
    return [f"{name:<18} {value}" for name, value in facts.items() if value not in (None, "")]
