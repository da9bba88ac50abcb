"""Edits of activations: what is changed at a hook point, at which tokens, and whether it happened.

Vendors ignore misspelt hook points silently, so that a steering run can be a perfect fake null. Here every edit counts
its firings, and none is an error.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.errors import HookError, ShapeError


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class EditContext:
    """Which tokens a forward pass computes."""

    positions: Int[Tensor, "case pos"]
    """Index of each token in its own sequence without padding; -1 at padding. While text is generated with a key-value
    cache, the passes after the first hold the newest token only."""


EditFunction = Callable[[Float[Tensor, "case pos d"], EditContext], Float[Tensor, "case pos d"]]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Edit:
    """A change of the activations at one hook point: gets them with their context, returns new ones.

    Returning the activations that it was given says that no token was in reach, and does not count as a firing.
    """

    hook_name: str
    apply: EditFunction


def apply_edit(
    edit: Edit, acts: Float[Tensor, "case pos d"], where: EditContext
) -> tuple[Float[Tensor, "case pos d"], bool]:
    """The edited activations, and whether the edit changed any.

    Raises:
        ShapeError: the edit returns another shape than it was given.
    """
    edited = edit.apply(acts, where)
    if edited.shape != acts.shape:
        raise ShapeError(
            f"the edit at {edit.hook_name!r} got activations of shape {tuple(acts.shape)} and returned "
            f"{tuple(edited.shape)}; an edit keeps the shape."
        )
    return edited.to(acts.dtype), edited is not acts


def check_fired(edits: Sequence[Edit], counts: Sequence[int]) -> None:
    """Raise a HookError for the first edit that never fired."""
    for edit, count in zip(edits, counts, strict=True):
        if count == 0:
            raise HookError(
                f"the edit at {edit.hook_name!r} never fired: the forward passes did not reach its hook point, or "
                "held none of its tokens; its effect would be a false zero."
            )
