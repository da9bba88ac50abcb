"""Tiny random models of the families that people study, and how far our captured rows are from plain Hugging Face.

The reference is the model as its authors' code in transformers runs it: one sequence at a time, no padding, its own
choice of attention kernel, ordinary forward hooks on its own modules. What is compared with it went through the whole
way of a capture: rendered, batched with padding, run, written to a store, read back.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mechprobe.activations.capture import capture
from mechprobe.activations.selection import TokenSelection
from mechprobe.models.batches import Side, TokenBatch
from mechprobe.models.loading import quiet_vendors
from mechprobe.models.subject import Subject
from mechprobe.transcripts.transcript import Message, Transcript, number_turns
from tests.models.tiny import CHAT_TEMPLATE, tiny_tokenizer

N_LAYERS, D_MODEL, WINDOW = 3, 32, 6
FIRST, MIDDLE, LAST = "blocks.0.hook_in", "blocks.1.hook_out", "blocks.2.hook_out"
HOOK_NAMES = (FIRST, MIDDLE, LAST)
"""The embedding as the first block reads it, the middle block's output, the last block's before the final norm."""

Rows = dict[str, list[Tensor]]
"""Hook point -> rows of each sequence."""

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


def talk(name: str, *texts: tuple[str, str, str]) -> Transcript:
    """A conversation of user text, reasoning and answer."""
    messages: list[Message] = []
    for user, reasoning, answer in texts:
        messages += [
            Message(role="user", content=user),
            Message(role="assistant", reasoning=reasoning, content=answer),
        ]
    return Transcript(id=name, messages=number_turns(messages))


TALKS = (
    talk("short", ("why", "", "so")),
    talk("long", ("hide the records now , then", "i plan to hide the records", "the task is done")),
    talk("two turns", ("why now", "plan", "done"), ("why ?", "turn of the tool\nend", "task")),
    talk("middle", ("end of turn", "think", "the system tool is done \u2013 \U0001f600")),
)


def save(family: Family, folder: Path) -> Path:
    """Save a family's model and the shared tokenizer as an ordinary Hugging Face folder."""
    with quiet_vendors():
        tiny_tokenizer(CHAT_TEMPLATE).save_pretrained(folder)
        family.build().save_pretrained(folder)
    return folder


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Studied:
    """A family's tiny model under a subject, and what the plain model computes of the same conversations."""

    family: Family
    folder: Path
    subject: Subject
    plain: Any
    sequences: list[list[int]]
    """What the model reads of TALKS, in order."""
    wanted: Rows
    """Rows of the plain model, for each sequence."""


def study(name: str, folder: Path) -> Studied:
    """Save a family's model, load it as a user would, and run the reference."""
    family = FAMILIES[name]
    save(family, folder)
    subject = Subject.load(folder, chat_template=family.chat_template)
    sequences = [
        window.token_ids.tolist() for item in TALKS for window in subject.render(item).windows
    ]
    plain = family.build()
    return Studied(
        family=family,
        folder=folder,
        subject=subject,
        plain=plain,
        sequences=sequences,
        wanted=reference_rows(plain, family, sequences),
    )


def reference_rows(plain: Any, family: Family, sequences: Sequence[Sequence[int]]) -> Rows:
    """What the plain model computes of each sequence alone, caught by forward hooks on its own blocks."""
    blocks = plain.get_submodule(family.blocks)
    caught: Rows = {name: [] for name in HOOK_NAMES}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: Any, _inputs: Any, out: Any) -> None:
            caught[name].append((out[0] if isinstance(out, tuple) else out)[0].float())

        return hook

    def keep_input(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        caught[FIRST].append((args[0] if args else kwargs["hidden_states"])[0].float())

    handles = [
        blocks[0].register_forward_pre_hook(keep_input, with_kwargs=True),
        blocks[1].register_forward_hook(keep(MIDDLE)),
        blocks[2].register_forward_hook(keep(LAST)),
    ]
    try:
        with torch.no_grad():
            for sequence in sequences:
                plain(torch.tensor([list(sequence)]))
    finally:
        for handle in handles:
            handle.remove()
    return caught


def stored_rows(
    subject: Subject, folder: Path, *, dtype: str = "float32", batch_tokens: int = 4096
) -> dict[str, Tensor]:
    """Rows of every token of the conversations, through a store of two shards or more."""
    store = capture(
        TALKS,
        subject,
        HOOK_NAMES,
        folder,
        select=TokenSelection(roles=None, sections=None),
        dtype=dtype,
        batch_tokens=batch_tokens,
        shard_tokens=120,
    )
    return {name: store.acts(name) for name in HOOK_NAMES}


def stored_deviation(found: dict[str, Tensor], wanted: Rows) -> float:
    """Largest difference of stored rows from the reference's, both in the order of the conversations."""
    return max(_gap(found[name], torch.cat(wanted[name])) for name in HOOK_NAMES)


def padded_deviation(studied: Studied, side: Side) -> float:
    """Largest difference of the rows of one padded batch of all sequences from the reference's."""
    batch = TokenBatch.of(studied.sequences, studied.subject.pad_id, side)
    found = studied.subject.capture(batch, HOOK_NAMES)
    return max(
        _gap(found[name][row][batch.mask[row]], studied.wanted[name][row])
        for name in HOOK_NAMES
        for row in range(len(studied.sequences))
    )


def bfloat16_errors(studied: Studied, folder: Path) -> Tensor:
    """Error of each bfloat16 row against the plain bfloat16 model, as a share of the row's size, ascending."""
    subject = Subject.load(
        studied.folder, dtype="bfloat16", chat_template=studied.family.chat_template
    )
    plain = studied.family.build().to(torch.bfloat16)
    wanted = reference_rows(plain, studied.family, studied.sequences)
    found = stored_rows(subject, folder, dtype="bfloat16")
    truth = torch.cat([torch.cat(wanted[name]) for name in HOOK_NAMES])
    gaps = torch.cat([found[name] for name in HOOK_NAMES]) - truth
    return (gaps.norm(dim=1) / truth.norm(dim=1)).sort().values


def _gap(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())
