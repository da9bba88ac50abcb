"""Where the rows of a hook point stand in a shard's file, and reading them from there without mapping it.

Mapped pages cost a fault each and count as memory of the process; a read into memory that is used again does neither.
"""

import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Shaped
from torch import Tensor

from mechprobe.activations.shards import tensor_bytes
from mechprobe.errors import StoreError

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_MAX_BYTES = 1 << 30
"""What one call reads at most; the system stops at 2 GiB."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A matrix inside a file."""

    offset: int
    """Its first byte."""
    dtype: torch.dtype
    n_rows: int
    width: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.width * self.dtype.itemsize

    def row_at(self, byte: int) -> int:
        """The row that a byte of the file belongs to."""
        return (byte - self.offset) // max(self.row_bytes, 1)


def read_places(path: Path) -> dict[str, Place]:
    """The matrices of a safetensors file.

    Raises:
        StoreError: the file is missing or its header makes no sense.
    """
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length))
        return {
            name: Place(
                offset=8 + length + facts["data_offsets"][0],
                dtype=_DTYPES[facts["dtype"]],
                n_rows=facts["shape"][0],
                width=facts["shape"][1],
            )
            for name, facts in header.items()
            if name != "__metadata__" and len(facts["shape"]) == 2
        }
    except (OSError, ValueError, KeyError, MemoryError, OverflowError) as error:
        raise StoreError(
            f"{path} cannot be read ({error}); delete it and write the store again."
        ) from error


@contextmanager
def opened(path: Path) -> Generator[int, None, None]:
    """A file handle for `os.preadv`.

    Raises:
        StoreError: the file cannot be opened.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error}); verify the store.") from error
    try:
        yield handle
    finally:
        os.close(handle)


def read_rows(handle: int, place: Place, first: int, out: Shaped[Tensor, "row d"]) -> None:
    """Fill `out`, contiguous and of the file's dtype, with the rows from `first` on.

    Raises:
        StoreError: the file ends before.
    """
    if out.numel():
        read_bytes(handle, [tensor_bytes(out)], place.offset + first * place.row_bytes)


def read_bytes(handle: int, into: list[memoryview], offset: int) -> None:
    """Fill pieces of memory, one after the other, with consecutive bytes of a file.

    Raises:
        StoreError: the file ends before.
    """
    while into:
        n_read = os.preadv(handle, into, offset) if sum(map(len, into)) <= _MAX_BYTES else -1
        if n_read == 0:
            raise StoreError("a shard ended while it was read; verify the store.")
        if n_read < 0:
            n_read = os.preadv(handle, [into[0][:_MAX_BYTES]], offset)
        offset += n_read
        into = _rest(into, n_read)


def _rest(into: list[memoryview], n_read: int) -> list[memoryview]:
    for index, piece in enumerate(into):
        if n_read < len(piece):
            return [piece[n_read:], *into[index + 1 :]]
        n_read -= len(piece)
    return []
