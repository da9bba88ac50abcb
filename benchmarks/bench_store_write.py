"""Writing activations to disk: our fsynced float32 shard against the dataset that sae-lens' cache writes."""

import shutil
import tempfile
from pathlib import Path

import torch

from benchmarks.made_acts import made_acts, made_tokens, write_store
from benchmarks.sae_lens_cache import quiet_datasets, write_cache
from benchmarks.timing import Row, compare

N_TOKENS, WIDTH = 32768, 512


def measure() -> Row:
    """One shard of each, of the same float32 numbers; ours with all columns, digests and fsync."""
    quiet_datasets()
    acts, tokens = made_acts(N_TOKENS, WIDTH), made_tokens(N_TOKENS)
    token_ids = torch.arange(N_TOKENS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def ours() -> None:
            shutil.rmtree(folder / "ours", ignore_errors=True)
            write_store(acts, tokens, folder / "ours")

        return compare(
            f"store_write[{N_TOKENS}x{WIDTH} float32]",
            ours,
            lambda: write_cache(acts, token_ids, folder / "peer"),
            amount=acts.numel() * 4 / 1e6,
            unit="MB",
            peer_name="sae-lens CacheActivationsRunner",
            command="python -m benchmarks.run store_write",
        )
