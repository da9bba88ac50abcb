"""Reading activations in order, into float32 batches: our store against sae-lens' cached ActivationsStore."""

import tempfile
from pathlib import Path

import torch

from benchmarks.made_acts import made_acts, made_tokens, write_store
from benchmarks.sae_lens_cache import CONTEXT, HOOK, open_cache, quiet_datasets, write_cache
from benchmarks.timing import Row, compare
from mechprobe.activations.store import ActivationStore

N_TOKENS, WIDTH, BATCH = 65536, 512, 4096


def measure() -> Row:
    """One pass over the same float32 numbers, from files in the page cache."""
    quiet_datasets()
    acts, tokens = made_acts(N_TOKENS, WIDTH), made_tokens(N_TOKENS)
    with tempfile.TemporaryDirectory() as name:
        write_store(acts, tokens, Path(name) / "ours")
        write_cache(acts, torch.arange(N_TOKENS), Path(name) / "peer")
        store = ActivationStore.open(Path(name) / "ours")
        cache = open_cache(Path(name) / "peer", WIDTH, BATCH // CONTEXT)

        def ours() -> None:
            for batch in store.batches(HOOK, batch_size=BATCH):
                assert batch.shape == (BATCH, WIDTH)

        def peer() -> None:
            for _ in range(N_TOKENS // BATCH):
                batch, _ = cache.get_raw_llm_batch()
                assert batch.shape == (BATCH, WIDTH)

        return compare(
            f"store_read[{N_TOKENS}x{WIDTH} float32]",
            ours,
            peer,
            amount=acts.numel() * 4 / 1e6,
            unit="MB",
            peer_name="sae-lens ActivationsStore on its cache",
            command="python -m benchmarks.run store_read",
        )
