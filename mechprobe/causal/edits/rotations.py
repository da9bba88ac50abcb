"""Steering by rotation, which keeps the length of every activation.

Normalisation layers read an activation's direction, so an angle says how far it is moved, whatever its length
(Angular Steering, arXiv 2510.26243; its rule h - Ph + |Ph| (cos t b1 + sin t b2) was checked against the authors' code,
github.com/lone17/angular-steering, vllm_angular_steering.py).
"""

import math

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from mechprobe.causal.edits.edited_rows import (
    Operation,
    Rows,
    check_basis,
    check_numbers,
    check_unit,
    fitting,
)
from mechprobe.errors import ShapeError


def plane_of(first: Float[Tensor, "d"], second: Float[Tensor, "d"]) -> Float[Tensor, "d 2"]:
    """An orthonormal basis of the plane of two directions, whose first vector points along the first.

    Raises:
        ShapeError: they span no plane.
    """
    check_numbers(first, "the first direction")
    check_numbers(second, "the second direction")
    start = first / first.norm()
    rest = second - einsum(second, start, "d, d ->") * start
    if not float(rest.norm()) > 1e-4 * float(second.norm()):
        raise ShapeError(
            "the two directions point the same way or one has length 0, so they span no plane; choose another second one."
        )
    return torch.stack([start, rest / rest.norm()], dim=1)


def rotate_to(
    plane: Float[Tensor, "d 2"], degrees: float, *, only_aligned: bool = False
) -> Operation:
    """Turn the part of an activation inside a plane to an angle from the plane's first vector (arXiv 2510.26243).

    Args:
        only_aligned: leave activations alone whose coordinate along the first vector is not above 0 (the adaptive
            variant there).

    Raises:
        ShapeError: the plane is not finite or not orthonormal; in the pass, where its width differs.
    """
    _check_plane(plane, degrees)
    aim = _circle(degrees)

    def operation(acts: Tensor, _rows: Rows) -> Tensor:
        along = fitting(plane.mT, acts, "the plane")
        inside = einsum(along, acts, "side d, row d -> row side")
        wanted = inside.norm(dim=-1, keepdim=True) * aim.to(acts)
        turned = acts + einsum(along, wanted - inside, "side d, row side -> row d")
        return torch.where(inside[:, :1] > 0, turned, acts) if only_aligned else turned

    return operation


def rotate_by(plane: Float[Tensor, "d 2"], degrees: float) -> Operation:
    """Turn the part of an activation inside a plane by an angle, from the plane's first vector towards its second.

    Raises:
        ShapeError: see `rotate_to`.
    """
    _check_plane(plane, degrees)
    cosine, sine = _circle(degrees).tolist()
    matrix = torch.tensor([[cosine, -sine], [sine, cosine]])

    def operation(acts: Tensor, _rows: Rows) -> Tensor:
        along = fitting(plane.mT, acts, "the plane")
        inside = einsum(along, acts, "side d, row d -> row side")
        wanted = einsum(matrix.to(acts), inside, "new side, row side -> row new")
        return acts + einsum(along, wanted - inside, "side d, row side -> row d")

    return operation


def turn_to(direction: Float[Tensor, "d"], degrees: float) -> Operation:
    """Turn each whole activation, in its plane with a direction, until it is at an angle of `degrees` from it.

    90 takes the direction out at full length, 0 leaves nothing but the direction. An activation along the direction
    itself spans no plane with it and stays as it is.

    Raises:
        ShapeError: the direction is not finite or not of length 1, or the angle is not from 0 to 180; in the pass,
            where its width differs.
    """
    check_unit(direction)
    if not 0 <= degrees <= 180:
        raise ShapeError(f"the angle is {degrees}; an angle from a direction is from 0 to 180.")
    aim = _circle(degrees)

    def operation(acts: Tensor, _rows: Rows) -> Tensor:
        along = fitting(direction, acts, "the direction")
        rest = acts - einsum(acts, along, "row d, d -> row")[:, None] * along
        lengths = acts.norm(dim=-1, keepdim=True)
        rest_lengths = rest.norm(dim=-1, keepdim=True)
        # What rounding leaves over along the direction itself is no direction of its own.
        has_plane = rest_lengths > lengths * torch.finfo(acts.dtype).eps * 8
        cosine, sine = aim.to(acts)
        turned = lengths * (cosine * along + sine * rest / rest_lengths)
        return torch.where(has_plane, turned, acts)

    return operation


def _circle(degrees: float) -> Float[Tensor, "2"]:
    angle = math.radians(degrees)
    return torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)


def _check_plane(plane: Float[Tensor, "d 2"], degrees: float) -> None:
    check_basis(plane, "the plane")
    if not math.isfinite(degrees):
        raise ShapeError(f"the angle is {degrees}; it must be a number of degrees.")
