"""Shuffled batches for training: our buffer against plain preadv in order, and against sae-lens' mixing buffer over its cache."""

import tempfile
import warnings
from itertools import islice
from pathlib import Path

import torch

from benchmarks.made_acts import made_acts, made_tokens, write_store
from benchmarks.plain_file import read_plain
from benchmarks.sae_lens_cache import CONTEXT, HOOK, open_cache, quiet_datasets, write_cache
from benchmarks.timing import Row, compare
from mechprobe.activations.shuffling import ShuffledReader
from mechprobe.activations.store import ActivationStore

COMMAND = "python -m benchmarks.run store_shuffle"
BATCH = 4096


def measure() -> list[Row]:
    """Epochs over files in the page cache, in batches of 4096 rows."""
    quiet_datasets()
    return [_against_plain(32768, 4096), _against_sae_lens(16384, 2048)]


def _against_plain(n_tokens: int, width: int) -> Row:
    acts, tokens = made_acts(n_tokens, width).to(torch.bfloat16), made_tokens(n_tokens)
    with tempfile.TemporaryDirectory() as name:
        write_store(acts, tokens, Path(name) / "ours", "bfloat16")
        store = ActivationStore.open(Path(name) / "ours")
        # A quarter of the rows is mixed at a time.
        reader = ShuffledReader(
            store, [HOOK], batch_size=BATCH, seed=0, buffer_bytes=acts.numel() * 2 // 2
        )

        def ours() -> None:
            for batch in islice(reader, n_tokens // BATCH):
                assert batch[HOOK].shape == (BATCH, width)

        return compare(
            f"store_shuffle_plain[{n_tokens}x{width} bfloat16]",
            ours,
            lambda: read_plain(store.path(0), acts.numel() * 2),
            amount=acts.numel() * 2 / 1e6,
            unit="MB",
            peer_name="plain preadv in order into one buffer",
            command=COMMAND,
        )


def _against_sae_lens(n_tokens: int, width: int) -> Row:
    acts, tokens = made_acts(n_tokens, width), made_tokens(n_tokens)
    with tempfile.TemporaryDirectory() as name:
        write_store(acts, tokens, Path(name) / "ours")
        write_cache(acts, torch.arange(n_tokens), Path(name) / "peer")
        store = ActivationStore.open(Path(name) / "ours")
        reader = ShuffledReader(
            store, [HOOK], batch_size=BATCH, seed=0, buffer_bytes=acts.numel() * 4
        )
        cache = open_cache(Path(name) / "peer", width, 16)
        # Half as many rows in the mixing buffer as in one of our halves would be mixed less: give it as many.
        cache.n_batches_in_buffer = n_tokens // 2 // CONTEXT
        cache.train_batch_size_tokens = BATCH
        loader = cache.get_data_loader()

        def ours() -> None:
            for batch in islice(reader, n_tokens // BATCH):
                assert batch[HOOK].shape == (BATCH, width)

        def peer() -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for batch in islice(loader, n_tokens // BATCH):
                    assert batch.shape == (BATCH, width)

        return compare(
            f"store_shuffle[{n_tokens}x{width} float32]",
            ours,
            peer,
            amount=acts.numel() * 4 / 1e6,
            unit="MB",
            peer_name="sae-lens mixing buffer over its cache",
            command=COMMAND,
        )
