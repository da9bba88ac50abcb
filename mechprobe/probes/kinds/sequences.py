"""Units that are runs of rows (a sentence, a turn, a transcript), with a label for the whole and none for a row."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int8, Integer

from mechprobe.errors import ShapeError
from mechprobe.probes.matrix import Matrix, size_of
from mechprobe.probes.probe import Probe
from mechprobe.probes.rows import LabelledRows

Starts = Integer[np.ndarray, "unit"]
"""First row of each unit; a unit ends where the next begins, the last one with the rows."""


@runtime_checkable
class SequenceProbe(Probe, Protocol):
    """A probe that reads a whole unit, and can also say what each of its rows is worth."""

    def score_units(self, X: Matrix, starts: Starts) -> Float32[np.ndarray, "unit"]:
        """One number for each unit.

        Raises:
            ShapeError: the rows are not of the probe's width, or the starts do not divide them.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class HeldOutUnits:
    """Units that a setting is chosen on; an indicator may lack a class there."""

    X: Matrix
    starts: Starts
    labels: Int8[np.ndarray, "unit indicator"]
    """1 positive, 0 negative, -1 left out."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LabelledUnits:
    """Units with their labels for every indicator.

    Raises:
        ShapeError: the starts do not divide the rows, or the labels and indicators do not fit them.
        LabelError: a value is not finite, or an indicator has units of only one class.
    """

    X: Matrix
    starts: Starts
    labels: Int8[np.ndarray, "unit indicator"]
    """1 positive, 0 negative, -1 left out."""
    indicators: tuple[str, ...]

    def __post_init__(self) -> None:
        check_starts(self.starts, size_of(self.X)[0])
        if self.labels.shape != (len(self.starts), len(self.indicators)):
            raise ShapeError(
                f"{len(self.starts)} units and {len(self.indicators)} indicators come with labels of shape "
                f"{self.labels.shape}; labels need one row a unit and one column an indicator."
            )
        _ = self.rows

    @property
    def lengths(self) -> Integer[np.ndarray, "unit"]:
        """Rows of each unit."""
        return lengths_of(self.starts, size_of(self.X)[0])

    @property
    def rows(self) -> LabelledRows:
        """Every row with the label of its unit."""
        return LabelledRows(
            X=self.X,
            labels=np.repeat(self.labels, self.lengths, axis=0),
            indicators=self.indicators,
        )


def lengths_of(starts: Starts, n_rows: int) -> Integer[np.ndarray, "unit"]:
    """Rows of each unit."""
    return np.diff(np.r_[starts, n_rows])


def check_starts(starts: Starts, n_rows: int) -> None:
    """Raise ShapeError unless the units cover all rows and none is empty."""
    if not len(starts) or starts[0] != 0 or (lengths_of(starts, n_rows) < 1).any():
        raise ShapeError(
            f"starts {starts[:5].tolist()}... of {len(starts)} units do not divide {n_rows} rows; they must "
            "begin with 0, rise, and stay below the number of rows."
        )
