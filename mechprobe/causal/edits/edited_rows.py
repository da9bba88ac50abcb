"""The one way an edit reaches its tokens: take the chosen rows out, change them, put them back.

Everything else in a batch keeps its bits. An *operation* says what happens to a row of activations, whoever chose it;
a *chooser* says which rows a pass holds, whatever happens to them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.errors import ShapeError
from mechprobe.models.hooks import Edit, EditContext

UNIT_TOLERANCE = 1e-2
"""How far the length of a unit vector may be from 1: bfloat16 keeps three digits."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Rows:
    """The tokens of one pass that are edited."""

    case: Int[Tensor, "row"]
    slot: Int[Tensor, "row"]
    """Which of its case's chosen tokens each is, counted from 0."""
    position: Int[Tensor, "row"]
    """Index in its own sequence, without padding."""
    column: Int[Tensor, "row"]
    """Index in the pass, with padding."""


Operation = Callable[[Float[Tensor, "row d"], Rows], Float[Tensor, "row d"]]
"""Activations of the chosen tokens and which they are -> new activations; the given ones stay as they are."""
Chooser = Callable[[EditContext], Rows]


def edit_rows(hook_name: str, choose: Chooser, operation: Operation) -> Edit:
    """An edit of the rows that a chooser finds; a pass that holds none of them does not count as a firing."""

    def apply(live: Tensor, context: EditContext) -> Tensor:
        rows = choose(context)
        if len(rows.case) == 0:
            return live
        changed = operation(live[rows.case, rows.column], rows)
        edited = live.clone()
        edited[rows.case, rows.column] = changed.to(live.dtype)
        return edited

    return Edit(hook_name=hook_name, apply=apply)


def edit_at(hook_name: str, positions: Int[Tensor, "case site"], operation: Operation) -> Edit:
    """An edit at given tokens of each case, counted in its own sequence; -1 fills up."""
    return edit_rows(hook_name, lambda context: _rows_at(positions, context), operation)


def fitting(
    values: Float[Tensor, "*axes d"], acts: Float[Tensor, "row d_acts"], what: str
) -> Tensor:
    """The values in the precision and on the device of the activations.

    Raises:
        ShapeError: they are not as wide.
    """
    if values.shape[-1] != acts.shape[-1]:
        raise ShapeError(
            f"{what} has {values.shape[-1]} numbers, the hook point has {acts.shape[-1]}; take it from activations of "
            "the hook point that is edited."
        )
    return values.to(acts)


def check_numbers(values: Float[Tensor, "..."], what: str) -> None:
    """Raise a ShapeError where a number is NaN or infinite."""
    if not bool(values.isfinite().all()):
        n_bad = int((~values.isfinite()).sum())
        raise ShapeError(
            f"{what} has {n_bad} numbers of {values.numel()} that are NaN or infinite; fit it again on activations "
            "without them."
        )


def check_unit(
    directions: Float[Tensor, "*axes d"], what: str = "the direction", *, or_zero: bool = False
) -> None:
    """Raise a ShapeError unless every vector has finite numbers and length 1, or 0 where that is allowed."""
    check_numbers(directions, what)
    lengths = directions.norm(dim=-1).flatten()
    is_wrong = (lengths - 1).abs() > UNIT_TOLERANCE
    if or_zero:
        is_wrong &= lengths > 0
    if bool(is_wrong.any()):
        raise ShapeError(
            f"{what} has length {float(lengths[is_wrong][0]):g}; divide it by its length, so that it has 1."
        )


def check_basis(basis: Float[Tensor, "*axes d k"], what: str = "the basis") -> None:
    """Raise a ShapeError unless the columns are finite, of length 1 and orthogonal."""
    check_numbers(basis, what)
    products = basis.mT @ basis
    off = (products - torch.eye(basis.shape[-1], device=basis.device, dtype=basis.dtype)).abs()
    if off.numel() and float(off.max()) > UNIT_TOLERANCE:
        raise ShapeError(
            f"{what} of {basis.shape[-1]} vectors in {basis.shape[-2]} dimensions is not orthonormal (products are off "
            f"by {float(off.max()):g}); use torch.linalg.qr(...).Q, one vector a column."
        )


def _rows_at(positions: Int[Tensor, "case site"], context: EditContext) -> Rows:
    """The tokens of these positions that this pass holds; filling and padding never meet."""
    here = context.positions
    if len(positions) != len(here):
        raise ShapeError(
            f"positions are given for {len(positions)} cases, the batch has {len(here)}; give one row for each."
        )
    wanted = positions.to(here.device)[:, :, None]
    found = (wanted == here[:, None, :]) & (wanted >= 0)
    case, slot, column = torch.nonzero(found, as_tuple=True)
    return Rows(case=case, slot=slot, position=here[case, column], column=column)
