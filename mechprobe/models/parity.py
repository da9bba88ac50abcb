"""Does the bridge compute what the model computes? Checked once for every model that is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.errors import ModelError
from mechprobe.models.bridge_repairs import repair_bridge

TOLERANCES = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
"""Largest difference allowed, as a share of the largest absolute value (of 1 at least)."""
N_TOKENS = 11
"""Few, and a prime, so that no axis of heads is taken for the axis of tokens."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parity:
    """Largest absolute differences between the bridge and the plain model on a few tokens."""

    max_logit_diff: float
    max_resid_diff: float
    """Over the residual stream after every block."""
    n_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PlainPass:
    """What the plain Hugging Face model computes on a few tokens."""

    token_ids: Int[Tensor, "one pos"]
    logits: Float[Tensor, "one pos vocab"]
    hidden_states: Sequence[Float[Tensor, "one pos d_model"]]


def plain_pass(model: Any, n_vocab: int) -> PlainPass:
    """Run the plain model before the bridge changes its modules."""
    generator = torch.Generator().manual_seed(0)
    token_ids = torch.randint(0, n_vocab, (1, N_TOKENS), generator=generator).to(model.device)
    with torch.no_grad():
        out = model(
            token_ids,
            attention_mask=torch.ones_like(token_ids),
            output_hidden_states=True,
            use_cache=False,
        )
    return PlainPass(token_ids=token_ids, logits=out.logits, hidden_states=tuple(out.hidden_states))


def compare(plain: PlainPass, bridge: Any, name: str) -> tuple[Parity, dict[str, int]]:
    """Mend what is known to be broken in the bridge, then run it on the same tokens; also find how wide each hook point is.

    Raises:
        ModelError: the bridge deviates by more than rounding.
    """
    repair_bridge(bridge)
    logits, residuals, widths = _bridge_pass(bridge, plain)
    names = [f"blocks.{layer}.hook_out" for layer in range(int(bridge.cfg.n_layers))]
    tolerance = TOLERANCES.get(plain.logits.dtype, TOLERANCES[torch.float32])
    resid_diffs: list[float] = []
    for hook, wanted in zip(names, plain.hidden_states[1:], strict=True):
        found = residuals[hook]
        # Many models give their last hidden state after the final norm.
        if hook == names[-1] and "ln_final.hook_out" in residuals:
            found = min(found, residuals["ln_final.hook_out"], key=partial(_gap, wanted))
        resid_diffs.append(_difference(found, wanted, tolerance, name, hook))
    parity = Parity(
        max_logit_diff=_difference(logits, plain.logits, tolerance, name, "the logits"),
        max_resid_diff=max(resid_diffs),
        n_tokens=plain.token_ids.shape[1],
    )
    return parity, widths


def _bridge_pass(bridge: Any, plain: PlainPass) -> tuple[Tensor, dict[str, Tensor], dict[str, int]]:
    residuals: dict[str, Tensor] = {}
    widths: dict[str, int] = {}

    def watch(name: str) -> Any:
        def look(_module: Any, _inputs: Any, out: Any) -> None:
            if not isinstance(out, Tensor) or out.ndim < 3 or not out.is_floating_point():
                return
            if out.shape[:2] == plain.token_ids.shape:
                widths[name] = out[0, 0].numel()
                if name.endswith(".hook_out") and name.count(".") <= 2:
                    residuals[name] = out

        return look

    points = {name: point for name, point in bridge.hook_dict.items() if point.name == name}
    handles = [point.register_forward_hook(watch(name)) for name, point in points.items()]
    try:
        with torch.no_grad():
            mask = torch.ones_like(plain.token_ids)
            # Without a cache, as captures run: bridges have faults that a cache hides.
            logits = bridge(plain.token_ids, attention_mask=mask, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return logits, residuals, widths


def _difference(found: Tensor, wanted: Tensor, tolerance: float, name: str, what: str) -> float:
    difference = _gap(found, wanted)
    allowed = tolerance * max(1.0, float(wanted.float().abs().max()))
    if not difference <= allowed:
        raise ModelError(
            f"model {name!r}: TransformerLens' bridge differs from the plain model by {difference:.2g} in {what} "
            f"(allowed: {allowed:.2g}); this architecture cannot be studied with these versions."
        )
    return difference


def _gap(one: Tensor, other: Tensor) -> float:
    return float((one.float() - other.float()).abs().max())
