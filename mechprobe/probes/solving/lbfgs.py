"""Many logistic problems over the same rows by one L-BFGS (Nocedal and Wright, Numerical Optimization, chapter 7).

Each problem is a column. A pass over the rows gives value and gradient of all columns together; columns that are
done leave. Once the passes have cost as much as the Gram matrix of the rows would have, and if the columns of the
matrix are correlated, steps are taken in its coordinates: tens of passes then do instead of hundreds.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from mechprobe.probes.solving.design import Rows
from mechprobe.probes.solving.loss import Columns, Loss
from mechprobe.probes.solving.whitening import Raw, Space, Whitened, gram_steps, is_spread

_MEMORY = 20
_HALVINGS = 25
_PATIENCE = 15
"""Steps without a smaller gradient after which a column is at the limit of its precision."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Solution:
    """Weights and offsets of the columns."""

    weight: Float[np.ndarray, "d column"]
    bias: Float[np.ndarray, "column"]


def minimise(rows: Rows, columns: Columns, *, tol: float, max_steps: int = 500) -> Solution:
    """Minimise mean log loss + strength / (2 n) |w|^2 of every column.

    Args:
        tol: largest entry of the gradient of the mean loss at which a column is done.
    """
    loss = Loss(rows, columns)
    done = _first_guess(loss)
    space, history = Raw(), _History()
    at = _evaluate(loss, space, done.clone(), torch.arange(loss.n_columns, device=done.device))
    switch = gram_steps(loss)
    for step in range(max_steps):
        done[at.which] = space.outwards(at.point, at.which)
        at.age[at.slope_size < 0.9 * at.best] = 0
        at.best.copy_(torch.minimum(at.best, at.slope_size))
        keep = torch.nonzero((at.slope_size > tol) & (at.age < _PATIENCE)).squeeze(1)
        if not len(keep):
            break
        if len(keep) < len(at.which):
            at = at.take(keep)
            history.keep(keep)
        if step == switch and is_spread(rows):
            space, history = Whitened(loss), _History()
            at = _evaluate(loss, space, space.inwards(done[at.which], at.which), at.which)
        new = _search(loss, space, at, history.direction(at.gradient))
        history.add(new.point - at.point, new.gradient - at.gradient)
        at = new
    found = done.cpu().numpy().T
    return Solution(weight=found[:-1], bias=found[-1])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _At:
    """Where the unfinished columns stand."""

    which: Integer[Tensor, "column"]
    point: Float[Tensor, "column d1"]
    value: Float[Tensor, "column"]
    gradient: Float[Tensor, "column d1"]
    slope_size: Float[Tensor, "column"]
    """Largest entry of the gradient with respect to the weights themselves."""
    best: Float[Tensor, "column"]
    age: Integer[Tensor, "column"]

    def take(self, chosen: Tensor) -> "_At":
        return _At(
            which=self.which[chosen],
            point=self.point[chosen],
            value=self.value[chosen],
            gradient=self.gradient[chosen],
            slope_size=self.slope_size[chosen],
            best=self.best[chosen],
            age=self.age[chosen],
        )


def _first_guess(loss: Loss) -> Float[Tensor, "column d1"]:
    """No weights, and the offset at the log-odds of the classes."""
    sizes = loss.class_sizes[loss.indicator]
    theta = torch.zeros(loss.n_columns, loss.rows.shape[1] + 1, dtype=torch.float64)
    theta[:, -1] = torch.log(sizes[:, 1] / sizes[:, 0]).cpu()
    return theta.to(loss.rows.device)


def _evaluate(loss: Loss, space: Space, point: Tensor, which: Tensor) -> _At:
    found = loss.evaluate(space.outwards(point, which), which)
    slope_size = found.gradient.abs().amax(dim=1)
    return _At(
        which=which,
        point=point,
        value=found.value,
        gradient=space.pulled(found.gradient, which),
        slope_size=slope_size,
        best=torch.full_like(slope_size, torch.inf),
        age=torch.zeros_like(which),
    )


def _search(loss: Loss, space: Space, at: _At, direction: Tensor) -> _At:
    """Shorten each column's step until it decreases the loss enough (Armijo), up to rounding."""
    slope = (at.gradient * direction).sum(dim=1)
    rounding = (1e-7 if loss.rows.dtype == torch.float32 else 1e-15) * at.value.abs()
    length = torch.ones_like(slope)
    point, value = at.point.clone(), at.value.clone()
    gradient, slope_size = at.gradient.clone(), at.slope_size.clone()
    waiting = torch.arange(len(slope), device=slope.device)
    for _ in range(_HALVINGS):
        step = length[waiting]
        trial = _evaluate(
            loss,
            space,
            at.point[waiting] + step[:, None] * direction[waiting],
            at.which[waiting],
        )
        before, fall = at.value[waiting], step * slope[waiting]
        fine = trial.value <= before + 1e-4 * fall + rounding[waiting]
        to = waiting[fine]
        point[to], value[to] = trial.point[fine], trial.value[fine]
        gradient[to], slope_size[to] = trial.gradient[fine], trial.slope_size[fine]
        # The lowest point of the parabola through both values and the slope.
        parabola = -fall / (2 * (trial.value - before - fall).clamp(min=1e-300))
        length[waiting] = step * parabola.clamp(0.1, 0.5)
        waiting = waiting[~fine]
        if not len(waiting):
            break
    return replace(
        at, point=point, value=value, gradient=gradient, slope_size=slope_size, age=at.age + 1
    )


class _History:
    """The last steps and gradient changes of every column, and the direction they imply."""

    def __init__(self) -> None:
        self._pairs: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, step: Tensor, change: Tensor) -> None:
        curvature = (step * change).sum(dim=1)
        inverse = torch.where(curvature > 1e-30, 1 / curvature, 0.0)
        self._pairs = [*self._pairs[-_MEMORY + 1 :], (step, change, inverse)]

    def keep(self, columns: Tensor) -> None:
        self._pairs = [(s[columns], y[columns], r[columns]) for s, y, r in self._pairs]

    def direction(self, gradient: Tensor) -> Tensor:
        """Two-loop recursion (Nocedal and Wright, Numerical Optimization, algorithm 7.4)."""
        if not self._pairs:
            return -gradient / gradient.abs().sum(dim=1, keepdim=True).clamp(min=1.0)
        q = gradient.clone()
        projections: list[Tensor] = []
        for step, change, inverse in reversed(self._pairs):
            projections.append(inverse * (step * q).sum(dim=1))
            q -= projections[-1][:, None] * change
        step, change, _ = self._pairs[-1]
        size = change.square().sum(dim=1)
        q *= torch.where(size > 0, (step * change).sum(dim=1) / size, 1.0)[:, None]
        for (step, change, inverse), projection in zip(
            self._pairs, reversed(projections), strict=True
        ):
            q += (projection - inverse * (change * q).sum(dim=1))[:, None] * step
        return -q
