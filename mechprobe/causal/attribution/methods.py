"""Contributions of SAE features to an outcome: gradient x activation, attribution patching, integrated gradients.

All are (feature activation - reference) x slope . decoder row, and differ in the reference and in the slope. Counted from
"zero" with the slope at the run itself it is gradient x activation; counted from the partner's activation it is
attribution patching (arXiv 2403.00745, and 2403.19647, section 3, for SAE features with their error term). The mean
slope on the way from the reference to the run is integrated gradients (arXiv 1703.01365), whose contributions add up to
the whole change of the outcome. A contribution estimates what setting the feature to the reference takes away.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.causal.attribution.capturing import Slopes, captured_rows, local_slopes
from mechprobe.causal.attribution.contributions import (
    Contributions,
    Split,
    nothing,
    priced,
    split_acts,
)
from mechprobe.causal.attribution.runs import Runs
from mechprobe.causal.effects import BATCH_TOKENS
from mechprobe.errors import ConfigError
from mechprobe.models.subject import Subject
from mechprobe.saes.checkpoints import check_fits
from mechprobe.saes.lens import Sae, decoder_rows

Method = Literal["gradient_x_activation", "attribution_patching", "integrated_gradients"]
METHODS: tuple[Method, ...] = get_args(Method)
Reference = Literal["zero", "partner"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Explained:
    """Contributions at one hook point, with what an exact check of them needs."""

    contributions: Contributions
    own: Split
    reference: Split
    acts: Float[Tensor, "row d"]
    """Activations of the explained tokens."""
    reference_acts: Float[Tensor, "row d"]
    values: Float[Tensor, "case"]
    """What the unedited runs read."""


def attribute_outcome(
    subject: Subject,
    runs: Runs,
    saes: Mapping[str, Sae],
    *,
    method: Method,
    reference: Reference | None = None,
    n_steps: int = 16,
    batch_tokens: int = BATCH_TOKENS,
) -> dict[str, Explained]:
    """Explain an outcome by the features of SAEs at several hook points.

    Each hook point explains the whole outcome; the contributions of two must not be added.

    Args:
        saes: hook point -> its SAE.
        reference: None: "partner" where the runs have one, else "zero". The method may fix it.
        n_steps: points of the way at which integrated gradients take the slope (Gauss-Legendre).

    Raises:
        CheckpointError: an SAE is of another hook point, width or model, or has no fixed directions.
        ConfigError: the method and the reference do not go together, or a setting is out of range.
        HookError, ModelError: see `local_slopes`.
    """
    counted_from = _reference(runs, method, reference)
    if n_steps < 1:
        raise ConfigError(f"n_steps is {n_steps}; it must be at least 1 (16 is usual).")
    for name, sae in saes.items():
        hook_name = subject.resolve(name)
        check_fits(
            sae, subject.width(name), hook_name, resolve=subject.resolve, model_name=subject.name
        )
    local = local_slopes(subject, runs, list(saes), batch_tokens=batch_tokens)
    there = _partner_acts(subject, runs, list(saes), counted_from, batch_tokens)
    found: dict[str, Explained] = {}
    for name, sae in saes.items():
        own = split_acts(sae, local.acts[name])
        other = nothing(sae, len(runs.row_case)) if there is None else split_acts(sae, there[name])
        start = _bias(sae, local.acts[name]) if there is None else there[name]
        slope = local.gradients[name]
        if method == "integrated_gradients":
            slope = _mean_slope(subject, runs, name, local, start, n_steps, batch_tokens)
        change = own.minus(other)
        found[name] = Explained(
            contributions=Contributions(
                hook_name=name,
                method=method,
                reference=counted_from,
                features=priced(change.features, slope, decoder_rows(sae)),
                error=(slope.double() * change.error.double()).sum(-1).numpy(),
                case=runs.row_case.numpy(),
                position=runs.row_position.numpy(),
                span=runs.row_span.numpy(),
            ),
            own=own,
            reference=other,
            acts=local.acts[name],
            reference_acts=start,
            values=local.values,
        )
    return found


def _reference(runs: Runs, method: Method, reference: Reference | None) -> Reference:
    if method not in METHODS:
        raise ConfigError(f"method is {method!r}; it must be one of {', '.join(METHODS)}.")
    fixed: dict[str, Reference] = {
        "gradient_x_activation": "zero",
        "attribution_patching": "partner",
    }
    chosen = reference or fixed.get(method) or ("zero" if runs.partner_ids is None else "partner")
    if chosen not in get_args(Reference) or chosen != fixed.get(method, chosen):
        raise ConfigError(
            f"{method} counts from {fixed.get(method, 'zero or partner')!r}, not from {chosen!r}; leave out the "
            "reference, or take another method."
        )
    if chosen == "partner" and runs.partner_ids is None:
        raise ConfigError(
            f"{method} compares each run with a partner, and these have none; give matched pairs, or use "
            "gradient_x_activation or integrated_gradients."
        )
    return chosen


def _partner_acts(
    subject: Subject,
    runs: Runs,
    hook_names: list[str],
    reference: Reference,
    batch_tokens: int,
) -> dict[str, Tensor] | None:
    if reference == "zero" or runs.partner_ids is None or runs.partner_positions is None:
        return None
    return captured_rows(
        subject, runs.partner_ids, runs.partner_positions, hook_names, batch_tokens=batch_tokens
    )


def _bias(sae: Sae, acts: Tensor) -> Tensor:
    """What the SAE writes with no feature active."""
    return sae.b_dec.detach().float().cpu().expand_as(acts)


def _mean_slope(
    subject: Subject,
    runs: Runs,
    hook_name: str,
    local: Slopes,
    start: Float[Tensor, "row d"],
    n_steps: int,
    batch_tokens: int,
) -> Float[Tensor, "row d"]:
    """The mean gradient on the straight way from the reference to the run, all explained tokens moving together."""
    nodes, weights = np.polynomial.legendre.leggauss(n_steps)
    way = local.acts[hook_name] - start
    total = torch.zeros_like(way)
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):

        def moved(_acts: Tensor, row: Int[Tensor, "row"], node: float = float(node)) -> Tensor:
            return start[row] + node * way[row]

        slopes = local_slopes(subject, runs, [hook_name], moved=moved, batch_tokens=batch_tokens)
        total += float(weight) * slopes.gradients[hook_name]
    return total
