"""18 logistic probes on a store that does not fit where they are fitted, against the same rows in memory.

Ratio: peak memory in memory over that of streaming; the time of both is printed. Default: 0.25 GiB of activations.
Larger than 2 GiB: `PROBE_STREAM_ROWS=1100000 python -m benchmarks.run probe_stream` (the store lies in a temporary
folder and goes with it; there the peer is the matrix alone, in float32: fitting in memory holds more).
"""

import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.made_acts import made_tokens
from benchmarks.memory import peak_mib
from benchmarks.sae_lens_cache import CONTEXT, HOOK
from benchmarks.timing import Row, less_is_better
from mechprobe.activations.store import ActivationStore
from mechprobe.activations.writing import StoreWriter
from mechprobe.probes.estimators import scores_of
from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.rows import LabelledRows
from mechprobe.probes.solving.logistic import fit_logistic
from mechprobe.probes.solving.streaming import StoredRows, fit_streamed_logistic

N_ROWS = int(os.environ.get("PROBE_STREAM_ROWS", "131072")) // CONTEXT * CONTEXT
WIDTH, N_INDICATORS, SHARD = 512, 18, 65536
FITS_IN_MEMORY = N_ROWS * WIDTH * 4 < 1 << 30


def measure() -> Row:
    """Equal scores first, then memory."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        labels = _write(Path(name) / "store")
        store = ActivationStore.open(Path(name) / "store")
        names = tuple(f"indicator {at}" for at in range(N_INDICATORS))
        rows = StoredRows(
            store=store, hook_names=(HOOK,), rows=np.arange(N_ROWS), labels=labels, indicators=names
        )
        found: dict[str, tuple[LinearProbe, ...]] = {}

        def streamed() -> None:
            found["streamed"] = fit_streamed_logistic(rows)[0]

        def in_memory() -> None:
            X = store.acts(HOOK).numpy()
            whole = LabelledRows(X=X, labels=labels, indicators=names)
            found["memory"] = fit_logistic(whole)[0]

        start = time.perf_counter()
        ours = peak_mib(streamed)
        print(f"streamed {N_ROWS} rows in {time.perf_counter() - start:.1f} s, peak {ours:.0f} MiB")
        assert ours < 2048, f"streaming held {ours:.0f} MiB"
        peer = N_ROWS * WIDTH * 4 / 2**20
        if FITS_IN_MEMORY:
            start = time.perf_counter()
            peer = peak_mib(in_memory)
            print(f"in memory in {time.perf_counter() - start:.1f} s, peak {peer:.0f} MiB")
            test = store.acts(HOOK, slice(0, 4096)).numpy()
            for one, other in zip(
                scores_of(found["streamed"], test).T,
                scores_of(found["memory"], test).T,
                strict=True,
            ):
                assert np.corrcoef(one, other)[0, 1] > 0.999998
    return less_is_better(
        f"probe_stream[{N_INDICATORS} x {N_ROWS}x{WIDTH}]",
        ours,
        peer,
        unit="MiB at peak",
        peer_name="fit_logistic on the rows in memory" if FITS_IN_MEMORY else "the rows in memory",
        command="python -m benchmarks.run probe_stream",
    )


def _write(folder: Path) -> np.ndarray:
    """Shards of Gaussian activations, and labels that a plane in them decides, with noise."""
    rng = np.random.default_rng(0)
    tokens = made_tokens(N_ROWS)
    planes = rng.normal(size=(WIDTH, N_INDICATORS)).astype(np.float32) * 0.1
    writer = StoreWriter.start(
        folder, hooks={HOOK: WIDTH}, dtype="float32", config={}, n_conversations=N_ROWS // CONTEXT
    )
    labels: list[np.ndarray] = []
    for shard, at in enumerate(range(0, N_ROWS, SHARD)):
        part = tokens.iloc[at : at + SHARD]
        acts = rng.standard_normal((len(part), WIDTH), dtype=np.float32)
        noise = rng.logistic(size=(len(part), N_INDICATORS))
        labels.append((acts @ planes + noise > 3).astype(np.int8))
        first, last = at // CONTEXT, (at + len(part)) // CONTEXT
        writer.write(
            shard,
            {HOOK: torch.from_numpy(acts)},
            part,
            first_conversation=first,
            transcript_ids=[f"t{index}" for index in range(first, last)],
        )
    return np.concatenate(labels)
