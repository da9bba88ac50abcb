"""One fitted probe of arXiv 2606.24251, as its authors store it (`detector.pt`).

Their layer L is `hidden_states[L]` of transformers, which is the output of block L - 1. Their score is
((x - mean) / scale) . direction with no bias; folded here into one direction and one bias on raw activations.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from mechprobe.errors import CheckpointError
from mechprobe.probes.exchange.pickled_arrays import StandIn, as_array
from mechprobe.probes.exchange.torch_files import read_arrays
from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.solving.standardise import Scaling

_MIN_SCALE = 1e-8
"""The authors' scoring clamps the scale here too."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Detector:
    """One fitted probe as its authors store it."""

    layer: int
    direction: Float64[np.ndarray, "d"]
    """Weights on scaled activations."""
    scaling: Scaling
    l2_strength: float

    def raw(self) -> tuple[Float64[np.ndarray, "d"], float]:
        """Weight and bias that give the same scores on raw activations."""
        weight, bias = self.scaling.fold(self.direction[:, None], np.zeros(1))
        return weight[:, 0], float(bias[0])

    def probe(self) -> LinearProbe:
        """The probe on raw activations, its weights in float32."""
        weight, bias = self.raw()
        return LinearProbe(
            kind="paper_recipe",
            weight=weight.astype(np.float32),
            bias=bias,
            settings={"l2_strength": self.l2_strength},
        )


def read_detector(path: Path) -> Detector:
    """Read one `detector.pt` without running anything in it.

    Raises:
        CheckpointError: the file is damaged or refused, or is no linear probe of one layer.
    """
    value = read_arrays(path)
    fields: Any = value.fields if isinstance(value, StandIn) else value
    if not isinstance(fields, dict) or not {"layers", "directions"} <= fields.keys():
        held = ", ".join(map(str, fields)) if isinstance(fields, dict) else type(fields).__name__
        raise CheckpointError(
            f"{path} holds {held[:200]}; a linear detector holds layers and directions."
        )
    layers, directions = fields["layers"], as_array(fields["directions"])
    if (
        not isinstance(layers, list)
        or directions is None
        or directions.shape[:-1] not in [(), (1,)]
    ):
        raise CheckpointError(
            f"{path} has layers {layers} and directions of shape "
            f"{None if directions is None else directions.shape}; a probe here is one direction at one layer."
        )
    direction = directions.reshape(-1).astype(np.float64)
    return Detector(
        layer=_only_layer(layers, path),
        direction=_finite(direction, "directions", path),
        scaling=_scaling(fields, len(direction), path),
        l2_strength=float(fields.get("reg_coeff") or 0.0),
    )


def _only_layer(layers: list[Any], path: Path) -> int:
    if len(layers) != 1 or not isinstance(layers[0], int) or layers[0] < 0:
        raise CheckpointError(f"{path} reads layers {layers}; a probe here reads one.")
    return layers[0]


def _scaling(fields: Mapping[Any, Any], width: int, path: Path) -> Scaling:
    mean, scale = as_array(fields.get("scaler_mean")), as_array(fields.get("scaler_scale"))
    if not fields.get("normalize", mean is not None):
        return Scaling(mean=np.zeros(width), factor=np.ones(width))
    if mean is None or scale is None or {mean.size, scale.size} != {width}:
        raise CheckpointError(
            f"{path} says that it scales activations of width {width}, but its scaler has "
            f"{[None if part is None else part.size for part in (mean, scale)]} numbers; copy it again."
        )
    scale = np.maximum(
        _finite(scale.reshape(-1).astype(np.float64), "scaler_scale", path), _MIN_SCALE
    )
    mean = _finite(mean.reshape(-1).astype(np.float64), "scaler_mean", path)
    return Scaling(mean=mean, factor=1 / scale)


def _finite(values: np.ndarray, name: str, path: Path) -> np.ndarray:
    if n_bad := int(np.sum(~np.isfinite(values))):
        raise CheckpointError(
            f"{path} has {n_bad} numbers in {name} that are not finite; copy or fit it again."
        )
    return values
