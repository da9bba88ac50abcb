"""Edits of a hook point at chosen tokens, each a `Subject` edit that counts its firings.

`positions` holds, for each case of the batch, the tokens to edit, counted in the case's own sequence, so that padding
and generation step by step do not matter; -1 fills up unequal numbers. Directions have unit length and may differ from
case to case, so that many conditions share one forward pass.
"""

from collections.abc import Callable

import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.models.hooks import Edit, EditContext

Change = Callable[[Float[Tensor, "row d"]], Float[Tensor, "row d"]]


def replace_at(
    hook_name: str, positions: Int[Tensor, "case site"], acts: Float[Tensor, "case site d"]
) -> Edit:
    """Write whole activations (activation patching)."""

    def apply(live: Tensor, context: EditContext) -> Tensor:
        edited = live.clone()
        case, slot, token = _rows(positions, context)
        edited[case, token] = acts[case, slot].to(live.dtype)
        return edited

    return Edit(hook_name=hook_name, apply=apply)


def set_coordinate(
    hook_name: str,
    positions: Int[Tensor, "case site"],
    directions: Float[Tensor, "case d"],
    values: Float[Tensor, "case site"],
) -> Edit:
    """Set the coordinate along a direction and leave the rest: h + (value - h.u) u.

    With the partner's coordinate it is an interchange (Geiger et al., arXiv 2303.02536), with the mean of the
    other class a mean ablation, with 0 the ablation of Arditi et al. (arXiv 2406.11717).
    """

    def apply(live: Tensor, context: EditContext) -> Tensor:
        edited = live.clone()
        case, slot, token = _rows(positions, context)
        rows = live[case, token]
        along = directions[case].to(live.dtype)
        now = einsum(rows, along, "row d, row d -> row")
        change = values[case, slot].to(live.dtype) - now
        edited[case, token] = rows + change[:, None] * along
        return edited

    return Edit(hook_name=hook_name, apply=apply)


def add_direction(
    hook_name: str,
    positions: Int[Tensor, "case site"],
    directions: Float[Tensor, "case d"],
    amounts: Float[Tensor, "case site"],
) -> Edit:
    """Add amount * direction at the chosen tokens (steering, arXiv 2312.06681)."""

    def apply(live: Tensor, context: EditContext) -> Tensor:
        edited = live.clone()
        case, slot, token = _rows(positions, context)
        moved = amounts[case, slot][:, None] * directions[case]
        edited[case, token] = live[case, token] + moved.to(live.dtype)
        return edited

    return Edit(hook_name=hook_name, apply=apply)


def change_at(hook_name: str, positions: Int[Tensor, "case site"], change: Change) -> Edit:
    """Apply any function of the activation at the chosen tokens, such as an SAE feature's clamp."""

    def apply(live: Tensor, context: EditContext) -> Tensor:
        edited = live.clone()
        case, _slot, token = _rows(positions, context)
        edited[case, token] = change(live[case, token]).to(live.dtype)
        return edited

    return Edit(hook_name=hook_name, apply=apply)


def steer_everywhere(hook_name: str, direction: Float[Tensor, "d"], amount: float) -> Edit:
    """Add amount * direction at every token, also at each step of generation."""

    def apply(live: Tensor, _context: EditContext) -> Tensor:
        return live + amount * direction.to(live.dtype)

    return Edit(hook_name=hook_name, apply=apply)


def ablate_everywhere(hook_name: str, direction: Float[Tensor, "d"], value: float = 0.0) -> Edit:
    """Hold the coordinate along a unit direction at `value` at every token."""

    def apply(live: Tensor, _context: EditContext) -> Tensor:
        along = direction.to(live.dtype)
        now = einsum(live, along, "case pos d, d -> case pos")
        return live + (value - now)[..., None] * along

    return Edit(hook_name=hook_name, apply=apply)


def _rows(
    positions: Int[Tensor, "case site"], context: EditContext
) -> tuple[Int[Tensor, "row"], Int[Tensor, "row"], Int[Tensor, "row"]]:
    """Case, slot and column of every position that this pass holds; filling and padding never meet."""
    wanted = positions.to(context.positions.device)[:, :, None]
    case, slot, column = torch.nonzero(
        (wanted == context.positions[:, None, :]) & (wanted >= 0), as_tuple=True
    )
    return case, slot, column
