"""Linear probes of other projects, out of files that hold numbers: npz, safetensors, torch's own, JSON.

Read are scikit-learn's `coef_` and `intercept_`, a `state_dict` with one linear layer, and a weight with a bias beside a
JSON file that says what they are, which is how SAELens lays out a folder. Files of Python objects (pkl, joblib, skops)
are refused.
"""

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import Float64
from safetensors import SafetensorError, safe_open

from mechprobe.errors import CheckpointError
from mechprobe.probes.exchange.pickled_arrays import as_array
from mechprobe.probes.exchange.torch_files import read_arrays
from mechprobe.probes.solving.standardise import Scaling

FITTED_MEAN, FITTED_FACTOR = "fitted_mean", "fitted_factor"
"""Names under which the exports of this project keep the scaling that is folded in."""
SUFFIXES = (".npz", ".safetensors", ".pt", ".pth", ".json")
_TORCH = (".pt", ".pth")
"""Read by `torch_files`, which runs nothing; whatever is not numbers and text is refused there."""
_PICKLES = (".pkl", ".pickle", ".joblib", ".skops", ".bin", ".sav")
_WEIGHT = ("weight", "weights", "coef_", "coef", "direction", "directions", "W", "w")
_BIAS = ("bias", "intercept_", "intercept", "b")
_MEAN = ("mean", "mean_", "scaler_mean")
_SCALE = ("scale", "scale_", "std", "scaler_scale")
_SIDE_CARS = ("probe.json", "cfg.json", "config.json", "meta.json")
_NESTED = ("metadata", "model_target")
"""SAELens keeps model and hook point in "metadata"."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PlainProbes:
    """The probes of one file, on raw activations."""

    weight: Float64[np.ndarray, "probe d"]
    bias: Float64[np.ndarray, "probe"]
    scalings: tuple[Scaling, ...]
    """For each probe the scaling of the rows that it was fitted on, which is folded in; none if it is not known."""
    about: Mapping[str, Any]
    """What the JSON beside it says."""


def read_plain(path: Path, n_probes: int | None = None) -> PlainProbes:
    """Read the weights of one file.

    Args:
        n_probes: how many probes are wanted, which tells apart a weight that lies on its side; two rows for one probe
            are a softmax over two classes, whose log-odds are the difference.

    Raises:
        CheckpointError: the file is missing, damaged or a pickle, or holds no linear probe.
    """
    numbers, about = _read(path)
    weight = _pick(numbers, _WEIGHT, path)
    if weight is None or weight.ndim not in (1, 2) or weight.size == 0:
        raise CheckpointError(
            f"{path} holds {_shapes(numbers)}; a linear probe needs a weight of shape [d] or [probes, d], named "
            f"one of {', '.join(_WEIGHT)}."
        )
    bias = _pick(numbers, _BIAS, path)
    weight, bias = _oriented(np.atleast_2d(weight), bias, n_probes, path)
    scalings = _fitted_scalings(numbers, weight.shape, path)
    if scaling := _scaling_in(numbers, weight.shape[1], path):
        raw, raw_bias = scaling.fold(weight.T, bias)
        weight, bias, scalings = raw.T, raw_bias, (scaling,) * len(weight)
    return PlainProbes(weight=weight, bias=bias, scalings=scalings, about=about)


def refuse_pickle(path: Path) -> None:
    """Raise CheckpointError for a file that can only be read by running it."""
    if path.suffix.lower() in _PICKLES:
        raise CheckpointError(
            f"{path} ({path.suffix}) holds Python objects, and reading those can run code, so it is not read; load it where you "
            "trust it and give the fitted model to `import_sklearn`, or save coef_ and intercept_ with numpy.savez."
        )


def _read(path: Path) -> tuple[dict[str, np.ndarray], Mapping[str, Any]]:
    refuse_pickle(path)
    if not path.is_file() or path.suffix not in SUFFIXES:
        raise CheckpointError(
            f"{path} is no probe file that can be read; give one of {', '.join(SUFFIXES)}, or a folder of "
            "detector.pt files."
        )
    try:
        if path.suffix == ".npz":
            return _read_npz(path)
        if path.suffix == ".safetensors":
            return _read_safetensors(path)
        if path.suffix in _TORCH:
            return _read_torch(path)
        fields = json.loads(path.read_text(encoding="utf-8"))
        numbers = {key: value for key, value in fields.items() if isinstance(value, list | float)}
        return {key: _array(value) for key, value in numbers.items() if _is_number(value)}, fields
    except (ValueError, KeyError, AttributeError, EOFError, OSError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); copy or write it again.") from error
    except (zipfile.BadZipFile, zlib.error, SafetensorError) as error:
        raise CheckpointError(f"{path} is cut short ({error}); copy or write it again.") from error


def _read_npz(path: Path) -> tuple[dict[str, np.ndarray], Mapping[str, Any]]:
    # numpy leaves a file that it opened itself open when the zip is cut short.
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
        held = {key: stored[key] for key in stored.files}
    about = json.loads(str(held["about"])) if "about" in held else _side_car(path)
    numbers = {key: value for key, value in held.items() if value.dtype.kind in "fiu"}
    return {key: value.astype(np.float64) for key, value in numbers.items()}, about


def _read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], Mapping[str, Any]]:
    with safe_open(str(path), framework="pt") as stored:
        numbers = {key: stored.get_tensor(key).double().numpy() for key in stored.keys()}  # noqa: SIM118
        about = {**(stored.metadata() or {}), **_side_car(path)}
    return numbers, about


def _read_torch(path: Path) -> tuple[dict[str, np.ndarray], Mapping[str, Any]]:
    held = read_arrays(path)
    if not isinstance(held, dict):
        raise CheckpointError(
            f"{path} holds a {type(held).__name__}; give a dictionary of tensors, as state_dict() makes it."
        )
    arrays = {str(key): as_array(value) for key, value in cast(dict[Any, Any], held).items()}
    numbers = {key: value for key, value in arrays.items() if value is not None}
    return {key: value.astype(np.float64) for key, value in numbers.items()}, _side_car(path)


def _side_car(path: Path) -> Mapping[str, Any]:
    for name in (f"{path.stem}.json", *_SIDE_CARS):
        beside = path.with_name(name)
        if beside.is_file():
            fields = cast(dict[str, Any], json.loads(beside.read_text(encoding="utf-8")))
            nested = [fields.get(key) for key in _NESTED]
            return {
                k: v for one in (*nested, fields) if isinstance(one, dict) for k, v in one.items()
            }
    return {}


def _is_number(value: Any) -> bool:
    while isinstance(value, list) and value:
        value = cast(list[Any], value)[0]
    return isinstance(value, int | float) and not isinstance(value, bool)


def _array(value: Any) -> np.ndarray:
    return np.asarray(value, dtype=np.float64)


def _pick(
    numbers: Mapping[str, np.ndarray], names: tuple[str, ...], path: Path
) -> np.ndarray | None:
    """The one array whose name, without the module that it stands in, is among the names."""
    found = [key for key in numbers if key.rsplit(".", 1)[-1] in names]
    if len(found) > 1:
        raise CheckpointError(
            f"{path} holds {', '.join(found)}; a linear probe has one of them, so this is no linear probe."
        )
    return numbers[found[0]] if found else None


def _oriented(
    weight: np.ndarray, bias: np.ndarray | None, n_probes: int | None, path: Path
) -> tuple[np.ndarray, np.ndarray]:
    """One row a probe, and one bias each."""
    wanted = n_probes if n_probes is not None else (bias.size if bias is not None else len(weight))
    if len(weight) != wanted and weight.shape[1] == wanted:
        weight = weight.T
    offsets = np.zeros(len(weight)) if bias is None else bias.reshape(-1)
    if n_probes == 1 and len(weight) == 2 and len(offsets) == 2:
        weight, offsets = weight[1:] - weight[:1], offsets[1:] - offsets[:1]
    if len(weight) != wanted or len(offsets) != wanted:
        raise CheckpointError(
            f"{path} has a weight of shape {list(weight.shape)} and {len(offsets)} biases for {wanted} probes; name "
            "one indicator for each row of the weight."
        )
    return weight, offsets


def _scaling_in(numbers: Mapping[str, np.ndarray], width: int, path: Path) -> Scaling | None:
    mean, scale = _pick(numbers, _MEAN, path), _pick(numbers, _SCALE, path)
    if mean is None and scale is None:
        return None
    mean = np.zeros(width) if mean is None else mean.reshape(-1)
    scale = np.ones(width) if scale is None else scale.reshape(-1)
    if {len(mean), len(scale)} != {width} or not (scale > 0).all():
        raise CheckpointError(
            f"{path} has a scaler of {len(mean)} means and {len(scale)} scales (smallest {scale.min()}) for a weight "
            f"of width {width}; give one mean and one scale > 0 for each column."
        )
    return Scaling(mean=mean, factor=1 / scale)


def _fitted_scalings(
    numbers: Mapping[str, np.ndarray], shape: tuple[int, ...], path: Path
) -> tuple[Scaling, ...]:
    """The scalings that an export of this project keeps beside weights that are on raw activations already."""
    if FITTED_MEAN not in numbers or FITTED_FACTOR not in numbers:
        return ()
    means, factors = (np.atleast_2d(numbers[name]) for name in (FITTED_MEAN, FITTED_FACTOR))
    if {means.shape, factors.shape} != {shape}:
        raise CheckpointError(
            f"{path} keeps scalings of shapes {list(means.shape)} and {list(factors.shape)} for weights of "
            f"{list(shape)}; export the probes again."
        )
    return tuple(Scaling(mean=m, factor=f) for m, f in zip(means, factors, strict=True))


def _shapes(numbers: Mapping[str, np.ndarray]) -> str:
    return ", ".join(f"{key} {list(value.shape)}" for key, value in numbers.items()) or "no numbers"
