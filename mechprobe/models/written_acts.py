"""Text and its activations from one pass: what the model writes is captured while it is written.

With the key-value cache every token goes through the model once, the prompt's tokens together and each new one by
itself. The last token of each text has one more step, in which nothing is chosen.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mechprobe.errors import ModelError
from mechprobe.models.batches import TokenBatch
from mechprobe.models.generation import Step, continue_batch


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class WrittenText:
    """One prompt's continuation, and the activations of both."""

    new_ids: list[int]
    """Up to and including the first stop token."""
    acts: Mapping[str, Float[Tensor, "tok d"]]
    """At each hook point one row for each token of the prompt and of `new_ids`, on the CPU."""


def write_with_acts(
    step: Step,
    points: Mapping[str, nn.Module],
    batch: TokenBatch,
    draws: Any,
    *,
    temperature: float,
    stops: Sequence[int],
) -> list[WrittenText]:
    """Continue a left-padded batch and keep what stands at hook points (name -> point)."""
    passes = _Passes(step)
    with _kept(points) as columns:
        new_ids = continue_batch(
            passes.step, batch, draws, temperature=temperature, stops=list(stops)
        )
        passes.finish(new_ids)
    acts = {name: torch.cat(parts, 1) for name, parts in columns.items()}
    width = batch.token_ids.shape[1]
    written: list[WrittenText] = []
    for case, new in enumerate(new_ids):
        first = width - int(batch.mask[case].sum())
        rows = {name: found[case, first : width + len(new)] for name, found in acts.items()}
        written.append(WrittenText(new_ids=new, acts=rows))
    return written


def generation_suffix(tokenizer: Any, chat_template: str | None) -> str:
    """What a chat template puts after a conversation so that the assistant speaks next.

    Raises:
        ModelError: the template has no such suffix, or changes the conversation for it.
    """
    asked = [{"role": "user", "content": "why"}]
    text, longer = (
        str(
            tokenizer.apply_chat_template(
                asked,
                tokenize=False,
                chat_template=chat_template,
                add_generation_prompt=is_open,
            )
        )
        for is_open in (False, True)
    )
    if not longer.startswith(text) or longer == text:
        raise ModelError(
            "the chat template does not say where the assistant begins (add_generation_prompt changes nothing, or more "
            'than the end); set chat_template="plain" or a template file of your own.'
        )
    return longer[len(text) :]


class _Passes:
    """Remembers the newest batch and cache, so that the last tokens can be run as well."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._batch: TokenBatch | None = None
        self._cache: Any = None

    def step(self, batch: TokenBatch, cache: Any) -> tuple[Tensor, Any]:
        """One step, as it is."""
        logits, self._cache = self._step(batch, cache)
        self._batch = batch
        return logits, self._cache

    def finish(self, new_ids: Sequence[Sequence[int]]) -> None:
        """Run the token that was chosen last, of which no step has read the activations."""
        n_steps = max(map(len, new_ids), default=0)
        if self._batch is None or not n_steps:
            return
        # Texts that ended before have all their rows; what stands there is read by nobody.
        last = torch.tensor([new[n_steps - 1] if len(new) == n_steps else 0 for new in new_ids])
        self._step(
            TokenBatch(
                token_ids=torch.cat([self._batch.token_ids, last[:, None]], 1),
                mask=torch.cat([self._batch.mask, torch.ones(len(last), 1, dtype=torch.bool)], 1),
            ),
            self._cache,
        )


@contextmanager
def _kept(
    points: Mapping[str, nn.Module],
) -> Generator[dict[str, list[Tensor]], None, None]:
    columns: dict[str, list[Tensor]] = {name: [] for name in points}

    def keep(name: str) -> Callable[..., None]:
        def hook(_point: Any, _inputs: Any, out: Tensor) -> None:
            columns[name].append(out.detach().reshape(*out.shape[:2], -1).cpu())

        return hook

    handles = [point.register_forward_hook(keep(name)) for name, point in points.items()]
    try:
        yield columns
    finally:
        for handle in handles:
            handle.remove()
