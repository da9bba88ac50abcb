"""How an outcome changes with the activations at a hook point: gradients, one backward pass a batch."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mechprobe.models.batches import TokenBatch
from mechprobe.models.subject import Subject

Objective = Callable[[Float[Tensor, "case pos vocab"]], Float[Tensor, "case"]]
"""One number for each case, from its logits alone."""


def gradients_at(
    subject: Subject, batch: TokenBatch, hook_name: str, objective: Objective
) -> Float[Tensor, "case pos d"]:
    """Gradient of each case's objective with respect to its activations at a hook point.

    A first-order figure: it misses what saturates or cancels (arXiv 2403.00745, section 2), so it ranks and selects,
    and proves nothing by itself.

    Raises:
        HookError: there is no such hook point.
    """
    point = subject.hooks.points[subject.resolve(hook_name)]
    leaves: list[Tensor] = []

    def cut(_module: Any, _inputs: Any, out: Tensor) -> Tensor:
        leaves.append(out.detach().requires_grad_())
        return leaves[-1]

    handle = point.register_forward_hook(cut)
    try:
        with torch.enable_grad():
            logits = subject.bridge(
                batch.token_ids.to(subject.device),
                attention_mask=batch.mask.long().to(subject.device),
                use_cache=False,
            )
            total = objective(logits).sum()
    finally:
        handle.remove()
    [gradient] = torch.autograd.grad(total, leaves[-1:])
    return gradient.reshape(*gradient.shape[:2], -1)
