"""Attention heads: where each one's output is read, and TransformerLens' own patching of it.

The output of the heads is what the output projection takes in, heads side by side; TransformerLens calls it z.
"""

import io
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.errors import HookError, ShapeError
from mechprobe.models.subject import Subject


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadHook:
    """Where one layer's attention heads hand over what they have gathered."""

    layer: int
    hook_name: str
    n_heads: int
    d_head: int


def head_hooks(subject: Subject) -> list[HeadHook]:
    """The layers with attention heads, first layer first.

    Raises:
        HookError: no layer has attention heads that stand side by side before an output projection.
    """
    n_heads = int(subject.bridge.cfg.n_heads)
    widths = subject.hooks.widths
    names = [f"blocks.{layer}.attn.o.hook_in" for layer in range(subject.n_layers)]
    found = [
        HeadHook(layer=layer, hook_name=name, n_heads=n_heads, d_head=widths[name] // n_heads)
        for layer, name in enumerate(names)
        if widths.get(name, 1) % n_heads == 0
    ]
    if not found:
        raise HookError(
            f"no layer of {subject.name} has a hook point before its attention's output projection (such as {names[0]!r}) "
            f"that {n_heads} heads divide; its heads cannot be patched."
        )
    return found


def patch_each_head(
    subject: Subject,
    layer: int,
    *,
    token_ids: Sequence[int],
    partner_ids: Sequence[int],
    tokens: Sequence[int],
    metric: Callable[[Float[Tensor, "1 vocab"]], float],
) -> Float[Tensor, "head"]:
    """Write one head's output of the partner run after the other, by TransformerLens' `generic_activation_patch`.

    One forward pass for each head: this is the reference that batched patching is held against.

    Args:
        tokens: where the head's output is replaced.
        metric: of the logits after the last token.

    Raises:
        ShapeError: the two runs have unequal numbers of tokens.
    """
    from transformer_lens.patching import generic_activation_patch

    if len(token_ids) != len(partner_ids):
        raise ShapeError(
            f"the run has {len(token_ids)} tokens and its partner {len(partner_ids)}; patching needs equal numbers."
        )
    name = f"blocks.{layer}.attn.hook_z"
    heads = pd.DataFrame({"layer": layer, "head": range(int(subject.bridge.cfg.n_heads))})
    at = list(tokens)

    def write(own: Tensor, index: Sequence[int], partner: Any) -> Tensor:
        own[:, at, index[1]] = partner[:, at, index[1]].to(own)
        return own

    # The vendor draws a bar for every call.
    with torch.no_grad(), redirect_stderr(io.StringIO()):
        _logits, cache = subject.bridge.run_with_cache(
            _row(subject, partner_ids), names_filter=[name]
        )
        found = generic_activation_patch(
            subject.bridge,
            _row(subject, token_ids),
            cache,
            lambda logits: torch.tensor(metric(logits[:, -1])),
            write,
            "z",
            index_df=heads,
        )
    return found.cpu()


def _row(subject: Subject, token_ids: Sequence[int]) -> Int[Tensor, "1 tok"]:
    return torch.tensor([list(token_ids)], device=subject.device)
