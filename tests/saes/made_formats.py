"""Tiny files in the formats that other projects write SAEs in."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

D_IN, D_SAE, D_OUT = 6, 16, 5


def made_weights(d_out: int = D_IN) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "W_enc": torch.randn(D_IN, D_SAE, generator=generator),
        "b_enc": torch.randn(D_SAE, generator=generator),
        "W_dec": torch.randn(D_SAE, d_out, generator=generator),
        "b_dec": torch.randn(d_out, generator=generator),
        "threshold": torch.rand(D_SAE, generator=generator),
    }


def write_gemma_scope(root: Path, w: dict[str, Tensor]) -> Path:
    """google/gemma-scope-2b-pt-res, layer_20/width_16k/average_l0_71."""
    folder = root / "gemma-scope-2b-pt-res" / "layer_20" / "width_16k" / "average_l0_71"
    folder.mkdir(parents=True)
    arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in w.items()}
    np.savez(folder / "params.npz", **arrays)
    return folder


def write_gemma_transcoder(root: Path, w: dict[str, Tensor]) -> Path:
    """google/gemma-scope-2b-pt-transcoders, layer_3/width_16k/average_l0_54."""
    folder = root / "gemma-scope-2b-pt-transcoders" / "layer_3" / "width_16k" / "average_l0_54"
    folder.mkdir(parents=True)
    arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in w.items()}
    np.savez(folder / "params.npz", **arrays)
    return folder


def write_llama_scope(root: Path, w: dict[str, Tensor], *, norm: float, threshold: float) -> Path:
    """fnlp/Llama3_1-8B-Base-L5R-8x: linear layers, one threshold, and the norm that inputs are scaled by."""
    folder = root / "Llama3_1-8B-Base-L5R-8x"
    (folder / "checkpoints").mkdir(parents=True)
    settings = {
        "d_model": D_IN,
        "d_sae": D_SAE,
        "jump_relu_threshold": threshold,
        "hook_point_in": "blocks.5.hook_resid_post",
        "dataset_average_activation_norm": {"in": norm, "out": norm},
    }
    (folder / "hyperparams.json").write_text(json.dumps(settings))
    tensors = {
        "encoder.weight": w["W_enc"].T.contiguous(),
        "encoder.bias": w["b_enc"],
        "decoder.weight": w["W_dec"].T.contiguous(),
        "decoder.bias": w["b_dec"],
    }
    save_file(tensors, folder / "checkpoints" / "final.safetensors")
    return folder


def write_sparsify(root: Path, w: dict[str, Tensor], *, k: int) -> Path:
    """A folder layers.7 of EleutherAI's sparsify, decoder with features first."""
    folder = root / "sae-pythia" / "layers.7"
    folder.mkdir(parents=True)
    config = {"d_in": D_IN, "num_latents": D_SAE, "k": k, "expansion_factor": 2, "signed": False}
    (folder / "cfg.json").write_text(json.dumps(config))
    (folder.parent / "config.json").write_text(json.dumps({"model": "EleutherAI/pythia-14m"}))
    tensors = {
        "encoder.weight": w["W_enc"].T.contiguous(),
        "encoder.bias": w["b_enc"],
        "W_dec": w["W_dec"],
        "b_dec": w["b_dec"],
    }
    save_file(tensors, folder / "sae.safetensors")
    return folder


def write_dictionary_learning(
    root: Path, w: dict[str, Tensor], dict_class: str, **own: Any
) -> Path:
    """A trainer_0 of saprmarks' dictionary_learning."""
    folder = root / "trainer_0"
    folder.mkdir(parents=True)
    trainer = {
        "dict_class": dict_class,
        "layer": 2,
        "lm_name": "EleutherAI/pythia-70m-deduped",
        "activation_dim": D_IN,
        "dict_size": D_SAE,
        **own,
    }
    (folder / "config.json").write_text(
        json.dumps({"trainer": trainer, "buffer": {"ctx_len": 128}})
    )
    state = {
        "encoder.weight": w["W_enc"].T.contiguous(),
        "encoder.bias": w["b_enc"],
        "decoder.weight": w["W_dec"].T.contiguous(),
        "bias" if dict_class == "AutoEncoder" else "b_dec": w["b_dec"],
    }
    if dict_class == "BatchTopKSAE":
        state["threshold"] = torch.tensor(0.5)
    torch.save(state, folder / "ae.pt")
    return folder


def write_relu_transcoder(root: Path, w: dict[str, Tensor]) -> Path:
    """mwhanna's transcoders: one file a layer, the encoder with features first."""
    folder = root / "qwen3-0.6b-transcoders"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("model_name: Qwen/Qwen3-0.6B\n")
    sizes = {"d_model": D_IN, "d_feature": D_SAE, "batch_size": 64}
    lines = [f"{name}:\n  value: {value}\n" for name, value in sizes.items()]
    (folder / "wandb-config.yaml").write_text("".join(lines))
    tensors = {name: w[name] for name in ("b_enc", "W_dec", "b_dec")}
    save_file({"W_enc": w["W_enc"].T.contiguous(), **tensors}, folder / "layer_4.safetensors")
    return folder / "layer_4.safetensors"
