"""Stores and transcripts in object storage: copied to and from a disk, never read in place.

Activations are read by mapping files, which no object store can do; so a store is made on a disk and then copied. What
is copied is checked on its way against the digests of the sidecars, and a sidecar comes after its files: what counts at
the destination is whole, and a copy that was cut off goes on with what is missing. URLs are fsspec's (s3://, gs://,
hf://, ssh://, file://, plain paths); each protocol needs its own driver, such as s3fs.
"""

import json
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from mechprobe.activations.durable import FileStamp
from mechprobe.activations.lock import LOCK_NAME
from mechprobe.errors import DataError, StoreError


@dataclass(frozen=True, kw_only=True, slots=True)
class CopyReport:
    """What a copy did."""

    n_files: int
    n_copied: int
    """The others were there already."""
    n_bytes: int
    """Of the files that were copied."""


def copy_store(source: str | Path, destination: str | Path) -> CopyReport:
    """Copy a store, or any folder of shards with sidecars, between a disk and object storage; again to go on.

    Files that belong to no shard (headers, labels) come along and are compared by their content. A shard whose sidecar
    is at the destination, with files of the right sizes, is not copied again.

    Raises:
        DataError: there is no driver for a URL's protocol, or the storage cannot be reached.
        StoreError: the source is no store, or a file is not what its sidecar says.
    """
    ours, theirs = _Place.of(source), _Place.of(destination)
    names = sorted(ours.names())
    sidecars = [name for name in names if _is_sidecar(name)]
    if not any(name.endswith(".json") and name not in sidecars for name in names):
        raise StoreError(f"{source} is no store: it has no header; give a store's folder.")
    n_copied = n_bytes = 0
    stamped: set[str] = set()
    for step in _steps(ours, names, sidecars):
        stamped.update(step.stamps)
        if step.is_there(ours, theirs):
            continue
        for name, stamp in step.files():
            n_bytes += _copy(ours, theirs, name, stamp)
            n_copied += 1
    return CopyReport(n_files=len(names), n_copied=n_copied, n_bytes=n_bytes)


def fetch(url: str | Path, folder: Path) -> Path:
    """The path of a file on this machine: itself, or a copy in `folder` of what a URL names.

    Raises:
        DataError: there is no driver for the protocol, or no such file.
    """
    if "://" not in str(url):
        return Path(url)
    place = _Place.of(posixpath.dirname(str(url)))
    name = posixpath.basename(str(url))
    if place.size(name) is None:
        raise DataError(f"there is no file {url}; check the address.")
    folder.mkdir(parents=True, exist_ok=True)
    _copy(place, _Place.of(folder), name, None)
    return folder / name


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """A folder somewhere."""

    files: Any
    """An fsspec file system."""
    folder: str

    @classmethod
    def of(cls, url: str | Path) -> "_Place":
        from fsspec.core import url_to_fs

        try:
            files, folder = url_to_fs(str(url))
        except (ImportError, ValueError, OSError) as error:
            raise DataError(
                f"{url} cannot be reached ({' '.join(str(error).split())[:200]}); install the protocol's fsspec driver "
                "(s3fs, gcsfs, ...), or give a path."
            ) from error
        return cls(files=files, folder=str(folder).rstrip("/"))

    @property
    def is_local(self) -> bool:
        """Whether files appear before they are whole, unless they are renamed."""
        protocol = self.files.protocol
        return "file" in ((protocol,) if isinstance(protocol, str) else protocol)

    def path(self, name: str) -> str:
        return f"{self.folder}/{name}"

    def names(self) -> Iterator[str]:
        """Files that belong to a store, relative to its folder."""
        for path in self.files.find(self.folder):
            name = posixpath.relpath(str(path), self.folder)
            if not name.endswith(".tmp") and posixpath.basename(name) != LOCK_NAME:
                yield name

    def size(self, name: str) -> int | None:
        """Bytes of a file; None if it is not there."""
        self.files.invalidate_cache()
        if not self.files.exists(self.path(name)):
            return None
        return int(self.files.size(self.path(name)))

    def read(self, name: str) -> bytes:
        """A small file."""
        return bytes(self.files.cat_file(self.path(name)))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Step:
    """A file that counts, and the files that have to be there before it."""

    name: str
    stamps: dict[str, FileStamp]

    def files(self) -> Iterator[tuple[str, FileStamp | None]]:
        yield from self.stamps.items()
        yield self.name, None

    def is_there(self, ours: _Place, theirs: _Place) -> bool:
        sizes = {self.name: ours.size(self.name)}
        sizes |= {name: stamp.bytes for name, stamp in self.stamps.items()}
        if any(theirs.size(name) != size for name, size in sizes.items()):
            return False
        return _digest(ours, self.name) == _digest(theirs, self.name)


