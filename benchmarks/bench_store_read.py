"""Reading activations in order: our mapped blocks against plain preadv, and against sae-lens' cached ActivationsStore."""

import tempfile
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.made_acts import made_acts, made_tokens, write_store
from benchmarks.plain_file import read_plain
from benchmarks.sae_lens_cache import CONTEXT, HOOK, open_cache, quiet_datasets, write_cache
from benchmarks.timing import Row, compare
from mechprobe.activations.store import ActivationStore

COMMAND = "python -m benchmarks.run store_read"


def measure() -> list[Row]:
    """One pass over the same numbers, from files in the page cache."""
    quiet_datasets()
    return [*_against_plain(32768, 4096), _against_sae_lens(16384, 2048, 4096)]


def _against_plain(n_tokens: int, width: int) -> list[Row]:
    acts, tokens = made_acts(n_tokens, width).to(torch.bfloat16), made_tokens(n_tokens)
    n_bytes = acts.numel() * 2
    buffer = torch.empty(1024, width, dtype=torch.bfloat16)

    def sum_up(part: Tensor) -> None:
        part.view(-1).view(torch.int64).sum()

    with tempfile.TemporaryDirectory() as name:
        write_store(acts, tokens, Path(name) / "ours", "bfloat16")
        store = ActivationStore.open(Path(name) / "ours")

        def copied() -> None:
            for block in store.blocks([HOOK], max_rows=1024):
                buffer.copy_(block.acts[HOOK])

        def summed() -> None:
            for block in store.blocks([HOOK], max_rows=1024):
                sum_up(block.acts[HOOK])

        shape = f"{n_tokens}x{width} bfloat16"
        return [
            compare(
                f"store_read_plain[{shape}, copied]",
                copied,
                lambda: read_plain(store.path(0), n_bytes),
                amount=n_bytes / 1e6,
                unit="MB",
                peer_name="plain preadv into one buffer",
                command=COMMAND,
            ),
            compare(
                f"store_read_plain[{shape}, summed where they are]",
                summed,
                lambda: read_plain(store.path(0), n_bytes, sum_up),
                amount=n_bytes / 1e6,
                unit="MB",
                peer_name="plain preadv into one buffer, summed there",
                command=COMMAND,
            ),
        ]


def _against_sae_lens(n_tokens: int, width: int, batch: int) -> Row:
    acts, tokens = made_acts(n_tokens, width), made_tokens(n_tokens)
    with tempfile.TemporaryDirectory() as name:
        write_store(acts, tokens, Path(name) / "ours")
        write_cache(acts, torch.arange(n_tokens), Path(name) / "peer")
        store = ActivationStore.open(Path(name) / "ours")
        cache = open_cache(Path(name) / "peer", width, batch // CONTEXT)

        def ours() -> None:
            for block in store.blocks([HOOK], max_rows=batch):
                block.acts[HOOK].sum()

        def peer() -> None:
            for _ in range(n_tokens // batch):
                cache.get_raw_llm_batch()[0].sum()

        return compare(
            f"store_read[{n_tokens}x{width} float32, summed]",
            ours,
            peer,
            amount=acts.numel() * 4 / 1e6,
            unit="MB",
            peer_name="sae-lens ActivationsStore on its cache",
            command=COMMAND,
        )
