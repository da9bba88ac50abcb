"""Hook points: names resolved by us, edits that count their firings.

TransformerLens and sae-lens both ignore unknown or alias names in some calls without a word, so that a steering run
can be a perfect fake null. Here every name is resolved before a run, and an edit that never fired is an error.
"""

import difflib
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.errors import HookError


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class EditContext:
    """What an edit may know about the tokens it is given."""

    positions: Int[Tensor, "case pos"]
    """Index of each token in its own unpadded sequence, -1 at padding. While generating, after the prompt, one token."""


EditFunction = Callable[[Float[Tensor, "case pos d"], EditContext], Float[Tensor, "case pos d"]]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Edit:
    """A change of the activations at one hook point: gets them with their context, returns new ones."""

    hook_name: str
    apply: EditFunction


class HookIndex:
    """The hook points of one bridge: canonical names, and the aliases that lead to them."""

    def __init__(self, points: Mapping[str, Any], model_name: str) -> None:
        self._canonical = {alias: str(point.name) for alias, point in points.items()}
        self._model_name = model_name

    @property
    def names(self) -> tuple[str, ...]:
        """Canonical names, in the order of the model."""
        return tuple(dict.fromkeys(self._canonical.values()))

    def resolve(self, hook_name: str) -> str:
        """The canonical name of a hook point.

        Raises:
            HookError: there is no such hook point; the message lists near names.
        """
        if hook_name in self._canonical:
            return self._canonical[hook_name]
        near = difflib.get_close_matches(hook_name, self._canonical, n=4, cutoff=0.5)
        raise HookError(
            f"{self._model_name} has no hook point {hook_name!r}; near names: "
            f"{', '.join(near) or 'none'}."
        )


class FiringCounter:
    """Counts how often each edit of a run fired."""

    def __init__(self) -> None:
        self.fired: dict[str, int] = {}

    def count(self, hook_name: str) -> None:
        """Note one firing."""
        self.fired[hook_name] = self.fired.get(hook_name, 0) + 1


@contextmanager
def applied_edits(
    bridge: Any, edits: Sequence[Edit], context: Callable[[], EditContext]
) -> Generator[FiringCounter, None, None]:
    """Run a bridge under edits (canonical names), in their order; the bridge is itself again afterwards.

    Raises:
        HookError: an edit never fired, or changed the shape of the activations.
    """
    counter = FiringCounter()

    def hook_of(edit: Edit) -> Callable[..., Tensor]:
        def hook(acts: Tensor, hook: Any) -> Tensor:  # noqa: ARG001 - TransformerLens passes it by name
            counter.count(edit.hook_name)
            edited = edit.apply(acts, context())
            if edited.shape != acts.shape:
                raise HookError(
                    f"an edit at {edit.hook_name} returned shape {tuple(edited.shape)} for activations of "
                    f"shape {tuple(acts.shape)}; it must keep the shape."
                )
            return edited

        return hook

    with bridge.hooks(fwd_hooks=[(edit.hook_name, hook_of(edit)) for edit in edits]):
        yield counter
    silent = sorted({edit.hook_name for edit in edits} - set(counter.fired))
    if silent:
        raise HookError(
            f"the edit at {', '.join(silent)} never fired; the model does not run this hook point in this "
            "pass, so the result would be a false null."
        )
