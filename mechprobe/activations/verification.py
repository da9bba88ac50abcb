"""Is a store what was written? Every file against its digests, and every damage with its place."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from mechprobe.activations.durable import damaged_blocks
from mechprobe.activations.places import Place
from mechprobe.activations.shards import Sidecar, read_sidecar
from mechprobe.activations.store_header import KIND, check_complete, read_store_header
from mechprobe.errors import StoreError


@dataclass(frozen=True, kw_only=True, slots=True)
class Damage:
    """Something wrong in a store."""

    file: Path
    found: str
    """What is wrong."""
    hook_name: str | None = None
    rows: tuple[int, int] | None = None
    """First and last row of the store that may be affected."""

    def __str__(self) -> str:
        rows = "" if self.rows is None else f", rows {self.rows[0]} to {self.rows[1]}"
        hook = "" if self.hook_name is None else f", {self.hook_name}"
        return f"{self.file}{hook}{rows}: {self.found}"


def find_damage(folder: Path) -> list[Damage]:
    """Read every byte of a store and list what is wrong with it; empty when nothing is.

    Raises:
        StoreError: the folder holds no store, or one of another schema.
    """
    header = read_store_header(folder)
    found: list[Damage] = []
    sidecars: list[Sidecar] = []
    first_row = 0
    for path in sorted(folder.glob("shard-*.json")):
        try:
            sidecar = read_sidecar(path, KIND)
        except StoreError as error:
            found.append(Damage(file=path, found=str(error)))
            continue
        sidecars.append(sidecar)
        found += _shard_damage(folder, sidecar, first_row)
        first_row += sidecar.n_rows
    if not found:
        try:
            check_complete(folder, header, sidecars)
        except StoreError as error:
            found.append(Damage(file=folder, found=str(error)))
    return found


def _shard_damage(folder: Path, sidecar: Sidecar, first_row: int) -> Iterator[Damage]:
    rows = (first_row, first_row + max(sidecar.n_rows - 1, 0))
    for name, stamp in sidecar.files.items():
        path = folder / name
        if not path.is_file():
            yield Damage(file=path, found="is missing", rows=rows)
            continue
        size = path.stat().st_size
        blocks = damaged_blocks(path, stamp)
        if blocks:
            yield from _located(path, sidecar, blocks, rows)
        if size != stamp.bytes:
            found = f"has {size} bytes, its sidecar says {stamp.bytes}"
            yield Damage(file=path, found=found, rows=None if blocks else rows)


def _located(
    path: Path, sidecar: Sidecar, blocks: list[tuple[int, int]], rows: tuple[int, int]
) -> Iterator[Damage]:
    n_blocks = len(sidecar.files[path.name].blocks)
    found = f"has another xxh3 than its sidecar says in {len(blocks)} of {n_blocks} blocks"
    if path.name != f"{sidecar.name}.safetensors":
        yield Damage(file=path, found=found, rows=rows)
        return
    places = _places(sidecar)
    if blocks[0][0] < min(place.offset for place in places.values()):
        yield Damage(file=path, found=f"{found}; it is the file's header", rows=rows)
    for hook_name, place in places.items():
        end = place.offset + place.n_rows * place.row_bytes
        inside = [block for block in blocks if place.offset <= block[0] < end]
        if inside:
            first, last = place.row_at(inside[0][0]), place.row_at(inside[-1][1] - 1)
            span = (rows[0] + first, rows[0] + last)
            yield Damage(file=path, found=found, hook_name=hook_name, rows=span)


def _places(sidecar: Sidecar) -> dict[str, Place]:
    """Where the rows are, whatever the file's own header says now."""
    parts = sidecar.files[f"{sidecar.name}.safetensors"].parts
    dtype = getattr(torch, sidecar.facts["dtype"])
    places: dict[str, Place] = {}
    offset = parts[0]
    for name in sidecar.facts["hook_names"]:
        n_rows, width = sidecar.facts["shapes"][name]
        places[name] = Place(offset=offset, dtype=dtype, n_rows=n_rows, width=width)
        offset += n_rows * places[name].row_bytes
    return places
