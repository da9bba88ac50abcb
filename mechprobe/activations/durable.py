"""Files that appear whole or not at all, with digests by which a damaged byte is found again.

A file is written under a temporary name and synced; its name appears when all of it is on the disk. What a kill
leaves behind ends in .tmp and is ignored. Digests are taken block by block, so that damage has a place.
"""

import json
import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from mechprobe.errors import StoreError

BLOCK_BYTES = 1 << 20
"""Bytes that share a digest: small enough to name a few rows, large enough that the digests need no room."""

Chunk = bytes | memoryview


@dataclass(frozen=True, kw_only=True, slots=True)
class FileStamp:
    """Size and digests by which damage to a file is seen."""

    parts: tuple[int, ...]
    """Bytes of each part: a header, a matrix."""
    blocks: tuple[str, ...]
    """The xxh3 digest of each BLOCK_BYTES of a part, in hexadecimal; the last block of a part may be short."""

    @property
    def bytes(self) -> int:
        """Size of the file."""
        return sum(self.parts)

    @property
    def xxh3(self) -> str:
        """One digest for the whole file."""
        return xxhash.xxh3_64_hexdigest("".join(self.blocks).encode())

    def block_bounds(self) -> list[tuple[int, int]]:
        """First byte and one past the last byte of each block."""
        bounds: list[tuple[int, int]] = []
        start = 0
        for size in self.parts:
            ends = [*range(start + BLOCK_BYTES, start + size, BLOCK_BYTES), start + size]
            bounds += zip([start, *ends[:-1]], ends, strict=True)
            start += size
        return bounds


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenFile:
    """A file that is on the disk and does not have its name yet."""

    path: Path
    temporary: Path
    stamp: FileStamp

    def appear(self) -> None:
        """Give it its name."""
        self.temporary.replace(self.path)

    def discard(self) -> None:
        """Remove it, if it did not appear."""
        self.temporary.unlink(missing_ok=True)


def write_temporary(path: Path, chunks: Iterable[Chunk]) -> WrittenFile:
    """Write the bytes of a file and wait until they are on the disk.

    Raises:
        StoreError: the disk is full or refuses the write.
    """
    for leftover in path.parent.glob(f"{path.name}.*.tmp"):
        leftover.unlink(missing_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with temporary.open("wb", buffering=0) as stream:
            stamp = _write_stamped(stream.fileno(), chunks)
            os.fsync(stream.fileno())
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise unwritable(path, error) from error
        raise
    return WrittenFile(path=path, temporary=temporary, stamp=stamp)


def write_durably(path: Path, chunks: Iterable[Chunk]) -> FileStamp:
    """Write a file so that it is on the disk, whole, when its name appears.

    Raises:
        StoreError: the disk is full or refuses the write.
    """
    written = write_temporary(path, chunks)
    put_in_place([written])
    return written.stamp


def put_in_place(files: Iterable[WrittenFile]) -> None:
    """Give written files of one folder their names, and wait until those are on the disk."""
    parents: set[Path] = set()
    for written in files:
        try:
            written.appear()
        except OSError as error:
            raise unwritable(written.path, error) from error
        parents.add(written.path.parent)
    for parent in parents:
        try:
            _sync_folder(parent)
        except OSError as error:
            raise unwritable(parent, error) from error


def json_text(value: Mapping[str, Any]) -> str:
    """The one way in which a JSON object is written: the same value gives the same bytes."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def seal_of(value: Mapping[str, Any]) -> str:
    """Digest of a JSON object without its seal."""
    rest = {name: item for name, item in value.items() if name != "seal"}
    return xxhash.xxh3_64_hexdigest(json_text(rest).encode())


def write_json_durably(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object whole or not at all, with a seal that shows any later change."""
    plain = json.loads(json_text(value))
    write_durably(path, [json_text({**plain, "seal": seal_of(plain)}).encode()])


def damaged_blocks(path: Path, stamp: FileStamp) -> list[tuple[int, int]]:
    """First and one past the last byte of the blocks that a file has lost, or has with another digest than before."""
    damaged: list[tuple[int, int]] = []
    memory = memoryview(bytearray(BLOCK_BYTES))
    with path.open("rb", buffering=0) as stream:
        for bounds, digest in zip(stamp.block_bounds(), stamp.blocks, strict=True):
            block = memory[: bounds[1] - bounds[0]]
            n_read = _fill(stream.fileno(), block)
            if xxhash.xxh3_64_hexdigest(block[:n_read]) != digest:
                damaged.append(bounds)
    return damaged


def unwritable(path: Path, error: OSError) -> StoreError:
    """The error for a file that the system did not let us write."""
    return StoreError(
        f"{path} could not be written ({error}); make room, or choose a folder that can be written to, and run "
        "again: finished shards stay."
    )


def _write_stamped(handle: int, chunks: Iterable[Chunk]) -> FileStamp:
    """Write chunks; each is a part with its own blocks. A block is digested and written while it is in the cache."""
    parts: list[int] = []
    blocks: list[str] = []
    for view in filter(len, map(memoryview, chunks)):
        parts.append(len(view))
        for start in range(0, len(view), BLOCK_BYTES):
            block = view[start : start + BLOCK_BYTES]
            blocks.append(xxhash.xxh3_64_hexdigest(block))
            while len(block):
                block = block[os.write(handle, block) :]
    return FileStamp(parts=tuple(parts), blocks=tuple(blocks))


def _fill(handle: int, block: memoryview) -> int:
    filled = 0
    while filled < len(block) and (n := os.readv(handle, [block[filled:]])):
        filled += n
    return filled


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
