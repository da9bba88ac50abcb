"""Reading one feature from the index against scanning all rows, and the memory of encoding as the tokens grow."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks.memory import peak_mib
from benchmarks.timing import Row, compare, less_is_better
from mechprobe.activations.store import ActivationStore
from mechprobe.activations.writing import StoreWriter
from mechprobe.saes.encoding import encode_store
from mechprobe.saes.lens import import_sae_lens

HOOK = "blocks.0.hook_out"
N_TOKENS, SHARD, D_IN, D_SAE, K = 65_536, 16_384, 64, 4_096, 32
COMMAND = "python -m benchmarks.run feature_store"


def measure() -> list[Row]:
    """A TopK SAE of random weights on Gaussian rows; both readings of a feature are compared before they are timed."""
    sae_lens = import_sae_lens()
    torch.manual_seed(0)
    sae = sae_lens.TopKSAE(sae_lens.TopKSAEConfig(d_in=D_IN, d_sae=D_SAE, k=K))
    with tempfile.TemporaryDirectory() as name:
        few = made_store(Path(name) / "few", N_TOKENS)
        many = made_store(Path(name) / "many", 4 * N_TOKENS)
        encode_store(few, HOOK, sae, Path(name) / "warm")
        peak = peak_mib(lambda: encode_store(few, HOOK, sae, Path(name) / "f"))
        peak_of_four = peak_mib(lambda: encode_store(many, HOOK, sae, Path(name) / "m"))
        features = encode_store(many, HOOK, sae, Path(name) / "m")
        whole = features.csr()

        def by_index() -> list[np.ndarray]:
            return [features.feature(feature)[1] for feature in range(0, D_SAE, 512)]

        def by_scan() -> list[np.ndarray]:
            return [whole.data[whole.indices == feature] for feature in range(0, D_SAE, 512)]

        assert all(map(np.array_equal, by_index(), by_scan()))
        lookup = compare(
            f"feature_lookup[{features.n_tokens} tokens d_sae={D_SAE} k={K}]",
            by_index,
            by_scan,
            amount=D_SAE // 512,
            unit="features",
            peer_name="scan of the rows, held in memory",
            command=COMMAND,
        )
    memory = less_is_better(
        f"encode_memory[{4 * N_TOKENS} tokens d_sae={D_SAE} k={K}, largest resident set]",
        peak_of_four,
        peak,
        unit="MiB",
        peer_name=f"the same of {N_TOKENS} tokens",
        command=COMMAND,
    )
    return [lookup, memory]


def made_store(folder: Path, n_tokens: int) -> ActivationStore:
    """Gaussian activations, one conversation a shard."""
    writer = StoreWriter.start(
        folder,
        hooks={HOOK: D_IN},
        dtype="bfloat16",
        config={"model": "made"},
        n_conversations=n_tokens // SHARD,
    )
    for index in range(n_tokens // SHARD):
        tokens = pd.DataFrame(
            {
                "conversation": np.full(SHARD, index, np.int32),
                "transcript_id": pd.Categorical([f"t{index}"] * SHARD),
                "position": np.arange(SHARD),
                "token_id": np.arange(SHARD) % 997,
                "message": np.ones(SHARD, np.int32),
                "turn": np.ones(SHARD, np.int32),
                "role": pd.Categorical(["assistant"] * SHARD),
                "section": pd.Categorical(["reasoning"] * SHARD),
                "char_start": np.arange(SHARD),
                "char_end": np.arange(SHARD) + 1,
            }
        )
        acts = {HOOK: torch.randn(SHARD, D_IN, generator=torch.Generator().manual_seed(index))}
        writer.write(index, acts, tokens, first_conversation=index, transcript_ids=[f"t{index}"])
    return ActivationStore.open(folder)
