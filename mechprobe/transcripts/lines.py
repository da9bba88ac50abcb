"""Files of lines, plain or zstandard: streamed in with line numbers, written whole or not at all."""

import json
import os
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

from mechprobe.errors import DataError, MechprobeError

_BLOCK = 1 << 20
_ZSTD_LEVEL = 9


class HasId(Protocol):
    """Whatever a file holds one of in each line."""

    @property
    def id(self) -> str:
        """What no two lines share."""
        ...


_Record = TypeVar("_Record", bound=HasId)


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    r"""Lines that are not blank, with their 1-based numbers; only \n ends a line.

    Raises:
        DataError: the path is missing or a folder, or the compressed stream is damaged or cut off.
    """
    rest, number = b"", 0
    for block in _blocks(path):
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            number += 1
            if line.strip():
                yield number, line
    if rest.strip():
        yield number + 1, rest


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The JSON objects of a file, with their line numbers.

    Raises:
        DataError: a line is not UTF-8 or not a JSON object, or the file holds none at all.
    """
    is_empty = True
    for number, line in read_lines(path):
        is_empty = False
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{path}, line {number} is not JSON: {error.msg}, at character {error.pos + 1}."
            ) from error
        except UnicodeDecodeError as error:
            raise DataError(f"{path}, line {number} is not UTF-8: {error}.") from error
        if not isinstance(value, dict):
            raise DataError(
                f"{path}, line {number} holds {type(value).__name__}, not a JSON object; "
                "each line must be one {...}."
            )
        yield number, value
    if is_empty:
        raise DataError(f"{path} is empty; it should hold one JSON object a line.")


def read_records(path: Path, build: Callable[[int, dict[str, Any]], _Record]) -> Iterator[_Record]:
    """What `build` makes of each line's number and object; its errors get the path and the line.

    Raises:
        DataError: as read_json_lines, or two records have one id.
    """
    seen: dict[str, int] = {}
    for number, value in read_json_lines(path):
        try:
            record = build(number, value)
        except MechprobeError as error:
            raise type(error)(f"{path}, line {number}: {error}") from error
        if record.id in seen:
            raise DataError(
                f"{path}, line {number} repeats the id {record.id!r} of line {seen[record.id]}; "
                "ids must be unique."
            )
        seen[record.id] = number
        yield record


def write_json_lines(path: Path, values: Iterable[dict[str, Any]]) -> int:
    """Write one JSON object a line (zstandard where the name ends in .zst); return how many.

    The same values give the same bytes. A reader sees the old file or the new one, never a part.
    """
    count = 0
    with _replacing(path) as stream:
        for value in values:
            stream.write(_encode(value))
            count += 1
    return count


def _encode(value: dict[str, Any]) -> bytes:
    line = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    try:
        return f"{line}\n".encode()
    except UnicodeEncodeError:  # half a surrogate pair, as cut-off emoji leave it
        return f"{json.dumps(value, separators=(',', ':'), allow_nan=False)}\n".encode()


def check_file(path: Path) -> Path:
    """Return the path of an existing file, or raise DataError."""
    if path.is_dir():
        raise DataError(f"{path} is a folder; a file is wanted here.")
    if not path.exists():
        raise DataError(f"{path} does not exist; check the path.")
    return path


def _blocks(path: Path) -> Iterator[bytes]:
    with check_file(path).open("rb") as stream:
        blocks = iter(lambda: stream.read(_BLOCK), b"")
        yield from _decompressed(path, blocks) if path.suffix == ".zst" else blocks


def _decompressed(path: Path, blocks: Iterator[bytes]) -> Iterator[bytes]:
    import zstandard

    decompressor = zstandard.ZstdDecompressor()
    frame = decompressor.decompressobj()
    is_whole = True
    try:
        for block in blocks:
            while block:
                if frame.eof:
                    frame = decompressor.decompressobj()
                yield frame.decompress(block)
                block = frame.unused_data
            is_whole = frame.eof
    except zstandard.ZstdError as error:
        raise DataError(f"{path} is not a sound zstandard file: {error}.") from error
    if not is_whole:
        raise DataError(f"{path} is cut off: its zstandard stream does not end; fetch it again.")


@contextmanager
def _replacing(path: Path) -> Generator[BinaryIO, None, None]:
    """A stream to a temporary neighbour of `path`, which replaces it when all went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            if path.suffix == ".zst":
                import zstandard

                with zstandard.ZstdCompressor(level=_ZSTD_LEVEL).stream_writer(
                    stream, closefd=False
                ) as compressed:
                    yield compressed
            else:
                yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
