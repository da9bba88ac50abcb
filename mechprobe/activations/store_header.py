"""What a store folder says of itself, and whether its shards are all there and its own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mechprobe.activations.shards import Sidecar, read_header, size_problem
from mechprobe.errors import StoreError

KIND = "mechprobe activations"
HEADER_NAME = "store.json"
MOMENTS_SUFFIX = ".moments.safetensors"


def read_store_header(folder: Path) -> dict[str, Any]:
    """The header of a store folder.

    Raises:
        StoreError: the folder is missing, or holds something else.
    """
    if not folder.is_dir():
        raise StoreError(f"{folder} does not exist; capture activations into it first.")
    if not (folder / HEADER_NAME).is_file():
        found = ", ".join(sorted(path.name for path in folder.iterdir())[:3]) or "nothing"
        raise StoreError(
            f"{folder} is no activation store: it has no {HEADER_NAME} (found: {found}); "
            "point to a folder that `mechprobe capture` wrote."
        )
    return read_header(folder / HEADER_NAME, KIND)


def check_complete(folder: Path, header: dict[str, Any], shards: Sequence[Sidecar]) -> None:
    """Check that shards are all of a store, and its own.

    Raises:
        StoreError: some are missing, cut off, or of another store.
    """
    conversation = 0
    for shard in shards:
        if shard.config != header["digest"]:
            raise StoreError(
                f"{folder / shard.name}.json belongs to a store of other settings; delete the folder "
                "and capture again."
            )
        if problem := size_problem(folder, shard):
            raise StoreError(f"{problem}; capture again, which writes only what is missing.")
        if shard.facts["first_conversation"] != conversation:
            break
        conversation += len(shard.facts["transcript_ids"])
    if conversation != header["n_conversations"]:
        raise StoreError(
            f"{folder} is unfinished: it holds the first {conversation} of "
            f"{header['n_conversations']} conversations; capture again, which writes only what is missing."
        )
