"""Edits of a hook point at chosen tokens, each a `Subject` edit that counts its firings.

`positions` holds, for each case of the batch, the tokens to edit, counted in the case's own sequence, so that padding
and generation step by step do not matter; -1 fills up unequal numbers. Directions have unit length and may differ from
case to case, so that many conditions share one forward pass. A direction that is not finite is refused; a value that is
not reads as a broken run in its own case only.
"""

from collections.abc import Callable

from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.causal.edits.edited_rows import (
    Rows,
    check_basis,
    check_numbers,
    check_unit,
    edit_at,
    fitting,
)
from mechprobe.models.hooks import Edit, EditContext

Change = Callable[[Float[Tensor, "row d"]], Float[Tensor, "row d"]]


def replace_at(
    hook_name: str, positions: Int[Tensor, "case site"], acts: Float[Tensor, "case site d"]
) -> Edit:
    """Write whole activations (activation patching).

    Raises:
        ShapeError: in the pass, where the widths differ.
    """

    def operation(live: Tensor, rows: Rows) -> Tensor:
        return fitting(acts, live, "the activation to write")[rows.case, rows.slot]

    return edit_at(hook_name, positions, operation)


def set_coordinate(
    hook_name: str,
    positions: Int[Tensor, "case site"],
    directions: Float[Tensor, "case d"],
    values: Float[Tensor, "case site"],
) -> Edit:
    """Set the coordinate along a direction and leave the rest: h + (value - h.u) u.

    With the partner's coordinate it is an interchange (Geiger et al., arXiv 2303.02536), with the mean of the
    other class a mean ablation, with 0 the ablation of Arditi et al. (arXiv 2406.11717).

    Raises:
        ShapeError: a direction is not finite or not of length 1 (one of length 0 changes nothing); in the pass, where
            its width differs.
    """
    check_unit(directions, or_zero=True)

    def operation(live: Tensor, rows: Rows) -> Tensor:
        along = fitting(directions, live, "the direction")[rows.case]
        now = einsum(live, along, "row d, row d -> row")
        change = values.to(live)[rows.case, rows.slot] - now
        return live + change[:, None] * along

    return edit_at(hook_name, positions, operation)


def set_in_subspace(
    hook_name: str,
    positions: Int[Tensor, "case site"],
    bases: Float[Tensor, "case d k"],
    values: Float[Tensor, "case site k"],
) -> Edit:
    """Set the coordinates in a subspace and leave the rest: h + B (values - B'h).

    `basis.expand(n_cases, -1, -1)` gives every case the same subspace without copying it.

    Raises:
        ShapeError: a basis is not finite or not orthonormal; in the pass, where its width differs.
    """
    check_basis(bases[:1] if bases.stride(0) == 0 else bases)

    def operation(live: Tensor, rows: Rows) -> Tensor:
        along = fitting(bases.mT, live, "the basis")[rows.case]
        change = values.to(live)[rows.case, rows.slot] - einsum(
            along, live, "row k d, row d -> row k"
        )
        return live + einsum(along, change, "row k d, row k -> row d")

    return edit_at(hook_name, positions, operation)


def interchange_subspace(
    hook_name: str,
    positions: Int[Tensor, "case site"],
    bases: Float[Tensor, "case d k"],
    partner: Float[Tensor, "case site d"],
) -> Edit:
    """Give each case its partner's part in a subspace (distributed interchange, arXiv 2303.02536, section 3).

    Raises:
        ShapeError: see `set_in_subspace`.
    """
    along = fitting(bases.mT, partner.flatten(0, 1), "the basis")
    values = einsum(partner, along, "case site d, case k d -> case site k")
    return set_in_subspace(hook_name, positions, bases, values)


def add_direction(
    hook_name: str,
    positions: Int[Tensor, "case site"],
    directions: Float[Tensor, "case d"],
    amounts: Float[Tensor, "case site"],
) -> Edit:
    """Add amount * direction at the chosen tokens (steering, arXiv 2312.06681).

    Raises:
        ShapeError: a direction is not finite; in the pass, where the widths differ.
    """
    check_numbers(directions, "the direction")

    def operation(live: Tensor, rows: Rows) -> Tensor:
        along = fitting(directions, live, "the direction")[rows.case]
        return live + amounts.to(live)[rows.case, rows.slot][:, None] * along

    return edit_at(hook_name, positions, operation)


def change_at(hook_name: str, positions: Int[Tensor, "case site"], change: Change) -> Edit:
    """Apply any function of the activation at the chosen tokens, such as an SAE feature's clamp."""
    return edit_at(hook_name, positions, lambda live, _rows: change(live))


def steer_everywhere(hook_name: str, direction: Float[Tensor, "d"], amount: float) -> Edit:
    """Add amount * direction at every token, also at each step of generation.

    Raises:
        ShapeError: see `add_direction`.
    """
    check_numbers(direction, "the direction")

    def apply(live: Tensor, _context: EditContext) -> Tensor:
        return live + amount * fitting(direction, live.flatten(0, 1), "the direction")

    return Edit(hook_name=hook_name, apply=apply)


def ablate_everywhere(hook_name: str, direction: Float[Tensor, "d"], value: float = 0.0) -> Edit:
    """Hold the coordinate along a unit direction at `value` at every token.

    Raises:
        ShapeError: see `set_coordinate`.
    """
    check_unit(direction)

    def apply(live: Tensor, _context: EditContext) -> Tensor:
        along = fitting(direction, live.flatten(0, 1), "the direction")
        now = einsum(live, along, "case pos d, d -> case pos")
        return live + (value - now)[..., None] * along

    return Edit(hook_name=hook_name, apply=apply)
