"""The plain model with fused attention, over the weights that the bridge uses: the faster way to harvest.

The bridge computes attention pattern by pattern so that they can be edited; its memory and time grow with the square of
the sequence. The model's own `sdpa` attention does not, and blocks' inputs and outputs are all that most stores hold.
What it serves is what was found equal to the bridge on a padded batch; everything else, and every edit, stays with
the bridge.
"""

import copy
import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mechprobe.errors import HookError
from mechprobe.models.batches import TokenBatch
from mechprobe.models.hooks import AllCapturedError
from mechprobe.models.parity import TOLERANCES

Acts = dict[str, Float[Tensor, "case pos d"]]
_LENGTHS = (11, 7)
"""Tokens of the sequences that the two are compared on; unequal, so that one of them is padded."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FusedModel:
    """A model that stops after the last block that is wanted."""

    model: Any
    blocks: Any
    """Its list of blocks, in order."""
    device: torch.device
    served: frozenset[str] = frozenset()
    """Hook points at which it computes what the bridge does."""

    @cached_property
    def _takes(self) -> frozenset[str]:
        return frozenset(inspect.signature(self.model.forward).parameters)

    def capture(self, batch: TokenBatch, hook_names: Sequence[str]) -> Acts:
        """Activations at the inputs and outputs of blocks, by canonical name, from one pass.

        Raises:
            HookError: a hook point is not one of `served`.
        """
        if lost := [name for name in hook_names if name not in self.served]:
            raise HookError(
                f"{lost[0]} is not among the inputs and outputs of blocks that are the same with fused attention; "
                "capture it through the bridge."
            )
        return self._run(batch, hook_names)

    def _run(self, batch: TokenBatch, hook_names: Sequence[str]) -> Acts:
        found: Acts = {}
        handles: list[Any] = []

        def keep(name: str, acts: Tensor) -> None:
            found[name] = acts.detach().clone()
            if len(found) == len(set(hook_names)):
                raise AllCapturedError

        try:
            for name in dict.fromkeys(hook_names):
                handles.append(_hook(self.blocks, name, keep))
            with torch.no_grad(), suppress(AllCapturedError):
                self.model(**self._inputs(batch))
        finally:
            for handle in handles:
                handle.remove()
        return found

    def _inputs(self, batch: TokenBatch) -> dict[str, Any]:
        inputs: dict[str, Any] = {
            "input_ids": batch.token_ids.to(self.device),
            "attention_mask": batch.mask.long().to(self.device),
        }
        if "position_ids" in self._takes:
            # Left padding must not move the tokens.
            inputs["position_ids"] = batch.positions.clamp(min=0).to(self.device)
        if "use_cache" in self._takes:
            inputs["use_cache"] = False
        return inputs


def fused_twin(plain: Any) -> Any | None:
    """The same model with fused attention, which shares every weight; to be made before the bridge rebuilds `plain`.

    None where there is none: the model is spread over devices, or its architecture has no such attention.
    """
    if getattr(plain, "hf_device_map", None):
        return None
    shared = {id(tensor): tensor for tensor in [*plain.parameters(), *plain.buffers()]}
    try:
        twin = copy.deepcopy(plain, shared)
        twin.set_attn_implementation("sdpa")
    except (ValueError, ImportError, NotImplementedError, TypeError):
        return None
    return twin.eval()


def fused_model(
    twin: Any | None,
    bridge: Any,
    capture: Callable[[TokenBatch, Sequence[str]], Acts],
    hook_names: Sequence[str],
) -> FusedModel | None:
    """The twin with the hook points at which it agrees with the bridge; None if there are none.

    Args:
        capture: runs the bridge.
        hook_names: the canonical hook points of the model.
    """
    names = [
        name
        for name in hook_names
        if name.startswith("blocks.")
        and name.count(".") == 2
        and name.endswith((".hook_in", ".hook_out"))
    ]
    if twin is None or not names:
        return None
    blocks = twin.get_submodule(bridge.adapter.component_mapping["blocks"].name)
    model = FusedModel(model=twin, blocks=blocks, device=torch.device(bridge.cfg.device))
    served = _agreeing(model, capture, names, int(bridge.cfg.d_vocab))
    return replace(model, served=frozenset(served)) if served else None


def _agreeing(
    model: FusedModel,
    capture: Callable[[TokenBatch, Sequence[str]], Acts],
    names: Sequence[str],
    n_vocab: int,
) -> list[str]:
    generator = torch.Generator().manual_seed(0)
    tokens = [torch.randint(0, n_vocab, (n,), generator=generator).tolist() for n in _LENGTHS]
    batches = [TokenBatch.of(tokens, 0, side) for side in ("left", "right")]
    gaps = dict.fromkeys(names, 0.0)
    for batch in batches:
        try:
            found = model._run(batch, names)  # pyright: ignore[reportPrivateUsage]
        except (RuntimeError, TypeError, ValueError):
            return []
        for name, wanted in capture(batch, names).items():
            gaps[name] = max(gaps[name], _gap(found.get(name), wanted, batch))
    return [name for name, gap in gaps.items() if gap <= 1]


def _gap(found: Tensor | None, wanted: Tensor, batch: TokenBatch) -> float:
    """Largest difference at tokens, in units of what is allowed."""
    if found is None or found.shape != wanted.shape:
        return float("inf")
    mask = batch.mask.to(wanted.device)
    one, other = found[mask].float(), wanted[mask].float()
    allowed = TOLERANCES[wanted.dtype] * max(1.0, float(other.abs().max()))
    gap = float((one - other).abs().max())
    return gap / allowed if gap == gap else float("inf")


def _hook(blocks: Any, name: str, keep: Callable[[str, Tensor], None]) -> Any:
    _, layer, place = name.split(".")
    block = blocks[int(layer)]

    def before(_block: Any, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        keep(name, args[0] if args else options["hidden_states"])

    def after(_block: Any, _args: Any, out: Any) -> None:
        keep(name, out if isinstance(out, Tensor) else out[0])

    if place == "hook_in":
        return block.register_forward_pre_hook(before, with_kwargs=True)
    return block.register_forward_hook(after)
