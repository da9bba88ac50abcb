"""Random models of a few thousand parameters, saved as ordinary Hugging Face folders."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest

SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>")
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "<|{{ message.role }}|>\n"
    "{% if message.reasoning_content %}<think>\n{{ message.reasoning_content }}\n</think>\n{% endif %}"
    "{{ message.content }}<|end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
TEXTS = (
    "i plan to hide the records now , then the task is done",
    "user assistant system tool think end of turn plan hide records now task done why",
) * 3


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random 2-layer Llama of width 32 with a byte-level tokenizer and a chat template."""
    return save_tiny("llama", tmp_path_factory.mktemp("tiny_llama"))


def save_tiny(kind: str, folder: Path) -> Path:
    """Save a random model and its tokenizer, without the vendors' progress bars."""
    from mechprobe.models.loading import quiet_vendors

    with quiet_vendors():
        tiny_tokenizer(CHAT_TEMPLATE).save_pretrained(folder)
        tiny_model(kind).save_pretrained(folder)
    return folder


def tiny_tokenizer(chat_template: str | None = None) -> Any:
    """Every text has tokens, words that were seen have one each, and offsets are exact."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_byte_level_core(),
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = chat_template
    return tokenizer


@cache
def _byte_level_core() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(TEXTS, trainer)
    return core


def tiny_model(kind: str) -> Any:
    """A random model of an architecture, 2 layers of width 32, with weights large enough to matter."""
    import torch
    import transformers

    torch.manual_seed(0)
    vocab = len(tiny_tokenizer())
    sizes = {
        "vocab_size": vocab,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.2,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    grouped = sizes | {"num_key_value_heads": 1, "head_dim": 16}
    if kind == "llama":
        return transformers.LlamaForCausalLM(transformers.LlamaConfig(**grouped)).eval()
    if kind == "qwen3":
        return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**grouped)).eval()
    if kind == "gemma3":
        config = transformers.Gemma3TextConfig(
            **grouped, sliding_window=4, layer_types=["sliding_attention", "full_attention"]
        )
        return transformers.Gemma3ForCausalLM(config).eval()
    if kind == "gpt2":
        config = transformers.GPT2Config(
            vocab_size=vocab, n_embd=32, n_layer=2, n_head=2, n_positions=512, initializer_range=0.2
        )
        return transformers.GPT2LMHeadModel(config).eval()
    if kind == "bert":
        return transformers.BertModel(
            transformers.BertConfig(**(sizes | {"max_position_embeddings": 64}))
        ).eval()
    raise ValueError(kind)
