"""Writing activations to disk: our synced shard, with its table, digests and moments, against a plain file and sae-lens' cache."""

import shutil
import tempfile
from pathlib import Path

import torch

from benchmarks.made_acts import made_acts, made_tokens, write_store
from benchmarks.plain_file import write_plain
from benchmarks.sae_lens_cache import quiet_datasets, write_cache
from benchmarks.timing import Row, compare

COMMAND = "python -m benchmarks.run store_write"


def measure() -> list[Row]:
    """One shard each, of the same numbers."""
    quiet_datasets()
    return [_against_plain(32768, 4096), _against_sae_lens(8192, 2048)]


def _against_plain(n_tokens: int, width: int) -> Row:
    acts, tokens = made_acts(n_tokens, width).to(torch.bfloat16), made_tokens(n_tokens)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def ours() -> None:
            shutil.rmtree(folder / "ours", ignore_errors=True)
            write_store(acts, tokens, folder / "ours", "bfloat16")

        return compare(
            f"store_write_plain[{n_tokens}x{width} bfloat16]",
            ours,
            lambda: write_plain(folder / "plain", acts),
            amount=acts.numel() * 2 / 1e6,
            unit="MB",
            peer_name="plain write and fsync of the same bytes",
            command=COMMAND,
        )


def _against_sae_lens(n_tokens: int, width: int) -> Row:
    acts, tokens = made_acts(n_tokens, width), made_tokens(n_tokens)
    token_ids = torch.arange(n_tokens)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def ours() -> None:
            shutil.rmtree(folder / "ours", ignore_errors=True)
            write_store(acts, tokens, folder / "ours")

        return compare(
            f"store_write[{n_tokens}x{width} float32]",
            ours,
            lambda: write_cache(acts, token_ids, folder / "peer"),
            amount=acts.numel() * 4 / 1e6,
            unit="MB",
            peer_name="sae-lens CacheActivationsRunner (no fsync)",
            command=COMMAND,
        )
