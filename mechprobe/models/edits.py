"""Edits of activations: what is changed, and at which tokens.

Vendors ignore misspelt hook points silently, so that a steering run can be a perfect fake null. Here every edit counts
its firings, and none is an error (`Subject.editing`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.errors import HookError, ShapeError


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class EditContext:
    """Which tokens a forward pass computes."""

    positions: Int[Tensor, "case pos"]
    """Index of each token in its own sequence without padding; -1 where there is padding. While text is generated
    with a key-value cache, the passes after the first hold the newest token only."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Edit:
    """Replace activations at a hook point by a function of them, at all tokens or at chosen ones."""

    hook_name: str
    apply: Callable[[Float[Tensor, "case pos d"]], Float[Tensor, "case pos d"]]
    """Gets what the forward pass computes: padding included, and with a key-value cache the newest token only."""
    tokens: Int[Tensor, "case site"] | None = None
    """Keep the change only at these tokens of each case, counted in its own sequence without padding, so that they mean the
    same in any batch and while text is generated; -1 fills up. None: everywhere."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PlacedEdit:
    """An edit that depends on where its tokens stand."""

    hook_name: str
    apply: Callable[[Float[Tensor, "case pos d"], EditContext], Float[Tensor, "case pos d"]]


AnyEdit = Edit | PlacedEdit


def apply_edit(
    edit: AnyEdit, acts: Float[Tensor, "case pos d"], where: EditContext
) -> tuple[Float[Tensor, "case pos d"], bool]:
    """The edited activations, and whether any token was in reach of the edit.

    Raises:
        ShapeError: the edit returns another shape than it was given, or names tokens for another number of cases.
    """
    if isinstance(edit, PlacedEdit):
        return _checked(edit, edit.apply(acts, where), acts), True
    if edit.tokens is None:
        return _checked(edit, edit.apply(acts), acts), True
    is_chosen = _chosen(edit, edit.tokens.to(acts.device), where.positions.to(acts.device))
    if not bool(is_chosen.any()):
        return acts, False
    edited = _checked(edit, edit.apply(acts), acts)
    return torch.where(is_chosen[..., None], edited, acts), True


def check_fired(edits: list[AnyEdit], counts: list[int]) -> None:
    """Raise a HookError for the first edit that never fired."""
    for edit, count in zip(edits, counts, strict=True):
        if count == 0:
            where = "" if isinstance(edit, PlacedEdit) or edit.tokens is None else " at its tokens"
            raise HookError(
                f"the edit at {edit.hook_name!r} never fired{where}: the forward passes did not reach it, or it "
                "names no token that they held; its effect would be a false zero."
            )


def _chosen(
    edit: Edit, tokens: Int[Tensor, "case site"], positions: Int[Tensor, "case pos"]
) -> Tensor:
    if len(tokens) != len(positions):
        raise ShapeError(
            f"the edit at {edit.hook_name!r} names tokens of {len(tokens)} cases, the batch has "
            f"{len(positions)}; give one row of tokens for each case."
        )
    matches = (positions[:, :, None] == tokens[:, None, :]).any(-1)
    return matches & (positions >= 0)


def _checked(edit: AnyEdit, edited: Tensor, acts: Tensor) -> Tensor:
    if edited.shape != acts.shape:
        raise ShapeError(
            f"the edit at {edit.hook_name!r} got activations of shape {tuple(acts.shape)} and returned "
            f"{tuple(edited.shape)}; an edit keeps the shape."
        )
    return edited.to(acts.dtype)
