"""The shape of most fitted probes: a direction and an offset in the space that they read."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32, Integer

from mechprobe.errors import ShapeError
from mechprobe.probes.matrix import Matrix, size_of
from mechprobe.probes.probe import strength_of
from mechprobe.probes.stored import Stored


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LinearProbe:
    """A fitted linear probe. There is no unfitted state: the `fit_*` functions make it."""

    kind: str
    """How it was fitted: "logistic", "difference_of_means", "k_sparse", ..."""
    weight: Float32[np.ndarray, "d"]
    """Change of the score with each coordinate of the *raw* activations: standardisation is folded in."""
    bias: float
    settings: Mapping[str, float] = field(default_factory=dict[str, float])
    """What was chosen in fitting, for instance {"l2_strength": 100.0} or {"k": 8.0}."""

    @property
    def width(self) -> int:
        """Columns of the rows that it reads."""
        return len(self.weight)

    def score(self, X: Matrix) -> Float32[np.ndarray, "tok"]:
        """One number for each row; log-odds for the logistic kinds.

        Raises:
            ShapeError: the rows are not as wide as those the probe was fitted on.
        """
        check_width(X, len(self.weight), f"a {self.kind} probe")
        return np.asarray(X @ self.weight + np.float32(self.bias), dtype=np.float32)

    @property
    def features(self) -> Integer[np.ndarray, "k"]:
        """Coordinates that the score depends on."""
        return np.flatnonzero(self.weight)

    @property
    def strength(self) -> float:
        """The setting that was chosen in fitting; 0 for a kind without one."""
        return strength_of(self)

    def raw_direction(self) -> Float32[np.ndarray, "d"]:
        """Unit vector along which the score rises fastest, in raw activation space."""
        norm = np.linalg.norm(self.weight)
        return self.weight / norm if norm > 0 else self.weight

    def stored(self) -> Stored:
        """The probe in parts."""
        return Stored(
            form="linear",
            kind=self.kind,
            settings=self.settings,
            tensors={"weight": self.weight, "bias": np.array([self.bias])},
        )

    @staticmethod
    def restored(parts: Stored) -> "LinearProbe":
        """The probe put together again."""
        return LinearProbe(
            kind=parts.kind,
            weight=parts.tensors["weight"],
            bias=float(parts.tensors["bias"][0]),
            settings=parts.settings,
        )


def check_width(X: Matrix, width: int, owner: str) -> None:
    """Raise ShapeError unless the rows have `width` columns."""
    if size_of(X)[1] != width:
        raise ShapeError(
            f"{owner} reads rows of width {width}, got {size_of(X)[1]}; read the hook point and SAE that it "
            "was fitted on (they stand in its record)."
        )
