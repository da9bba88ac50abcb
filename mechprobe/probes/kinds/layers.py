"""Probes over several hook points at once: their rows side by side, and the weights apart again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float32

from mechprobe.errors import ConfigError, ShapeError
from mechprobe.probes.matrix import Matrix, is_sparse, size_of

_JOINT = " + "


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Which columns belong to which hook point, in order.

    Raises:
        ConfigError: there is no hook point, one stands twice, or there is not one width above 0 for each.
    """

    hook_names: tuple[str, ...]
    widths: tuple[int, ...]

    def __post_init__(self) -> None:
        names = self.hook_names
        if not names or len(set(names)) < len(names) or len(names) != len(self.widths):
            raise ConfigError(
                f"hook points {names} come with widths {self.widths}; name each hook point once, with one width."
            )
        if min(self.widths) < 1:
            raise ConfigError(f"widths are {self.widths}; each must be at least 1.")

    @property
    def hook_name(self) -> str:
        """One name for all, which a probe set can stand under."""
        return _JOINT.join(self.hook_names)

    @property
    def width(self) -> int:
        """Columns of the joined rows."""
        return sum(self.widths)

    def join(self, parts: Mapping[str, Matrix]) -> Matrix:
        """The same rows of every hook point side by side; sparse if all parts are.

        Raises:
            ConfigError: a hook point is missing.
            ShapeError: a part is of another width, or the parts differ in rows.
        """
        missing = [name for name in self.hook_names if name not in parts]
        if missing:
            raise ConfigError(
                f"no rows of {', '.join(missing)}; these probes read {self.hook_name} together."
            )
        ordered = [parts[name] for name in self.hook_names]
        sizes = [size_of(part) for part in ordered]
        if tuple(d for _, d in sizes) != self.widths or len({n for n, _ in sizes}) > 1:
            raise ShapeError(
                f"rows of {self.hook_name} have shapes {sizes}; wanted widths {self.widths} and the same "
                "rows of each."
            )
        return join_columns(ordered)

    def split(self, weight: Float32[np.ndarray, "d ..."]) -> dict[str, Float32[np.ndarray, "..."]]:
        """The slice of each hook point.

        Raises:
            ShapeError: the weight is not as long as the joined rows are wide.
        """
        if len(weight) != self.width:
            raise ShapeError(
                f"a weight of length {len(weight)} for {self.width} joined columns of {self.hook_name}."
            )
        slices = np.split(weight, np.cumsum(self.widths)[:-1])
        return dict(zip(self.hook_names, slices, strict=True))


def layout_of(parts: Mapping[str, Matrix]) -> Layout:
    """The layout of these matrices in their order."""
    return Layout(
        hook_names=tuple(parts), widths=tuple(size_of(part)[1] for part in parts.values())
    )


def join_columns(parts: Sequence[Matrix]) -> Matrix:
    """Matrices over the same rows, side by side; sparse if all are, else dense."""
    if all(is_sparse(part) for part in parts):
        return sp.csr_matrix(sp.hstack(list(parts), format="csr"))
    dense = [part.toarray() if is_sparse(part) else np.asarray(part) for part in parts]
    return np.concatenate(dense, axis=1)
