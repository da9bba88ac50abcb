"""Tiny random models of the families that people study: three blocks of width 32, made by transformers' own classes."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mechprobe.models.loading import quiet_vendors
from tests.models.tiny import CHAT_TEMPLATE, tiny_tokenizer

N_LAYERS, D_MODEL, WINDOW = 3, 32, 6

_SIZES: dict[str, Any] = {
    "vocab_size": len(tiny_tokenizer()),
    "hidden_size": D_MODEL,
    "intermediate_size": 48,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.12,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GROUPED = {"num_key_value_heads": 1, "head_dim": 16}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_ROUTED = {
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "first_k_dense_replace": 1,
    "num_key_value_heads": 2,
}
_WINDOWS = {
    "sliding_window": WINDOW,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}
_GPT2 = {"n_embd": D_MODEL, "n_layer": N_LAYERS, "n_head": 2, "n_positions": 512}


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """How a tiny model of a family is made, and what is particular about it."""

    model: str
    """Class in transformers."""
    config: str
    sizes: dict[str, Any] = field(default_factory=dict)
    blocks: str = "model.layers"
    """Where its blocks are."""
    has_experts: bool = False
    has_window: bool = False
    is_causal: bool = True
    chat_template: str | None = None

    def build(self) -> Any:
        """The model in evaluation mode, the same at each call."""
        import transformers

        torch.manual_seed(0)
        sizes = self.sizes if self.model.startswith("GPT2") else _SIZES | self.sizes
        config = getattr(transformers, self.config)(**sizes)
        model = getattr(transformers, self.model)(config).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                # Gains and biases start as ones and zeros, under which mistakes cannot be seen.
                if parameter.ndim == 1:
                    torch.manual_seed(len(name))
                    parameter.add_(0.1 * torch.randn_like(parameter))
        return model


FAMILIES: dict[str, Family] = {
    "Llama": Family(model="LlamaForCausalLM", config="LlamaConfig", sizes=_GROUPED),
    "Qwen3": Family(model="Qwen3ForCausalLM", config="Qwen3Config", sizes=_GROUPED),
    "Qwen3-MoE": Family(
        model="Qwen3MoeForCausalLM",
        config="Qwen3MoeConfig",
        sizes=_GROUPED | _EXPERTS | {"norm_topk_prob": True},
        has_experts=True,
    ),
    "Qwen3-Next": Family(
        model="Qwen3NextForCausalLM",
        config="Qwen3NextConfig",
        sizes=_GROUPED
        | _EXPERTS
        | {
            "shared_expert_intermediate_size": 16,
            "linear_num_value_heads": 2,
            "linear_num_key_heads": 1,
            "linear_key_head_dim": 16,
            "linear_value_head_dim": 16,
            "layer_types": ["linear_attention", "full_attention", "linear_attention"],
        },
        has_experts=True,
    ),
    "Gemma 2": Family(
        model="Gemma2ForCausalLM",
        config="Gemma2Config",
        sizes=_GROUPED | _WINDOWS,
        has_window=True,
    ),
    "Gemma 3": Family(
        model="Gemma3ForCausalLM",
        config="Gemma3TextConfig",
        sizes=_GROUPED | _WINDOWS,
        has_window=True,
    ),
    "GLM-4": Family(model="Glm4ForCausalLM", config="Glm4Config", sizes=_GROUPED),
    "GLM-4-MoE": Family(
        model="Glm4MoeForCausalLM",
        config="Glm4MoeConfig",
        sizes=_GROUPED | _ROUTED,
        has_experts=True,
    ),
    "gpt-oss": Family(
        model="GptOssForCausalLM",
        config="GptOssConfig",
        sizes=_GROUPED | _WINDOWS | {"num_local_experts": 4, "num_experts_per_tok": 2},
        has_experts=True,
        has_window=True,
    ),
    "Mistral": Family(
        model="MistralForCausalLM",
        config="MistralConfig",
        sizes=_GROUPED | {"sliding_window": WINDOW},
        has_window=True,
    ),
    "OLMo 2": Family(model="Olmo2ForCausalLM", config="Olmo2Config"),
    "Phi-3": Family(model="Phi3ForCausalLM", config="Phi3Config", sizes={"num_key_value_heads": 1}),
    "DeepSeek-V3": Family(
        model="DeepseekV3ForCausalLM",
        config="DeepseekV3Config",
        sizes=_ROUTED
        | {
            "n_group": 2,
            "topk_group": 1,
            "q_lora_rank": 16,
            "kv_lora_rank": 16,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 8,
            "v_head_dim": 16,
        },
        has_experts=True,
    ),
    "GPT-NeoX": Family(
        model="GPTNeoXForCausalLM", config="GPTNeoXConfig", blocks="gpt_neox.layers"
    ),
    "GPT-2": Family(
        model="GPT2LMHeadModel",
        config="GPT2Config",
        sizes=_GPT2 | {"vocab_size": _SIZES["vocab_size"], "initializer_range": 0.12},
        blocks="transformer.h",
    ),
    "BERT": Family(
        model="BertModel",
        config="BertConfig",
        sizes={"max_position_embeddings": 64},
        blocks="encoder.layer",
        is_causal=False,
        chat_template="plain",
    ),
}


def save(family: Family, folder: Path) -> Path:
    """Save a family's model and the shared tokenizer as an ordinary Hugging Face folder."""
    with quiet_vendors():
        tiny_tokenizer(CHAT_TEMPLATE).save_pretrained(folder)
        family.build().save_pretrained(folder)
    return folder
