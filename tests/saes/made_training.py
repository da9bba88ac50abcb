"""A store of planted directions at two hook points, small enough to train on in a moment."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import normalize

from mechprobe.activations.store import ActivationStore
from mechprobe.activations.writing import StoreWriter

HOOKS = ("blocks.0.hook_out", "blocks.1.hook_out")
D_IN, N_FEATURES, N_TOKENS = 16, 24, 2048


def planted_acts(seed: int) -> Tensor:
    """Sparse sums of random directions with a little noise, away from the origin as residual streams are."""
    generator = torch.Generator().manual_seed(seed)
    directions = normalize(torch.randn(N_FEATURES, D_IN, generator=generator), dim=-1)
    is_active = torch.rand(N_TOKENS, N_FEATURES, generator=generator) < 2 / N_FEATURES
    strength = 4 + 4 * torch.rand(N_TOKENS, N_FEATURES, generator=generator)
    noise = 0.1 * torch.randn(N_TOKENS, D_IN, generator=generator)
    return (is_active * strength) @ directions + 10.0 + noise


def write_training_store(folder: Path) -> ActivationStore:
    """One shard of both hook points."""
    return write_one_shard(folder, {name: planted_acts(seed) for seed, name in enumerate(HOOKS)})


def write_one_shard(folder: Path, acts: Mapping[str, Tensor]) -> ActivationStore:
    """A store of one transcript of reasoning."""
    n_tokens = len(next(iter(acts.values())))
    writer = StoreWriter.start(
        folder,
        hooks={name: rows.shape[1] for name, rows in acts.items()},
        dtype="float32",
        config={"model": "org/toy"},
        n_conversations=1,
    )
    tokens = pd.DataFrame(
        {
            "conversation": np.zeros(n_tokens, np.int32),
            "transcript_id": "t0",
            "position": np.arange(n_tokens),
            "token_id": np.arange(n_tokens),
            "role": "assistant",
            "section": "reasoning",
        }
    )
    writer.write(0, acts, tokens, first_conversation=0, transcript_ids=["t0"])
    return ActivationStore.open(folder)
