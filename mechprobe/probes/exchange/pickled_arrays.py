"""numpy arrays and the authors' own objects as they stand in pickles, made again without running anything."""

from collections.abc import Callable
from typing import Any

import numpy as np

from mechprobe.errors import CheckpointError
from mechprobe.probes.exchange.pickle_reader import Names, StatefulValue

_NUMBER_TYPES = {"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"}
_DETECTORS = "deception_detection.detectors"
_AUTHORS_CLASSES = (
    *("DirectionDetector", "LogisticRegressionDetector", "MeanLogisticRegressionDetector"),
    *("MMSDetector", "CovarianceAdjustedMMSDetector", "LATDetector"),
)


class StandIn(StatefulValue):
    """What an object of the authors' own classes is read as: its fields, and none of its code."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}

    def fill(self, state: Any) -> None:
        """Take the object's fields."""
        if not isinstance(state, dict):
            raise TypeError("an object's fields are no dictionary")
        self.fields.update(state)


class _Array(StatefulValue):
    """A numpy array on the way: numpy's pickles make an empty one and then fill it."""

    value: np.ndarray | None = None

    def fill(self, state: Any) -> None:
        """Take shape, type and bytes, as `numpy.ndarray.__reduce__` gives them."""
        _, shape, dtype, by_columns, raw = state
        self.value = _from_bytes(raw, dtype, shape, "F" if by_columns else "C")


class _DType(StatefulValue):
    """A numpy type on the way, such as "<f4"."""

    def __init__(self, code: str, *_: Any) -> None:
        if code.lstrip("<|=") not in _NUMBER_TYPES:
            raise CheckpointError(f"it holds an array of type {code[:20]!r}, which is no number.")
        self.code = code.lstrip("<|=")

    def fill(self, state: Any) -> None:
        """Take the byte order; only little-endian files are read."""
        if state[1] == ">":
            raise CheckpointError(
                "its numbers are big-endian; save them on a little-endian machine."
            )


def as_array(value: Any) -> np.ndarray | None:
    """A value out of `torch_files.read_arrays` as an array; None if it is none."""
    if isinstance(value, _Array):
        return value.value
    return value if isinstance(value, np.ndarray) else None


def _from_bytes(raw: Any, dtype: Any, shape: Any, order: Any = "C") -> np.ndarray:
    if not isinstance(dtype, _DType) or not isinstance(raw, bytes | bytearray):
        raise TypeError("an array has no bytes")
    return np.frombuffer(bytes(raw), dtype.code).reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype: Any, raw: Any) -> float:
    return _from_bytes(raw, dtype, ()).item()


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ValueError(f"text in {encoding[:20]!r}")
    return text.encode("latin1")


def _in_both_numpys(name: str, call: Callable[..., Any]) -> Names:
    return {f"numpy.core.{name}": call, f"numpy._core.{name}": call}


ARRAY_NAMES: Names = {
    "collections.OrderedDict": lambda: {},
    "numpy.ndarray": None,
    "numpy.dtype": _DType,
    **_in_both_numpys("multiarray._reconstruct", lambda *_: _Array()),
    **_in_both_numpys("multiarray.scalar", _scalar),
    **_in_both_numpys("numeric._frombuffer", _from_bytes),
    # How old protocols write bytes, and bytes that are empty.
    "_codecs.encode": _encode,
    "__builtin__.bytes": lambda: b"",
    **{f"{_DETECTORS}.{name}": StandIn for name in _AUTHORS_CLASSES},
}
