"""A shard: a few files, and the JSON sidecar that commits them as one.

The files are written and synced under temporary names, appear together, and the sidecar comes last. A shard exists
when its sidecar is valid, so the set of valid sidecars is the manifest of a store: a kill at any moment leaves
finished shards and ignored leftovers, never a half-written one that looks whole.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mechprobe.activations.durable import (
    Chunk,
    FileStamp,
    WrittenFile,
    damaged_blocks,
    json_text,
    put_in_place,
    seal_of,
    write_json_durably,
    write_temporary,
)
from mechprobe.errors import StoreError

SCHEMA = 2
"""2: block digests, seals, moments, norms. 1 had one digest a file."""
_SAFETENSORS_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int8: "I8",
    torch.uint16: "U16",
}


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
    written: list[WrittenFile] = []
    try:
        for suffix, chunks in contents.items():
            written.append(write_temporary(folder / f"{name}{suffix}", chunks))
        return commit_written(
            folder, name, written, kind=kind, config=config, n_rows=n_rows, facts=facts
        )
    finally:
        for file in written:
            file.discard()


def commit_written(
    folder: Path,
    name: str,
    written: Sequence[WrittenFile],
    *,
    kind: str,
    config: str,
    n_rows: int,
    facts: Mapping[str, Any],
) -> Sidecar:
    """Let the files of a shard appear and write the sidecar that makes them count."""
    put_in_place(written)
    files = {file.path.name: file.stamp for file in written}
    sidecar = Sidecar(name=name, kind=kind, config=config, n_rows=n_rows, files=files, facts=facts)
    write_json_durably(folder / f"{name}.json", asdict(sidecar))
    return sidecar


def read_sidecars(folder: Path, kind: str) -> list[Sidecar]:
    """All sidecars of a store, in the order of their names."""
    return [read_sidecar(path, kind) for path in sorted(folder.glob("shard-*.json"))]


def read_sidecar(path: Path, kind: str) -> Sidecar:
    """Read one sidecar.

    Raises:
        StoreError: it is not JSON, of another kind or schema, or was changed.
    """
    fields = read_header(path, kind)
    fields["files"] = {
        name: FileStamp(parts=tuple(stamp["parts"]), blocks=tuple(stamp["blocks"]))
        for name, stamp in fields["files"].items()
    }
    return Sidecar(**fields)


def finished_shard(folder: Path, index: int, *, kind: str, config: str) -> Sidecar | None:
    """The sidecar of a shard that is there, whole and of these settings; None where it is to be written."""
    path = folder / f"{shard_name(index)}.json"
    if not path.is_file():
        return None
    sidecar = read_sidecar(path, kind)
    return None if sidecar.config != config or size_problem(folder, sidecar) else sidecar


def read_header(path: Path, kind: str) -> dict[str, Any]:
    """Read a JSON file of a store and check that this mechprobe understands it.

    Raises:
        StoreError: it is not JSON, of another kind or schema, or was changed.
    """
    remedy = f"delete {path.name} and run again, which writes only what is missing"
    try:
        text = path.read_text()
        fields = json.loads(text)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read as JSON ({error}); {remedy}.") from error
    found = fields.get("kind") if isinstance(fields, dict) else None
    if found != kind:
        raise StoreError(
            f"{path} describes {found!r}, wanted {kind!r}; point to a folder that holds the latter."
        )
    _check_schema(path, fields.get("schema", 0))
    if fields.get("seal") != seal_of(fields) or text != json_text(fields):
        raise StoreError(
            f"{path} was changed after it was written (its seal does not fit); {remedy}."
        )
    del fields["seal"]
    return fields


def _check_schema(path: Path, schema: object) -> None:
    if not isinstance(schema, int) or schema > SCHEMA:
        raise StoreError(
            f"{path} has schema {schema}, this mechprobe reads {SCHEMA}; a newer mechprobe wrote it: upgrade."
        )
    if schema < SCHEMA:
        raise StoreError(
            f"{path} has schema {schema}, this mechprobe reads {SCHEMA}; an older mechprobe wrote it: write it again "
            "into a new folder, or read it with the version that wrote it."
        )


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
        if blocks := damaged_blocks(folder / name, stamp):
            return (
                f"{folder / name} has another xxh3 than its sidecar says in {len(blocks)} of {len(stamp.blocks)} "
                f"blocks, the first at byte {blocks[0][0]}"
            )
    return None


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


def safetensors_header(
    tensors: Mapping[str, tuple[torch.dtype, Sequence[int]]],
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """The first bytes of a safetensors file with tensors of these types and shapes, in this order."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, (dtype, shape) in tensors.items():
        size = dtype.itemsize
        for length in shape:
            size *= length
        header[name] = {
            "dtype": _SAFETENSORS_NAMES[dtype],
            "shape": list(shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def safetensors_chunks(tensors: Mapping[str, Tensor]) -> Iterable[Chunk]:
    """The bytes of a safetensors file, without a second copy of the tensors in memory.

    The library's own `save_file` renames by itself, without fsync, and leaves temporaries with random
    names after a kill; its order of keys is not promised to be the same each time.
    """
    yield safetensors_header({name: (t.dtype, tuple(t.shape)) for name, t in tensors.items()})
    for tensor in tensors.values():
        if tensor.numel():
            yield tensor_bytes(tensor)


def tensor_bytes(tensor: Tensor) -> memoryview:
    """The memory of a tensor; only a tensor with gaps, or one on a GPU, is copied."""
    flat: Any = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
    return memoryview(flat)
