"""Bind an operation to the tokens that a selector finds in a batch, for runs, captures and generation.

with intervene(subject, "blocks.1.hook_out", steer(direction, 4.0), selector, renderings) as firings:
    texts = subject.generate([r.token_ids.tolist() for r in renderings], max_new_tokens=20)
firings.passes, firings.tokens
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mechprobe.causal.edits.edited_rows import Chooser, Operation, Rows, edit_rows
from mechprobe.causal.edits.selection import TokenSelector
from mechprobe.errors import ShapeError
from mechprobe.models.hooks import Edit, EditContext
from mechprobe.models.rendering import Rendering
from mechprobe.models.subject import Subject
from mechprobe.transcripts.transcript import Span


@dataclass(kw_only=True, slots=True)
class Firings:
    """What an intervention has done so far."""

    passes: int = 0
    """Forward passes that held tokens it was to act on."""
    tokens: int = 0
    """Tokens whose activations changed, over all passes."""


@contextmanager
def intervene(
    subject: Subject,
    hook_name: str,
    operation: Operation,
    selector: TokenSelector,
    renderings: Sequence[Rendering],
    *,
    spans: Sequence[Sequence[Span]] = (),
    n_prompt: Sequence[int] = (),
) -> Generator[Firings, None, None]:
    """Apply an operation to selected tokens in every pass of a subject while active.

    Several nest, and act in the order in which they were entered. In generation the operation acts on the prompt's
    tokens once and on each new one in the pass that reads it; the token written last is never read.

    Args:
        renderings: the batch's texts, in its order.
        spans: each text's spans, for selectors that ask about them.
        n_prompt: how many of each rendering's tokens are prompt; none for all of them.

    Raises:
        LabelError: the selector finds nothing in a text.
        HookError: there is no such hook point, or no pass held a selected token.
        ShapeError: the batch has another number of cases, or the operation another width than the hook point.
    """
    firings = Firings()
    edit = selected_edit(hook_name, operation, selector, renderings, spans=spans, n_prompt=n_prompt)
    with subject.editing([_counted(edit, firings)]):
        yield firings


def selected_edit(
    hook_name: str,
    operation: Operation,
    selector: TokenSelector,
    renderings: Sequence[Rendering],
    *,
    spans: Sequence[Sequence[Span]] = (),
    n_prompt: Sequence[int] = (),
) -> Edit:
    """The same as an edit, for `run`, `capture` and `generate` of a batch of these texts.

    Raises:
        LabelError, ShapeError: see `intervene`.
    """
    return edit_rows(
        hook_name, chosen_tokens(selector, renderings, spans=spans, n_prompt=n_prompt), operation
    )


def chosen_tokens(
    selector: TokenSelector,
    renderings: Sequence[Rendering],
    *,
    spans: Sequence[Sequence[Span]] = (),
    n_prompt: Sequence[int] = (),
) -> Chooser:
    """What finds a selector's tokens in each pass over a batch of texts.

    Raises:
        LabelError, ShapeError: see `intervene`.
    """
    for what, given in (("spans", spans), ("n_prompt", n_prompt)):
        if len(given) not in (0, len(renderings)):
            raise ShapeError(
                f"{what} is given for {len(given)} texts of {len(renderings)}; give one entry for each, or none."
            )

    def masks(n_tokens: int) -> list[Bool[np.ndarray, "pos"]]:
        return [
            _in_sequence(
                selector,
                rendering,
                spans=spans[i] if spans else (),
                n_prompt=n_prompt[i] if n_prompt else len(rendering.token_ids),
                n_tokens=n_tokens,
            )
            for i, rendering in enumerate(renderings)
        ]

    # As long for each text: a short one's new tokens stand where a long one's prompt does.
    table = _stacked(masks(max((len(r.token_ids) for r in renderings), default=0)))

    def choose(context: EditContext) -> Rows:
        nonlocal table
        here = context.positions
        if len(here) != len(renderings):
            raise ShapeError(
                f"the intervention was bound to {len(renderings)} texts, the batch has {len(here)} cases; bind it to "
                "the batch's own texts, in its order."
            )
        needed = int(here.max()) + 1
        if needed > table.shape[1]:
            table = _stacked(masks(2 * needed))
        return _rows_of(table.to(here.device), here)

    return choose


def _rows_of(table: Bool[Tensor, "case n"], here: Int[Tensor, "case pos"]) -> Rows:
    chosen = table.gather(1, here.clamp(min=0)) & (here >= 0)
    case, column = chosen.nonzero(as_tuple=True)
    position = here[case, column]
    slots = table.long().cumsum(1) - 1
    return Rows(case=case, slot=slots[case, position], position=position, column=column)


def _in_sequence(
    selector: TokenSelector,
    rendering: Rendering,
    *,
    spans: Sequence[Span],
    n_prompt: int,
    n_tokens: int,
) -> Bool[np.ndarray, "pos"]:
    """The mask over the sequence that the model reads, which for an encoder has special tokens round it."""
    if len(rendering.windows) > 1:
        raise ShapeError(
            f"transcript {rendering.transcript_id!r} is read in {len(rendering.windows)} windows, so one sequence does "
            "not hold it; shorten it, or use a model that reads more tokens at once."
        )
    mask = selector.mask(rendering, spans=spans, n_prompt=n_prompt, n_tokens=n_tokens)
    if not rendering.windows or len(rendering.windows[0].tokens) == len(rendering.token_ids):
        return mask
    tokens = rendering.windows[0].tokens
    return np.where(tokens >= 0, mask[tokens.clip(min=0)], False)


def _stacked(masks: Sequence[Bool[np.ndarray, "pos"]]) -> Bool[Tensor, "case n"]:
    table = torch.zeros(len(masks), max((len(mask) for mask in masks), default=0), dtype=torch.bool)
    for row, mask in enumerate(masks):
        table[row, : len(mask)] = torch.from_numpy(mask)
    return table


def _counted(edit: Edit, firings: Firings) -> Edit:
    def apply(live: Tensor, context: EditContext) -> Tensor:
        edited = edit.apply(live, context)
        if edited is not live:
            firings.passes += 1
            firings.tokens += int((edited != live).any(-1).sum())
        return edited

    return Edit(hook_name=edit.hook_name, apply=apply)
