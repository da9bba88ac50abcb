"""Edits of activations: what is changed at a hook point, at which tokens, and whether it happened.

Vendors ignore misspelt hook points silently, so that a steering run can be a perfect fake null. Here every edit counts
its firings, and none is an error.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

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


class AllCapturedError(Exception):
    """Nothing is left to capture; the rest of the pass is not needed."""


@contextmanager
def applied_edits(
    points: Sequence[Any], edits: Sequence[Edit], context: Callable[[], EditContext]
) -> Generator[list[int], None, None]:
    """Apply each edit at its hook point, in order, while active; yields the firings of each so far.

    Raises:
        HookError: an edit never fired.
        ShapeError: an edit returns another shape than it was given.
    """
    counts = [0] * len(edits)

    def change(index: int) -> Callable[..., Tensor]:
        def hook(_module: Any, _inputs: Any, out: Tensor) -> Tensor:
            flat = out.reshape(*out.shape[:2], -1)
            edited = edits[index].apply(flat, context())
            _check_shape(edits[index], flat, edited)
            counts[index] += edited is not flat
            return edited.to(out.dtype).reshape(out.shape)

        return hook

    with _hooked(points, [change(index) for index in range(len(edits))]):
        yield counts
    for edit, count in zip(edits, counts, strict=True):
        if count == 0:
            raise HookError(
                f"the edit at {edit.hook_name!r} never fired: the forward passes did not reach its hook point, or "
                "held none of its tokens; its effect would be a false zero."
            )


@contextmanager
def captured_acts(
    points: Mapping[str, Any], found: dict[str, Float[Tensor, "case pos d"]]
) -> Generator[None, None, None]:
    """Fill `found` with the activations at hook points while active; raises AllCapturedError after the last."""

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: Any, _inputs: Any, out: Tensor) -> None:
            found[name] = out.detach().reshape(*out.shape[:2], -1).clone()
            if len(found) == len(points):
                raise AllCapturedError

        return hook

    with _hooked(list(points.values()), [keep(name) for name in points]):
        yield


@contextmanager
def _hooked(
    points: Sequence[Any], hooks: Sequence[Callable[..., Any]]
) -> Generator[None, None, None]:
    handles: list[Any] = []
    try:
        for point, hook in zip(points, hooks, strict=True):
            handles.append(point.register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _check_shape(edit: Edit, acts: Tensor, edited: Tensor) -> None:
    if edited.shape != acts.shape:
        raise ShapeError(
            f"the edit at {edit.hook_name!r} got activations of shape {tuple(acts.shape)} and returned "
            f"{tuple(edited.shape)}; an edit keeps the shape."
        )
