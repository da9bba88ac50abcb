"""A small SAE of plain torch and a small store with known features, for tests that need no sae-lens."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from mechprobe.activations.store import ActivationStore
from mechprobe.activations.writing import StoreWriter

HOOK = "blocks.0.hook_out"
D_IN, D_SAE = 8, 24


class MadeSae(nn.Module):
    """ReLU encoder, linear decoder, as sae-lens' "standard" architecture has them."""

    def __init__(self, seed: int = 0, bias: float = -1.0, **cfg: object) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.W_enc = nn.Parameter(torch.randn(D_IN, D_SAE, generator=generator))
        self.W_dec = nn.Parameter(torch.randn(D_SAE, D_IN, generator=generator))
        self.b_enc = nn.Parameter(torch.full((D_SAE,), bias))
        self.b_dec = nn.Parameter(torch.randn(D_IN, generator=generator))
        self.cfg = SimpleNamespace(
            d_in=D_IN, d_sae=D_SAE, normalize_activations="none", architecture=lambda: "standard"
        )
        vars(self.cfg).update(cfg)

    def encode(self, acts: Tensor) -> Tensor:
        return ((acts - self.b_dec) @ self.W_enc + self.b_enc).relu()

    def decode(self, feature_acts: Tensor) -> Tensor:
        return feature_acts @ self.W_dec + self.b_dec


def write_store(
    folder: Path, sizes: tuple[int, ...] = (5, 7, 0, 6), seed: int = 0
) -> ActivationStore:
    """One conversation a shard: reasoning, then one token of answer."""
    generator = torch.Generator().manual_seed(seed)
    writer = StoreWriter.start(
        folder,
        hooks={HOOK: D_IN},
        dtype="float32",
        config={"model": "made"},
        n_conversations=len(sizes),
    )
    for index, size in enumerate(sizes):
        position = np.arange(size)
        tokens = pd.DataFrame(
            {
                "conversation": np.full(size, index, np.int32),
                "transcript_id": pd.Categorical([f"t{index}"] * size),
                "position": position,
                "token_id": 100 * index + position,
                "message": np.ones(size, np.int32),
                "turn": np.ones(size, np.int32),
                "role": pd.Categorical(["assistant"] * size, ["user", "assistant"]),
                "section": pd.Categorical(np.where(position < size - 1, "reasoning", "answer")),
                "char_start": np.where(position < size - 1, 2 * position, 0),
                "char_end": np.where(position < size - 1, 2 * position + 1, 1),
            }
        )
        acts = {HOOK: torch.randn(size, D_IN, generator=generator)}
        writer.write(index, acts, tokens, first_conversation=index, transcript_ids=[f"t{index}"])
    return ActivationStore.open(folder)
