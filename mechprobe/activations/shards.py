"""Files that appear whole or not at all, and the sidecar that commits them as one shard.

Each file is written under a temporary name, synced, renamed, and its folder synced; the JSON sidecar comes
last. A shard exists when its sidecar is valid, so the set of valid sidecars is the manifest of a store: a
kill at any moment leaves finished shards and ignored leftovers, never a half-written one that looks whole.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mechprobe.errors import StoreError

SCHEMA = 1
_BLOCK = 1 << 24
_SAFETENSORS_NAMES = {
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint16: "U16",
}

Chunk = bytes | memoryview


@dataclass(frozen=True, kw_only=True, slots=True)
class FileStamp:
    """Size and digest by which damage to a file is seen."""

    bytes: int
    xxh3: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Sidecar:
    """What a shard holds; its JSON file is the commit point of the shard."""

    name: str
    kind: str
    config: str
    """Digest of the configuration that the whole store was written with."""
    n_rows: int
    files: Mapping[str, FileStamp]
    facts: Mapping[str, Any]
    """What the kind of store adds: conversations, shapes, dtype."""
    schema: int = SCHEMA


def shard_name(index: int) -> str:
    """The name that the files of a shard share."""
    return f"shard-{index:05d}"


def commit_shard(
    folder: Path,
    name: str,
    contents: Mapping[str, Iterable[Chunk]],
    *,
    kind: str,
    config: str,
    n_rows: int,
    facts: Mapping[str, Any],
) -> Sidecar:
    """Write the files of a shard (suffix -> content) and then the sidecar that makes them count."""
    files = {
        f"{name}{suffix}": write_durably(folder / f"{name}{suffix}", chunks)
        for suffix, chunks in contents.items()
    }
    sidecar = Sidecar(name=name, kind=kind, config=config, n_rows=n_rows, files=files, facts=facts)
    write_json_durably(folder / f"{name}.json", asdict(sidecar))
    return sidecar


def read_sidecars(folder: Path, kind: str) -> list[Sidecar]:
    """All sidecars of a store, in the order of their names."""
    return [read_sidecar(path, kind) for path in sorted(folder.glob("shard-*.json"))]


def read_sidecar(path: Path, kind: str) -> Sidecar:
    """Read one sidecar.

    Raises:
        StoreError: it is not JSON, of another kind, or of a newer schema.
    """
    fields = read_header(path, kind)
    fields["files"] = {name: FileStamp(**stamp) for name, stamp in fields["files"].items()}
    return Sidecar(**fields)


def finished_shard(folder: Path, index: int, *, kind: str, config: str) -> Sidecar | None:
    """The sidecar of a shard that is there, whole and of these settings; None where it is to be written."""
    path = folder / f"{shard_name(index)}.json"
    if not path.is_file():
        return None
    sidecar = read_sidecar(path, kind)
    return None if sidecar.config != config or size_problem(folder, sidecar) else sidecar


def read_header(path: Path, kind: str) -> dict[str, Any]:
    """Read a JSON file of a store and check that this mechprobe understands it."""
    try:
        fields = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{path} cannot be read as JSON ({error}); delete the folder and write the store again."
        ) from error
    found = fields.get("kind") if isinstance(fields, dict) else None
    if found != kind:
        raise StoreError(
            f"{path} describes {found!r}, wanted {kind!r}; point to a folder that holds the latter."
        )
    if fields.get("schema", 0) > SCHEMA:
        raise StoreError(
            f"{path} has schema {fields['schema']}, this mechprobe reads up to {SCHEMA}; upgrade."
        )
    return fields


def size_problem(folder: Path, sidecar: Sidecar) -> str | None:
    """What is wrong with the sizes of a shard's files; None when nothing is."""
    for name, stamp in sidecar.files.items():
        path = folder / name
        if not path.is_file():
            return f"{path} is missing"
        if path.stat().st_size != stamp.bytes:
            return f"{path} has {path.stat().st_size} bytes, its sidecar says {stamp.bytes}"
    return None


def content_problem(folder: Path, sidecar: Sidecar) -> str | None:
    """What is wrong with the bytes of a shard's files, read in full; None when nothing is."""
    if problem := size_problem(folder, sidecar):
        return problem
    for name, stamp in sidecar.files.items():
        if (found := digest_content(folder / name)) != stamp.xxh3:
            return f"{folder / name} has xxh3 {found}, its sidecar says {stamp.xxh3}"
    return None


def digest_content(path: Path) -> str:
    """The xxh3 digest of a file, in hexadecimal."""
    digest = xxhash.xxh3_64()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def map_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, mapped and not read; copy what you change.

    Raises:
        StoreError: the file is missing or no sound safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise StoreError(
            f"{path} cannot be read ({error}); delete it and write the store again."
        ) from error


def write_durably(path: Path, chunks: Iterable[Chunk]) -> FileStamp:
    """Write a file so that it is on the disk, whole, when its name appears.

    Raises:
        StoreError: the disk is full or refuses the write.
    """
    for leftover in path.parent.glob(f"{path.name}.*.tmp"):
        leftover.unlink(missing_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    digest, size = xxhash.xxh3_64(), 0
    try:
        with temporary.open("wb") as stream:
            for chunk in chunks:
                digest.update(chunk)
                size += stream.write(chunk)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise StoreError(
            f"{path} could not be written ({error}); make room and run again: finished shards stay."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return FileStamp(bytes=size, xxh3=digest.hexdigest())


def write_json_durably(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object whole or not at all; the same value gives the same bytes."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
    write_durably(path, [f"{text}\n".encode()])


def safetensors_chunks(tensors: Mapping[str, Tensor]) -> Iterable[Chunk]:
    """The bytes of a safetensors file, without a second copy of the tensors in memory.

    The library's own `save_file` renames by itself, without fsync, and leaves temporaries with random
    names after a kill; its order of keys is not promised to be the same each time.
    """
    header: dict[str, Any] = {}
    offset = 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _SAFETENSORS_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for tensor in tensors.values():
        if tensor.numel():
            yield _bytes_of(tensor)


def _bytes_of(tensor: Tensor) -> memoryview:
    flat: Any = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
    return memoryview(flat)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
