"""Coordinates in which all logistic columns curve about equally in every direction."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from mechprobe.probes.solving.design import Rows
from mechprobe.probes.solving.loss import Loss

_ROWS_PER_COLUMN = 8
"""Rows that the Gram matrix is estimated from, for each column of it; a sample is as good as all."""
_MAX_WIDTH = 8192
_NEVER = 1 << 30
_PROBES = 8
_SPREAD = 2.0


@runtime_checkable
class Space(Protocol):
    """Coordinates of the weights and the offset (last) of some columns."""

    def outwards(
        self, point: Float[Tensor, "column d1"], which: Integer[Tensor, "column"]
    ) -> Float[Tensor, "column d1"]:
        """Weights and offset of a point."""
        ...

    def pulled(
        self, gradient: Float[Tensor, "column d1"], which: Integer[Tensor, "column"]
    ) -> Float[Tensor, "column d1"]:
        """The gradient with respect to the point, from that with respect to the weights."""
        ...


class Raw:
    """The weights themselves."""

    def outwards(self, point: Tensor, which: Tensor) -> Tensor:
        """See `Space`."""
        del which
        return point

    def pulled(self, gradient: Tensor, which: Tensor) -> Tensor:
        """See `Space`."""
        del which
        return gradient


class Whitened:
    """w = U^-1 u, with U'U = curvature * Gram / n + decay * identity, one U for each penalty strength."""

    def __init__(self, loss: Loss) -> None:
        share = loss.class_sizes[:, 1] / loss.class_sizes.sum(dim=1)
        curvature = float((share * (1 - share)).mean())
        self._offset_scale = curvature**0.5
        gram = gram_of(loss.rows) * curvature
        self._group = torch.unique(loss.strength, return_inverse=True)[1]
        self._factors: list[Tensor] = []
        for group in range(int(self._group.max()) + 1):
            decay = float(loss.decay[self._group == group].mean())
            shifted = gram + torch.eye(len(gram), device=gram.device, dtype=gram.dtype) * decay
            self._factors.append(torch.linalg.cholesky(shifted, upper=True).to(loss.rows.dtype))

    def outwards(self, point: Tensor, which: Tensor) -> Tensor:
        """See `Space`."""
        return self._solved(point, which, transposed=False)

    def pulled(self, gradient: Tensor, which: Tensor) -> Tensor:
        """See `Space`."""
        return self._solved(gradient, which, transposed=True)

    def inwards(self, theta: Tensor, which: Tensor) -> Tensor:
        """The point of some weights and offsets."""
        point = theta.clone()
        for group, factor in enumerate(self._factors):
            mine = self._group[which] == group
            point[mine, :-1] = theta[mine, :-1] @ factor.mT.to(theta.dtype)
        point[:, -1] *= self._offset_scale
        return point

    def _solved(self, values: Tensor, which: Tensor, *, transposed: bool) -> Tensor:
        out = values / self._offset_scale
        for group, factor in enumerate(self._factors):
            mine = self._group[which] == group
            if mine.any():
                right = values[mine, :-1].to(factor.dtype).mT
                solved = (
                    torch.linalg.solve_triangular(factor.mT, right, upper=False)
                    if transposed
                    else torch.linalg.solve_triangular(factor, right, upper=True)
                )
                out[mine, :-1] = solved.mT.to(values.dtype)
        return out


def gram_steps(loss: Loss) -> int:
    """After how many steps the passes have cost about as much as the Gram matrix."""
    n_rows, width = loss.rows.shape
    if loss.rows.is_sparse or not loss.is_free or width > _MAX_WIDTH:
        return _NEVER
    # A Gram matrix multiplies about 2.5 times as fast as a pass, whose products are thin, and is symmetric.
    n_sampled = min(n_rows, _ROWS_PER_COLUMN * width)
    return n_sampled * width // (10 * n_rows * loss.n_columns)


def is_spread(rows: Rows) -> bool:
    """Whether the eigenvalues of the Gram matrix differ so much that steps in its coordinates pay.

    Compares their mean square with that of independent columns, 1 + d / n of the mean, from one pass with random
    vectors (Hutchinson's estimate).
    """
    n_rows, width = rows.shape
    generator = torch.Generator().manual_seed(0)
    probes = torch.randn(_PROBES, width, generator=generator, dtype=rows.dtype).to(rows.device)
    image, trace = torch.zeros_like(probes, dtype=torch.float64), 0.0
    for block in rows.blocks():
        projected = block.forward(probes)
        trace += float(projected.square().sum()) / _PROBES
        image += block.adjoint(projected)
    mean, mean_square = trace / width, float(image.square().sum()) / _PROBES / width
    return mean_square > _SPREAD * (1 + width / n_rows) * mean**2


def gram_of(rows: Rows) -> Float[Tensor, "d d"]:
    """Mean of x x' over a sample of the rows, evenly spread, in float64."""
    n_rows, width = rows.shape
    step = max(1, n_rows // (_ROWS_PER_COLUMN * width))
    gram = torch.zeros(width, width, dtype=torch.float64, device=rows.device)
    n_sampled = 0
    for block in rows.blocks():
        sample = block.X[-block.start % step :: step]
        gram += squared(sample)
        n_sampled += len(sample)
    return gram / n_sampled


def squared(X: Float[Tensor, "tok d"]) -> Float[Tensor, "d d"]:
    """X'X. On a processor by numpy, which knows that it is symmetric and so takes half the time."""
    if X.device.type != "cpu":
        return X.mT @ X
    values = X.numpy()
    return torch.from_numpy(values.T @ values)
