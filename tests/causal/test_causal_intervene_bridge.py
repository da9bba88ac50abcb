"""Edits through TransformerLens' bridge are the edits that plain Hugging Face forward hooks make."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mechprobe.causal.edits.interventions import add_direction, set_coordinate
from mechprobe.models.batches import TokenBatch
from mechprobe.models.subject import Subject
from tests.models.tiny import CHAT_TEMPLATE, tiny_model, tiny_tokenizer

KINDS = ("llama", "qwen3", "gemma3", "glm4", "gpt_oss")
SEQUENCES = [[5, 9, 30, 31, 7, 12], [8, 40, 17], [11, 200, 45, 46]]
CHOSEN = torch.tensor([[1, 4], [2, -1], [0, 3]])
D = 32


def model_of(kind: str) -> Any:
    import transformers

    if kind in ("llama", "qwen3", "gemma3"):
        return tiny_model(kind)
    sizes = {
        "vocab_size": len(tiny_tokenizer()),
        "hidden_size": D,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "max_position_embeddings": 512,
        "initializer_range": 0.2,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    torch.manual_seed(0)
    if kind == "glm4":
        return transformers.Glm4ForCausalLM(transformers.Glm4Config(**sizes)).eval()
    config = transformers.GptOssConfig(
        **sizes,
        num_local_experts=4,
        num_experts_per_tok=2,
        sliding_window=4,
        layer_types=["sliding_attention", "full_attention"],
    )
    return transformers.GptOssForCausalLM(config).eval()


@pytest.fixture(scope="module", params=KINDS)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    from mechprobe.models.loading import quiet_vendors

    folder: Path = tmp_path_factory.mktemp(request.param)
    plain = model_of(request.param)
    with quiet_vendors():
        tiny_tokenizer(CHAT_TEMPLATE).save_pretrained(folder)
        plain.save_pretrained(folder)
    # The bridge computes attention eagerly, and so does the reference.
    plain.set_attn_implementation("eager")
    return Subject.load(folder), plain


def hooked_logits(plain: Any, layer: int, row: int, change) -> torch.Tensor:
    """Logits of one sequence, with an ordinary forward hook on the output of a block."""

    def hook(_module: Any, _inputs: Any, out: Any) -> Any:
        acts = out[0] if isinstance(out, tuple) else out
        acts = acts.clone()
        for slot, token in enumerate(CHOSEN[row].tolist()):
            if token >= 0:
                acts[0, token] = change(acts[0, token], row, slot)
        return (acts, *out[1:]) if isinstance(out, tuple) else acts

    handle = plain.model.layers[layer].register_forward_hook(hook)
    try:
        with torch.no_grad():
            return plain(torch.tensor([SEQUENCES[row]])).logits[0]
    finally:
        handle.remove()


@pytest.mark.parametrize("layer", [0, 1])
def test_edited_logits_are_those_of_plain_hooks(loaded: tuple[Subject, Any], layer: int):
    subject, plain = loaded
    generator = torch.Generator().manual_seed(layer)
    directions = torch.nn.functional.normalize(torch.randn(3, D, generator=generator), dim=-1)
    numbers = 3.0 * torch.randn(3, 2, generator=generator)
    name = f"blocks.{layer}.hook_out"
    batch = TokenBatch.of(SEQUENCES, subject.pad_id)
    clean = subject.run(batch)

    def added(acts: torch.Tensor, row: int, slot: int) -> torch.Tensor:
        return acts + numbers[row, slot] * directions[row]

    def held(acts: torch.Tensor, row: int, slot: int) -> torch.Tensor:
        return acts + (numbers[row, slot] - acts @ directions[row]) * directions[row]

    edits = {
        added: add_direction(name, CHOSEN, directions, numbers),
        held: set_coordinate(name, CHOSEN, directions, numbers),
    }
    for change, edit in edits.items():
        logits = subject.run(batch, edits=[edit])
        for row, sequence in enumerate(SEQUENCES):
            found, wanted = logits[row, : len(sequence)], hooked_logits(plain, layer, row, change)
            assert torch.allclose(found, wanted, atol=1e-5)
            assert (found - clean[row, : len(sequence)]).abs().max() > 1e-2
