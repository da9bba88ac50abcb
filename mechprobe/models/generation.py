"""Write text so that a prompt's continuation depends on its own seed only, not on its neighbours in the batch."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.errors import ConfigError, ShapeError
from mechprobe.models.batches import TokenBatch

Step = Callable[[TokenBatch, Any], tuple[Float[Tensor, "case vocab"], Any]]
"""Left-padded batch and cache (None at first) -> logits of the next token, and the cache."""


def continue_batch(
    step: Step,
    batch: TokenBatch,
    draws: Float[np.ndarray, "case step"],
    *,
    temperature: float,
    stops: Sequence[int],
) -> list[list[int]]:
    """New tokens of each case, up to and including its first stop token."""
    written: list[Int[Tensor, "case"]] = []
    is_done = torch.zeros(len(batch.token_ids), dtype=torch.bool)
    cache: Any = None
    for n_step in range(draws.shape[1]):
        logits, cache = step(batch, cache)
        new = choose_tokens(logits, temperature, draws[:, n_step]).cpu()
        written.append(new)
        is_done |= torch.isin(new, torch.tensor(list(stops), dtype=torch.long))
        if bool(is_done.all()):
            break
        batch = TokenBatch(
            token_ids=torch.cat([batch.token_ids, new[:, None]], 1),
            mask=torch.cat([batch.mask, torch.ones(len(new), 1, dtype=torch.bool)], 1),
        )
    rows = torch.stack(written, 1).tolist() if written else [[] for _ in is_done]
    return [_cut(row, stops) for row in rows]


def uniform_draws(
    seed: int | Sequence[int], n_prompts: int, n_steps: int
) -> Float[np.ndarray, "case step"]:
    """One uniform number for each prompt and step.

    Args:
        seed: one seed from which each prompt gets its own by its place, or one for each prompt.

    Raises:
        ShapeError: there are not as many seeds as prompts.
    """
    if isinstance(seed, int):
        entropies: list[Sequence[int]] = [(seed, place) for place in range(n_prompts)]
    else:
        entropies = [(own,) for own in seed]
    if len(entropies) != n_prompts:
        raise ShapeError(
            f"there are {len(entropies)} seeds for {n_prompts} prompts; give one seed, or one for each."
        )
    return np.stack([np.random.default_rng(own).random(n_steps) for own in entropies])


def choose_tokens(
    logits: Float[Tensor, "case vocab"], temperature: float, draws: Float[np.ndarray, "case"]
) -> Int[Tensor, "case"]:
    """The most likely token at temperature 0; else the token at which the cumulative probability passes the draw.

    Equal draws give equal tokens unless the probabilities changed there: two sides of a pair share their luck.
    """
    if temperature < 0:
        raise ConfigError(f"temperature is {temperature}; it must be 0 (greedy) or more.")
    if temperature == 0:
        return logits.argmax(-1)
    probabilities = torch.softmax(logits.double() / temperature, -1)
    cumulative = probabilities.cumsum(-1)
    wanted = torch.as_tensor(draws, device=logits.device)[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, wanted, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)


def _cut(tokens: list[int], stops: Sequence[int]) -> list[int]:
    ends = [index for index, token in enumerate(tokens) if token in stops]
    return tokens[: ends[0] + 1] if ends else tokens
