"""Files of torch and plain pickles, read for the numbers and text in them, with nothing in them run.

`torch.load(weights_only=True)` refuses the paper's `detector.pt` (arXiv 2606.24251): it is a plain pickle whose tensors
hold a second file each, in torch's old format. Read here are plain pickles, torch's old format and its zip format.
"""

import math
import zipfile
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from mechprobe.errors import CheckpointError
from mechprobe.probes.exchange.pickle_reader import Name, Names, read_pickle
from mechprobe.probes.exchange.pickled_arrays import ARRAY_NAMES

MAX_BYTES = 64 * 2**20
"""A probe of a very wide model takes a few MiB; a larger file is something else."""
_OLD_FORMAT = 0x1950A86A20F9469CFC6C
"""What a file of torch's format before 1.6 begins with (torch/serialization.py)."""
_STORAGES = {
    "torch.DoubleStorage": "<f8",
    "torch.FloatStorage": "<f4",
    "torch.HalfStorage": "<f2",
    "torch.BFloat16Storage": "bfloat16",
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2",
    "torch.CharStorage": "|i1",
    "torch.ByteStorage": "|u1",
    "torch.BoolStorage": "|b1",
}


@dataclass(frozen=True, slots=True, eq=False)
class _Storage:
    """The numbers behind torch tensors; in the old format they follow after the pickle, so they are filled late."""

    numbers: np.ndarray
    kind: str

    def fill(self, raw: bytes) -> None:
        if self.kind == "bfloat16":
            high = np.frombuffer(raw, "<u2").astype(np.uint32) << 16
            self.numbers[:] = high.view(np.float32)
        else:
            self.numbers[:] = np.frombuffer(raw, self.kind)


def read_arrays(path: Path) -> Any:
    """The value that a pickle or a torch file holds; tensors in it are numpy arrays.

    Arrays that numpy wrote are reached through `as_array`.

    Raises:
        CheckpointError: the file is missing, too large, cut short, or holds anything but numbers and text.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; name a detector.pt or the folder of one.")
    size = path.stat().st_size
    if not 0 < size <= MAX_BYTES:
        raise CheckpointError(
            f"{path} has {size} bytes; a file of probes has between 1 and {MAX_BYTES} (copy it again if it is cut)."
        )
    try:
        return _read(path.read_bytes())
    except CheckpointError as error:
        raise CheckpointError(f"{path} cannot be used: {error}") from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, zlib.error) as error:
        raise CheckpointError(
            f"{path} cannot be used: it is damaged ({error}); copy or download it again."
        ) from error


def _read(data: bytes) -> Any:
    if data.startswith(b"PK\x03\x04"):
        return _read_zip(data)
    stream = BytesIO(data)
    value = read_pickle(stream, _NAMES)
    return _read_old_format(data) if value == _OLD_FORMAT else value


def _read_old_format(data: bytes, names: Names | None = None) -> Any:
    """torch's format before 1.6: magic, protocol, system, the pickle, the storages' keys, then their numbers."""
    storages: dict[str, _Storage] = {}

    def load(reference: Any) -> _Storage:
        _, name, key, _, n_numbers, *_ = reference
        return storages.setdefault(str(key), _storage(name, n_numbers, len(data)))

    stream = BytesIO(data)
    magic, _, system = (read_pickle(stream, {}) for _ in range(3))
    if magic != _OLD_FORMAT or not system["little_endian"]:
        raise CheckpointError("the tensors in it are in no format of torch that is read here.")
    value = read_pickle(stream, _NAMES if names is None else names, load)
    for key in read_pickle(stream, {}):
        storage = storages[key]
        n_numbers = int.from_bytes(stream.read(8), "little")
        raw = stream.read(n_numbers * _size_of(storage.kind))
        if n_numbers != len(storage.numbers) or len(raw) != n_numbers * _size_of(storage.kind):
            raise CheckpointError(
                "the numbers of a tensor are cut short; copy or download it again."
            )
        storage.fill(raw)
    return value.numbers if isinstance(value, _Storage) else value


def _read_zip(data: bytes) -> Any:
    """torch's zip format: one pickle, and one member for each storage."""
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            sizes = {member.filename: member.file_size for member in archive.infolist()}
            pickles = [name for name in sizes if name.endswith("/data.pkl")]
            if len(pickles) != 1 or sum(sizes.values()) > MAX_BYTES:
                raise CheckpointError(
                    f"it is a zip of {sum(sizes.values())} bytes with {len(pickles)} data.pkl; torch.save writes "
                    f"one, and at most {MAX_BYTES} bytes are read."
                )
            folder = pickles[0].removesuffix("data.pkl")

            def load(reference: Any) -> _Storage:
                _, name, key, _, n_numbers, *_ = reference
                raw = archive.read(f"{folder}data/{key}")
                storage = _storage(name, n_numbers, len(raw))
                storage.fill(raw[: n_numbers * _size_of(storage.kind)])
                return storage

            return read_pickle(BytesIO(archive.read(pickles[0])), _NAMES, load)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise CheckpointError(
            f"it is no whole zip ({error}); copy or download it again."
        ) from error


def _storage(name: Any, n_numbers: Any, n_bytes: int) -> _Storage:
    """Room for the numbers of one storage, never more than the file can hold."""
    kind = _STORAGES.get(name.path, "") if isinstance(name, Name) else ""
    if not kind or not isinstance(n_numbers, int):
        raise CheckpointError("a tensor in it is of a type that is not read here.")
    if not 0 <= n_numbers * _size_of(kind) <= n_bytes:
        raise CheckpointError(
            f"a tensor in it claims {n_numbers} numbers in {n_bytes} bytes; copy or download it again."
        )
    return _Storage(np.zeros(n_numbers, "<f4" if kind == "bfloat16" else kind), kind)


def _size_of(kind: str) -> int:
    return 2 if kind == "bfloat16" else np.dtype(kind).itemsize


def _tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> np.ndarray:
    """A view of a storage, as `torch._utils._rebuild_tensor_v2` makes it; it may not reach outside."""
    numbers = storage.numbers if isinstance(storage, _Storage) else storage
    if not isinstance(numbers, np.ndarray) or len(size) != len(stride):
        raise TypeError("a tensor has no numbers")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    is_inside = min((offset, *size, *stride)) >= 0 and last < numbers.size
    if not is_inside or not 0 < math.prod(size) <= numbers.size:
        raise ValueError("a tensor reaches outside of its numbers")
    steps = [step * numbers.itemsize for step in stride]
    return as_strided(numbers[offset:], size, steps, writeable=False)


def _storage_file(raw: Any) -> np.ndarray:
    """The numbers of a tensor that was pickled outside of torch.save: a whole file in the old format."""
    if not isinstance(raw, bytes):
        raise TypeError("a tensor has no bytes")
    value = _read_old_format(raw, dict.fromkeys(_STORAGES))
    if not isinstance(value, np.ndarray):
        raise TypeError("a tensor has no numbers")
    return value


_NAMES: Names = {
    **ARRAY_NAMES,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch.storage._load_from_bytes": _storage_file,
    "torch.device": lambda kind, *_: str(kind),
    **dict.fromkeys(_STORAGES),
    **dict.fromkeys(("torch.float32", "torch.float64", "torch.float16", "torch.bfloat16")),
}
