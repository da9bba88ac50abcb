from pathlib import Path

import pytest
import torch

from mechprobe.errors import ModelError
from mechprobe.models.batches import TokenBatch
from mechprobe.models.subject import Subject
from mechprobe.models.untrained import load_untrained


def logits_of(subject: Subject) -> torch.Tensor:
    return subject.run(TokenBatch.of([[5, 9, 12]], subject.pad_id))


def test_an_untrained_model_has_the_shape_and_tokens_but_not_the_weights(tiny_llama: Path) -> None:
    trained, untrained = Subject.load(tiny_llama), load_untrained(tiny_llama, seed=3)
    assert untrained.hook_names == trained.hook_names
    assert untrained.tokenizer.get_vocab() == trained.tokenizer.get_vocab()
    assert untrained.tokenizer.chat_template == trained.tokenizer.chat_template
    assert untrained.name == f"{trained.name}-untrained-3"
    assert untrained.model_digest != trained.model_digest
    assert not torch.allclose(logits_of(untrained), logits_of(trained), atol=1e-2)


def test_the_seed_decides_the_weights_and_the_global_state_is_left_alone(tiny_llama: Path) -> None:
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    once = load_untrained(tiny_llama, seed=0)
    assert torch.equal(torch.rand(3), wanted)
    assert torch.equal(logits_of(load_untrained(tiny_llama, seed=0)), logits_of(once))
    assert not torch.equal(logits_of(load_untrained(tiny_llama, seed=1)), logits_of(once))


def test_a_missing_model_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json"):
        load_untrained(tmp_path)
