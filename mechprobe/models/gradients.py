"""How an outcome changes with the activations at hook points: passes that keep their graph, and its gradients.

A first-order figure misses what saturates or cancels (arXiv 2403.00745, section 2), so it ranks and selects, and proves
nothing by itself.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.errors import HookError, ModelError
from mechprobe.models.batches import TokenBatch
from mechprobe.models.hooks import AllCapturedError
from mechprobe.models.passes import Passes
from mechprobe.models.subject import Subject

Objective = Callable[[Float[Tensor, "case pos vocab"]], Float[Tensor, "case"]]
"""One number for each case, from its logits alone."""
Change = Callable[[Float[Tensor, "case pos d"]], Float[Tensor, "case pos d"]]
"""Activations -> those that the pass goes on with; the given ones stay as they are."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Recording:
    """A forward pass with its graph, from the first recorded hook point on."""

    logits: Float[Tensor, "case vocab"] | None
    """At the columns that were asked for; None where only activations were."""
    acts: Mapping[str, Float[Tensor, "case pos d"]]
    """Hook point, as it was named -> activations."""
    raw: Mapping[str, Tensor]
    """The same as the model holds them, heads apart: what gradients are taken of."""


def record_pass(
    subject: Subject,
    batch: TokenBatch,
    hook_names: Sequence[str],
    *,
    columns: Int[Tensor, "case"] | None = None,
    changes: Mapping[str, Change] | None = None,
) -> Recording:
    """Run the model and keep the graph between hook points and what comes after them.

    Nothing is kept of what comes before the first of them.

    Args:
        columns: the column of each case whose logits are wanted; None: stop after the last hook point.
        changes: what to do to the activations at some of the hook points.

    Raises:
        HookError: there is no such hook point, or the pass does not reach it.
    """
    wanted = {name: subject.resolve(name) for name in hook_names}
    points = {canonical: subject.hooks.points[canonical] for canonical in wanted.values()}
    by_point = {subject.resolve(name): change for name, change in (changes or {}).items()}
    raw: dict[str, Tensor] = {}
    passes = Passes(subject.bridge, is_causal=subject.is_causal)
    logits: Tensor | None = None
    with torch.enable_grad(), _kept(points, raw, by_point, stop=columns is None):
        if columns is None:
            with suppress(AllCapturedError):
                passes.whole(batch)
        else:
            logits = passes.at(batch, columns)
    if lost := [name for name, canonical in wanted.items() if canonical not in raw]:
        raise HookError(
            f"the pass does not reach hook point {lost[0]!r}; choose one of the model's hook_names."
        )
    return Recording(
        logits=logits,
        acts={name: _flat(raw[canonical]) for name, canonical in wanted.items()},
        raw={name: raw[canonical] for name, canonical in wanted.items()},
    )


def gradients_of(
    total: Float[Tensor, ""],
    recording: Recording,
    hook_names: Sequence[str],
    *,
    keep_graph: bool = False,
) -> dict[str, Float[Tensor, "case pos d"]]:
    """Gradient of a number with respect to the recorded activations.

    Args:
        keep_graph: where another number's gradient is wanted afterwards.

    Raises:
        HookError: the number does not depend on a hook point, as where that comes after what was read.
        ModelError: a gradient is NaN or infinite.
    """
    inputs = [recording.raw[name] for name in hook_names]
    if not total.requires_grad:
        raise HookError(
            f"what is read does not depend on the activations at {hook_names[0]!r}: they come after it; choose an "
            "earlier hook point."
        )
    computed: Any = torch.autograd.grad(total, inputs, retain_graph=keep_graph, allow_unused=True)
    found: tuple[Tensor | None, ...] = computed
    gradients: dict[str, Tensor] = {}
    for name, gradient in zip(hook_names, found, strict=True):
        if gradient is None:
            raise HookError(
                f"what is read does not depend on the activations at {name!r}: they come after it, or nothing reads "
                "them; choose an earlier hook point."
            )
        if not bool(gradient.isfinite().all()):
            n_bad = int((~gradient.isfinite()).sum())
            raise ModelError(
                f"{n_bad} of {gradient.numel()} numbers of the gradient at {name!r} are NaN or infinite; run the model "
                "in float32, and look for activations that are not finite."
            )
        gradients[name] = _flat(gradient)
    return gradients


def gradients_at(
    subject: Subject, batch: TokenBatch, hook_name: str, objective: Objective
) -> Float[Tensor, "case pos d"]:
    """Gradient of each case's objective with respect to its activations at a hook point.

    Raises:
        HookError: there is no such hook point.
    """
    point = subject.hooks.points[subject.resolve(hook_name)]
    raw: dict[str, Tensor] = {}
    with torch.enable_grad(), _kept({hook_name: point}, raw, {}, stop=False):
        logits = Passes(subject.bridge, is_causal=subject.is_causal).whole(batch)
        total = objective(logits).sum()
    [gradient] = torch.autograd.grad(total, [raw[hook_name]])
    return _flat(gradient)


@contextmanager
def _kept(
    points: Mapping[str, Any],
    raw: dict[str, Tensor],
    changes: Mapping[str, Change],
    *,
    stop: bool,
) -> Generator[None, None, None]:
    """Fill `raw` with the activations at hook points, in the graph; the first cuts off what comes before it."""

    def keep(name: str) -> Callable[..., Tensor]:
        def hook(_module: Any, _inputs: Any, out: Tensor) -> Tensor:
            if name in changes:
                out = changes[name](_flat(out)).to(out.dtype).reshape(out.shape)
            if not raw or not out.requires_grad:
                out = out.detach().requires_grad_()
            raw[name] = out
            if stop and len(raw) == len(points):
                raise AllCapturedError
            return out

        return hook

    handles = [point.register_forward_hook(keep(name)) for name, point in points.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _flat(acts: Tensor) -> Float[Tensor, "case pos d"]:
    return acts.reshape(*acts.shape[:2], -1)
