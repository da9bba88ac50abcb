"""Made-up activations and their token table, and a store that holds them."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from benchmarks.sae_lens_cache import CONTEXT, HOOK
from mechprobe.activations.writing import StoreWriter


def made_acts(n_tokens: int, width: int) -> Tensor:
    """Gaussian activations."""
    return torch.randn(n_tokens, width, generator=torch.Generator().manual_seed(0))


def made_tokens(n_tokens: int) -> pd.DataFrame:
    """A token table of conversations of `CONTEXT` tokens, with all its columns."""
    conversation = np.arange(n_tokens, dtype=np.int32) // CONTEXT
    position = np.arange(n_tokens, dtype=np.int32) % CONTEXT
    return pd.DataFrame(
        {
            "conversation": conversation,
            "transcript_id": pd.Categorical.from_codes(
                conversation, [f"t{index}" for index in range(conversation[-1] + 1)]
            ),
            "position": position,
            "token_id": position,
            "message": np.ones(n_tokens, np.int32),
            "turn": np.ones(n_tokens, np.int32),
            "role": pd.Categorical.from_codes(np.zeros(n_tokens, np.int8), ["assistant"]),
            "section": pd.Categorical.from_codes(np.zeros(n_tokens, np.int8), ["reasoning"]),
            "char_start": 2 * position,
            "char_end": 2 * position + 1,
        }
    )


def write_store(acts: Tensor, tokens: pd.DataFrame, folder: Path, dtype: str = "float32") -> None:
    """Write one shard."""
    n_conversations = int(tokens["conversation"].iloc[-1]) + 1
    writer = StoreWriter.start(
        folder, hooks={HOOK: acts.shape[1]}, dtype=dtype, config={}, n_conversations=n_conversations
    )
    names = [f"t{index}" for index in range(n_conversations)]
    writer.write(0, {HOOK: acts}, tokens, first_conversation=0, transcript_ids=names)
