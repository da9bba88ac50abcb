"""What every fitted probe is, whatever fitted it: it reads rows of one width and gives each a number."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from mechprobe.probes.matrix import Matrix


@runtime_checkable
class Probe(Protocol):
    """A fitted, frozen probe; a higher score says that the indicator is more likely present."""

    @property
    def kind(self) -> str:
        """How it was fitted: "logistic", "boosted", "attention", ..."""
        ...

    @property
    def settings(self) -> Mapping[str, float]:
        """What was chosen in fitting, the chosen strength first."""
        ...

    @property
    def width(self) -> int:
        """Columns of the rows that it reads."""
        ...

    def score(self, X: Matrix) -> Float32[np.ndarray, "tok"]:
        """One number for each row.

        Raises:
            ShapeError: the rows are not of the probe's width.
        """
        ...


def strength_of(probe: Probe) -> float:
    """The setting that was chosen in fitting; 0 for a kind without one."""
    return next(iter(probe.settings.values()), 0.0)