def _steps(ours: _Place, names: list[str], sidecars: list[str]) -> Iterator[_Step]:
    """The header first, so that what is begun can be seen for what it is; then shards, then what else there is."""
    shards = [_Step(name=name, stamps=_stamps(ours, name)) for name in sidecars]
    in_shards = {name for shard in shards for name in shard.stamps} | set(sidecars)
    others = [_Step(name=name, stamps={}) for name in names if name not in in_shards]
    yield from (step for step in others if step.name.endswith(".json"))
    yield from shards
    yield from (step for step in others if not step.name.endswith(".json"))


def _is_sidecar(name: str) -> bool:
    base = posixpath.basename(name)
    return base.startswith("shard-") and base.endswith(".json")


def _stamps(place: _Place, sidecar: str) -> dict[str, FileStamp]:
    try:
        files = json.loads(place.read(sidecar))["files"]
        folder = posixpath.dirname(sidecar)
        return {
            posixpath.join(folder, name): FileStamp(
                parts=tuple(stamp["parts"]), blocks=tuple(stamp["blocks"])
            )
            for name, stamp in files.items()
        }
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{place.path(sidecar)} is no sidecar that this mechprobe reads ({type(error).__name__}: {error}); write the "
            "store again."
        ) from error


def _copy(ours: _Place, theirs: _Place, name: str, stamp: FileStamp | None) -> int:
    """Copy one file, checked block by block; it has its name only when it is right."""
    target = theirs.path(name)
    theirs.files.makedirs(posixpath.dirname(target), exist_ok=True)
    written = f"{target}.copy.tmp" if theirs.is_local else target
    n_bytes = 0
    try:
        with theirs.files.open(written, "wb") as stream:
            for block in _blocks(ours, name, stamp):
                stream.write(block)
                n_bytes += len(block)
    except StoreError:
        theirs.files.rm_file(written)
        raise
    except OSError as error:
        raise StoreError(
            f"{ours.path(name)} could not be copied to {target} ({error}); run the same copy again, it goes on."
        ) from error
    if written != target:
        theirs.files.mv(written, target)
    return n_bytes


def _blocks(place: _Place, name: str, stamp: FileStamp | None) -> Iterator[bytes]:
    with place.files.open(place.path(name), "rb") as stream:
        if stamp is None:
            while block := stream.read(1 << 20):
                yield block
            return
        for (start, end), digest in zip(stamp.block_bounds(), stamp.blocks, strict=True):
            block = stream.read(end - start)
            if xxhash.xxh3_64_hexdigest(block) != digest:
                raise StoreError(
                    f"{place.path(name)} is damaged between bytes {start} and {end}: its digest is not what the "
                    "sidecar says; make the shard again."
                )
            yield block
        if stream.read(1):
            raise StoreError(
                f"{place.path(name)} is longer than its sidecar says; make the shard again."
            )


def _digest(place: _Place, name: str) -> str:
    digest = xxhash.xxh3_64()
    for block in _blocks(place, name, None):
        digest.update(block)
    return digest.hexdigest()
