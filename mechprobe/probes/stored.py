"""How a probe is taken apart for the disk and put together again, exactly."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from mechprobe.probes.probe import Probe


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Stored:
    """A probe in parts: arrays keep their bits, numbers in `text` are written so that they are read back equal."""

    form: str
    """Which class it is: "linear", "boosted", ..."""
    kind: str
    settings: Mapping[str, float]
    tensors: Mapping[str, np.ndarray] = field(default_factory=dict[str, np.ndarray])
    text: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What JSON can hold."""
    inner: Probe | None = None
    """The probe that this one stands on, if it does."""


@runtime_checkable
class Storable(Probe, Protocol):
    """A probe that a bank can keep."""

    def stored(self) -> Stored:
        """The probe in parts."""
        ...
