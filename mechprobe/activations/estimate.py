"""What a capture will need, said before it begins."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mechprobe.activations.plan import ShardPlan
from mechprobe.errors import StoreError

TABLE_BYTES, NORM_BYTES = 16, 4
"""Of the token table on disk for each stored token, and more for each hook point; 9 and 4 were seen."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptureEstimate:
    """Work, disk and memory of the shards that are still to be written."""

    n_shards: int
    n_tokens: int
    """Tokens that the model reads."""
    n_rows: int
    """Tokens that are stored."""
    disk_bytes: int
    memory_bytes: int
    """At most in one process, besides the model and the transcripts' text: a shard, and what one pass leaves."""

    def __str__(self) -> str:
        return (
            f"{self.n_shards} shards to write: the model reads {self.n_tokens:,} tokens, {self.n_rows:,} are stored in "
            f"about {_size(self.disk_bytes)}; memory beside the model about {_size(self.memory_bytes)}"
        )


def estimate_capture(
    shards: Sequence[ShardPlan],
    widths: Mapping[str, int],
    *,
    stored_itemsize: int,
    model_itemsize: int,
    batch_tokens: int,
) -> CaptureEstimate:
    """Add up a plan.

    Args:
        widths: numbers that each hook point writes for a token.
        stored_itemsize: bytes of a number on disk.
        model_itemsize: bytes of a number in the model.
    """
    width, n_rows = sum(widths.values()), sum(shard.n_rows for shard in shards)
    largest = max((shard.n_rows for shard in shards), default=0)
    return CaptureEstimate(
        n_shards=len(shards),
        n_tokens=sum(shard.n_tokens for shard in shards),
        n_rows=n_rows,
        disk_bytes=n_rows * (width * stored_itemsize + TABLE_BYTES + NORM_BYTES * len(widths)),
        memory_bytes=width * (largest * stored_itemsize + batch_tokens * model_itemsize),
    )


def need_disk(estimate: CaptureEstimate, folder: Path) -> None:
    """Refuse before the work is done.

    Raises:
        StoreError: the disk has no room for all that is to be written.
    """
    free = shutil.disk_usage(folder).free
    if estimate.disk_bytes > free:
        raise StoreError(
            f"the disk of {folder} has {free / 1e9:.2f} GB free, and about {estimate.disk_bytes / 1e9:.2f} GB are "
            "needed; store fewer hook points or tokens, use bfloat16, or choose another disk."
        )


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.1f} MB"
