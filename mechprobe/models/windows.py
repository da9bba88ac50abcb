"""Long conversations for models that read few tokens at once: consecutive windows, each a sequence of its own."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from mechprobe.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Window:
    """One sequence that the model reads: a stretch of the conversation, with special tokens around it."""

    token_ids: Int[np.ndarray, "pos"]
    tokens: Int[np.ndarray, "pos"]
    """Which token of the rendering stands at each position, -1 for an added special token."""


def cut_windows(
    token_ids: Int[np.ndarray, "tok"], tokenizer: Any, window: int | None
) -> tuple[Window, ...]:
    """Consecutive stretches of at most `window` tokens, with the special tokens that the tokenizer puts round a sequence.

    A stretch that starts with them already, as a chat template's text does, gets none in front.

    Raises:
        ConfigError: the window has no room beside the special tokens.
    """
    everything = np.arange(len(token_ids))
    if window is None:
        return (Window(token_ids=token_ids, tokens=everything),)
    before, after = _special_tokens(tokenizer)
    room = window - len(before) - len(after)
    if room < 1:
        raise ConfigError(
            f"window is {window}, and the tokenizer adds {len(before) + len(after)} special tokens; make it larger."
        )
    windows: list[Window] = []
    for start in range(0, len(token_ids), room):
        inside = everything[start : start + room]
        has_start = token_ids[start : start + len(before)].tolist() == before
        front, back = [] if has_start else before, after
        windows.append(
            Window(
                token_ids=np.concatenate([front, token_ids[inside], back]).astype(np.int64),
                tokens=np.pad(inside, (len(front), len(back)), constant_values=-1),
            )
        )
    return tuple(windows)


def _special_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """What the tokenizer puts before and after a sequence, such as [CLS] and [SEP]."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a", add_special_tokens=True)["input_ids"]
    starts = range(len(full) - len(bare) + 1)
    start = next((i for i in starts if full[i : i + len(bare)] == bare), 0)
    return full[:start], full[start + len(bare) :]
