"""A probe whose scores are mapped to another scale, for instance to probabilities, wherever they are asked for."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from mechprobe.probes.matrix import Matrix
from mechprobe.probes.probe import Probe
from mechprobe.probes.scoring.calibration import Calibration, calibration_from_json
from mechprobe.probes.stored import Stored


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CalibratedProbe:
    """A probe and the map of its scores; it is of the probe's kind and reads what the probe reads."""

    probe: Probe
    calibration: Calibration

    @property
    def kind(self) -> str:
        """How the probe was fitted."""
        return self.probe.kind

    @property
    def settings(self) -> Mapping[str, float]:
        """What was chosen in fitting the probe."""
        return self.probe.settings

    @property
    def width(self) -> int:
        """Columns of the rows that it reads."""
        return self.probe.width

    def score(self, X: Matrix) -> Float32[np.ndarray, "tok"]:
        """One mapped score for each row.

        Raises:
            ShapeError: the rows are not of the probe's width.
        """
        return np.asarray(self.calibration.apply(self.probe.score(X)), dtype=np.float32)

    def stored(self) -> Stored:
        """The probe in parts."""
        return Stored(
            form="calibrated",
            kind=self.kind,
            settings=self.settings,
            text={"calibration": self.calibration.to_json()},
            inner=self.probe,
        )

    @staticmethod
    def restored(parts: Stored) -> "CalibratedProbe":
        """The probe put together again.

        Raises:
            DataError: what is stored is no calibration that is known here.
        """
        if parts.inner is None:
            raise KeyError("inner")
        return CalibratedProbe(
            probe=parts.inner, calibration=calibration_from_json(parts.text["calibration"])
        )
