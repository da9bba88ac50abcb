"""Rows that stay in an activation store: probes are fitted on them block by block.

Memory holds one block, the labels (a byte a row and indicator) and what is solved for; it does not grow with the
activations. All indicators and strengths share each pass.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int8, Integer
from torch import Tensor

from mechprobe.activations.store import ActivationStore
from mechprobe.errors import LabelError, ShapeError
from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.rows import check_classes
from mechprobe.probes.solving.design import Block, block_rows
from mechprobe.probes.solving.lbfgs import minimise
from mechprobe.probes.solving.logistic import TOLERANCE, check_positive, probes_of
from mechprobe.probes.solving.loss import logistic_columns
from mechprobe.probes.solving.standardise import Scaling, constant_columns
from mechprobe.probes.weights import ClassWeight


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StoredRows:
    """Labelled rows of a store, at one hook point or at several side by side.

    Raises:
        HookError: nothing is stored for a hook point.
        ShapeError: rows, labels and indicators do not fit each other or the store.
        LabelError: an indicator has only one class.
    """

    store: ActivationStore
    hook_names: tuple[str, ...]
    rows: Integer[np.ndarray, "tok"]
    """Row numbers; ascending ones are read fastest."""
    labels: Int8[np.ndarray, "tok indicator"]
    """1 positive, 0 negative, -1 left out."""
    indicators: tuple[str, ...]

    def __post_init__(self) -> None:
        self.store.row_numbers(self.rows)
        if self.labels.shape != (len(self.rows), len(self.indicators)) or not self.width:
            raise ShapeError(
                f"{len(self.rows)} rows, {len(self.hook_names)} hook points and {len(self.indicators)} "
                f"indicators come with labels of shape {self.labels.shape}; labels need one row a row and one "
                "column an indicator."
            )
        check_classes(self.labels, self.indicators)

    @property
    def width(self) -> int:
        """Columns of the joined rows."""
        return sum(self.store.width(name) for name in self.hook_names)

    def blocks(self, n_rows: int) -> Generator[tuple[int, Float[Tensor, "tok d"]], None, None]:
        """Rows block by block, in float32, with the place of the first."""
        for at in range(0, len(self.rows), n_rows):
            part = self.rows[at : at + n_rows]
            # A store keeps its files mapped, and pages that were read count as memory: each block opens its own.
            store = replace(self.store)
            acts = [store.acts(name, part) for name in self.hook_names]
            yield at, acts[0] if len(acts) == 1 else torch.cat(acts, dim=1)


class StreamedDesign:
    """Stored rows as the solvers read them, scaled on the way."""

    dtype = torch.float32
    is_sparse = False

    def __init__(self, rows: StoredRows, scaling: Scaling | None, device: str) -> None:
        self.device = torch.device(device)
        self.shape = (len(rows.rows), rows.width)
        self._rows = rows
        self._affine = (
            None if scaling is None else (self._on(scaling.mean), self._on(scaling.factor))
        )

    def blocks(self) -> Iterator[Block]:
        """One pass over the store."""
        for start, acts in self._rows.blocks(block_rows(self.shape[1])):
            on_device = acts.to(self.device)
            if self._affine is not None:
                on_device.sub_(self._affine[0]).mul_(self._affine[1])
            yield Block(start=start, stop=start + len(acts), X=on_device)

    def _on(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(self.device)


def streamed_scaling(rows: StoredRows) -> Scaling:
    """Mean and spread of the columns, as `standardise.scaling_of` gives them, from one pass.

    Raises:
        LabelError: a value is not finite.
    """
    count, mean, squares = 0, np.zeros(rows.width), np.zeros(rows.width)
    for _, acts in rows.blocks(block_rows(rows.width)):
        block = acts.double()
        if not bool(torch.isfinite(block).all()):
            raise LabelError(
                f"a value at {', '.join(rows.hook_names)} is not finite; look for overflowing layers (capture in "
                "bfloat16 or float32) before fitting probes."
            )
        # Chan, Golub and LeVeque 1983: blocks are joined around their own means, which loses no digits.
        own = block.mean(dim=0)
        spread = (block - own).square_().sum(dim=0).numpy()
        apart, total = own.numpy() - mean, count + len(block)
        squares += spread + apart**2 * count * len(block) / total
        mean, count = mean + apart * len(block) / total, total
    std = np.sqrt(squares / count)
    std[constant_columns(std, mean)] = 0
    return Scaling(mean=mean, factor=np.divide(1.0, std, out=np.zeros_like(std), where=std > 0))


def fit_streamed_logistic(
    rows: StoredRows,
    strengths: Sequence[float] = (1.0,),
    *,
    tol: float = TOLERANCE,
    standardise: bool = True,
    class_weight: ClassWeight = None,
    sample_weight: Float[np.ndarray, "weight"] | None = None,
    device: str = "cpu",
) -> list[tuple[LinearProbe, ...]]:
    """For each strength, one probe for each indicator: those of `fit_logistic`, without the rows in memory.

    Args:
        device: where blocks are multiplied; tested on the CPU only.

    Raises:
        ConfigError: a strength is not positive.
        ShapeError: there is not one weight a row.
        LabelError: a value is not finite, a weight is negative, or a class weighs nothing.
    """
    check_positive(strengths, "l2_strength")
    columns = logistic_columns(
        rows.labels, np.asarray(strengths, float), class_weight, sample_weight
    )
    scaling = streamed_scaling(rows)
    if not standardise:
        scaling = Scaling(mean=np.zeros(rows.width), factor=np.ones(rows.width))
    design = StreamedDesign(rows, scaling if standardise else None, device)
    found = minimise(design, columns, tol=tol)
    weight, bias = scaling.fold(found.weight, found.bias)
    return probes_of("logistic", "l2_strength", strengths, weight, bias)
