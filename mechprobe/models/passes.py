"""Forward passes through TransformerLens' bridge, each of which tells the edits what tokens it computes."""

import inspect
from collections.abc import Generator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.errors import ModelError
from mechprobe.models.batches import TokenBatch
from mechprobe.models.hooks import EditContext


class Passes:
    """The one place that calls the bridge."""

    def __init__(self, bridge: Any, *, is_causal: bool) -> None:
        self.bridge = bridge
        self.is_causal = is_causal
        self._context: EditContext | None = None

    @property
    def device(self) -> torch.device:
        """Where the model reads its tokens."""
        return torch.device(self.bridge.cfg.device)

    @property
    def context(self) -> EditContext:
        """The tokens of the pass that is running.

        Raises:
            ModelError: none is running here.
        """
        if self._context is None:
            raise ModelError(
                "the model was called past its Subject; use run, capture or generate while editing."
            )
        return self._context

    @cached_property
    def keeps_positions(self) -> bool:
        """Whether the model can write logits at some positions only."""
        forward = self.bridge.original_model.forward
        return "logits_to_keep" in inspect.signature(forward).parameters

    def whole(self, batch: TokenBatch) -> Float[Tensor, "case pos vocab"]:
        """Logits at all columns of sequences that are read from their first token."""
        options: dict[str, Any] = {"use_cache": False} if self.is_causal else {}
        return self.call(batch, **options)

    def at(
        self,
        batch: TokenBatch,
        columns: Int[Tensor, "case"],
        *,
        since: int = 0,
        **options: Any,
    ) -> Float[Tensor, "case vocab"]:
        """Logits of a decoder at one column of each sequence, counted from `since`.

        The vocabulary is wide, so only the columns that are read go through the unembedding.
        """
        few = columns.unique()
        options = {"use_cache": False} | options
        logits = self.call(batch, since=since, keep=few.to(self.device), **options)
        is_few = logits.shape[1] == len(few)
        return pick_columns(logits, torch.searchsorted(few, columns) if is_few else columns)

    def step(self, batch: TokenBatch, cache: Any) -> tuple[Float[Tensor, "case vocab"], Any]:
        """Logits of the next token: the whole prompt at first, then the newest token with the cache."""
        since = 0 if cache is None else batch.token_ids.shape[1] - 1
        logits, cache = self.call(
            batch,
            since=since,
            keep=1,
            return_type="logits_and_cache",
            past_key_values=cache,
            use_cache=True,
        )
        return logits[:, -1], cache

    def call(
        self,
        batch: TokenBatch,
        *,
        since: int = 0,
        keep: Int[Tensor, "kept"] | int | None = None,
        **options: Any,
    ) -> Any:
        """What the bridge returns for the columns from `since` on.

        Args:
            keep: columns, or number of last columns, whose logits are wanted; None for all.
            options: go to the bridge as they are.
        """
        if keep is not None and self.keeps_positions:
            options["logits_to_keep"] = keep
        with self._running(batch.positions[:, since:]):
            return self.bridge(
                batch.token_ids[:, since:].to(self.device),
                attention_mask=batch.mask.long().to(self.device),
                **options,
            )

    @contextmanager
    def _running(self, positions: Int[Tensor, "case pos"]) -> Generator[None, None, None]:
        self._context = EditContext(positions=positions.to(self.device))
        try:
            yield
        finally:
            self._context = None


def pick_columns(
    logits: Float[Tensor, "case pos vocab"], columns: Int[Tensor, "case"]
) -> Float[Tensor, "case vocab"]:
    """One column of each sequence."""
    cases = torch.arange(len(columns), device=logits.device)
    return logits[cases, columns.to(logits.device)]
