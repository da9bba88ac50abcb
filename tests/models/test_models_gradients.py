from pathlib import Path

import torch
from torch import Tensor

from mechprobe.models.batches import TokenBatch
from mechprobe.models.gradients import gradients_at
from mechprobe.models.hooks import Edit
from mechprobe.models.subject import Subject

HOOK = "blocks.0.hook_out"
IDS = [[5, 9, 12, 7], [5, 8, 11]]
ENDS = torch.tensor([3, 2])


def margin(logits: Tensor) -> Tensor:
    at = logits[torch.arange(len(ENDS)), ENDS]
    return at[:, 4] - at[:, 6]


def test_gradients_are_the_slopes_of_small_edits(tiny_llama: Path) -> None:
    subject = Subject.load(tiny_llama)
    batch = TokenBatch.of(IDS, subject.pad_id)
    gradients = gradients_at(subject, batch, HOOK, margin)
    assert gradients.shape == (2, 4, 32)
    step = torch.randn(2, 4, 32, generator=torch.Generator().manual_seed(0))

    def moved(size: float) -> Tensor:
        edit = Edit(hook_name=HOOK, apply=lambda acts, _where: acts + size * step)
        return margin(subject.run(batch, edits=[edit]))

    slope = (moved(1e-2) - moved(-1e-2)) / 2e-2
    assert torch.allclose((gradients * step).sum((1, 2)), slope, rtol=2e-2, atol=1e-3)


def test_padding_and_later_tokens_have_no_gradient(tiny_llama: Path) -> None:
    subject = Subject.load(tiny_llama)
    batch = TokenBatch.of(IDS, subject.pad_id)
    gradients = gradients_at(subject, batch, HOOK, margin)
    assert gradients[0].abs().sum(-1).min() > 0
    assert not gradients[1, 3].any()
    assert torch.equal(gradients_at(subject, batch, HOOK, margin), gradients), "no hook is left"
