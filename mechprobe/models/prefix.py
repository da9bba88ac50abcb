"""Many edited runs of few sequences: what the edits cannot change is computed once.

In a causal decoder the tokens before the first edited one are the same in every run, and so is everything below the
edited hook point. Whether a model can go on from there exactly is tried out, not assumed.
"""

import inspect
import re
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.errors import HookError, ShapeError
from mechprobe.models.batches import TokenBatch
from mechprobe.models.clean_start import CleanStart, clean_start, resume
from mechprobe.models.hook_names import HookTable
from mechprobe.models.hooks import Edit, EditContext
from mechprobe.models.parity import TOLERANCES
from mechprobe.models.passes import Passes

_ATTENTION_KINDS = {"full_attention", "sliding_attention"}
_PROBE_LENGTHS, _PROBE_FIRST = (9, 7, 11), (6, 2, 5)
"""Sequences on which sharing is compared with whole runs: unequal before and after their first edited token."""


class PrefixSharing:
    """Goes on from clean passes of one model."""

    def __init__(self, passes: Passes, hooks: HookTable, *, d_vocab: int, pad_id: int) -> None:
        self._passes = passes
        self._hooks = hooks
        self._d_vocab = d_vocab
        self._pad_id = pad_id
        self._is_exact: dict[int, bool] = {}

    def n_blocks(self, hook_names: Sequence[str]) -> int | None:
        """How many of the first blocks runs can share that are edited at canonical hook points.

        None if they can share nothing: the model is an encoder, remembers something else than keys and values of
        each token, or computes something else from them.
        """
        # Edits of the unembedding are shown all columns, and a shared run writes few.
        is_read_whole = any(name.startswith("unembed") for name in hook_names)
        model = self._passes.bridge.original_model
        if not self._passes.is_causal or is_read_whole or not _keeps_all_tokens(model):
            return None
        below = min((_blocks_below(name) for name in hook_names), default=0)
        return next((n for n in dict.fromkeys((below, 0)) if self._agrees(n)), None)

    def start(
        self, sequences: Sequence[Sequence[int]], first: Sequence[int], n_blocks: int
    ) -> CleanStart:
        """Run sequences once, without the edits that runs of them will get.

        Raises:
            ShapeError: a first edited token is not in its sequence.
        """
        _check_first(sequences, first)
        return clean_start(
            self._passes,
            self._hooks.points,
            sequences,
            first,
            n_blocks=n_blocks,
            pad_id=self._pad_id,
        )

    def resume(self, start: CleanStart, case: Int[Tensor, "row"]) -> Float[Tensor, "row vocab"]:
        """Logits after the last token of each run."""
        return resume(self._passes, self._hooks.points, start, case)

    def check(self, edit: Edit, start: CleanStart, case: Int[Tensor, "row"]) -> None:
        """Show an edit the tokens that shared runs leave out.

        Raises:
            HookError: the edit changes one of them, which a shared run would lose.
        """
        if not start.n_before:
            return
        positions = start.batch.positions[case, : start.n_before].to(self._passes.device)
        keys = start.cache.layers[0].keys
        width = self._hooks.widths[self._hooks.resolve(edit.hook_name)]
        acts = keys.new_ones((*positions.shape, width))
        edited = edit.apply(acts, EditContext(positions=positions))
        if edited is acts:
            return
        changed = ((edited != acts).any(-1) & (positions >= 0)).nonzero().tolist()
        if changed:
            row, column = changed[0]
            raise HookError(
                f"the edit at {edit.hook_name!r} changes token {int(positions[row, column])} of a sequence whose "
                f"first edited token was said to be {int(positions[row].max()) + 1}; give the first token that "
                "any edit touches."
            )

    def _agrees(self, n_blocks: int) -> bool:
        if n_blocks not in self._is_exact:
            self._is_exact[n_blocks] = self._try_out(n_blocks)
        return self._is_exact[n_blocks]

    def _try_out(self, n_blocks: int) -> bool:
        """Whether shared runs of a few random tokens give the logits of whole runs, but for rounding."""
        generator = torch.Generator().manual_seed(0)
        tokens = [
            torch.randint(0, self._d_vocab, (n,), generator=generator).tolist()
            for n in _PROBE_LENGTHS
        ]
        case = torch.tensor([0, 1, 1, 2])
        with torch.no_grad():
            found = self.resume(self.start(tokens, _PROBE_FIRST, n_blocks), case)
            rows = TokenBatch.of([tokens[i] for i in case.tolist()], self._pad_id)
            wanted = self._passes.at(rows, rows.mask.sum(1) - 1)
        allowed = TOLERANCES.get(wanted.dtype, TOLERANCES[torch.float32])
        gap = float((found.float() - wanted.float()).abs().max())
        return gap <= allowed * max(1.0, float(wanted.abs().max()))


def _keeps_all_tokens(model: Any) -> bool:
    """Whether a plain Hugging Face decoder remembers keys and values of each token, and nothing else."""
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
    has_cache = "past_key_values" in inspect.signature(model.forward).parameters
    return has_cache and kinds <= _ATTENTION_KINDS and not getattr(model, "_is_stateful", False)


def _blocks_below(hook_name: str) -> int:
    """How many of the first blocks an edit at a hook point leaves as they are, up to their output."""
    found = re.fullmatch(r"blocks\.(\d+)\.(.+)", hook_name)
    return int(found[1]) + (found[2] == "hook_out") if found else 0


def _check_first(sequences: Sequence[Sequence[int]], first: Sequence[int]) -> None:
    for sequence, token in zip(sequences, first, strict=True):
        if not 0 <= token < len(sequence):
            raise ShapeError(
                f"token {token} is said to be the first edited one of a run of {len(sequence)} tokens; no edit would "
                "fire there."
            )
