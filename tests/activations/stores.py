"""Small stores with known rows, cut into shards in any way."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from torch import Tensor

from mechprobe.activations.store import ActivationStore
from mechprobe.activations.writing import StoreWriter


def token_table(sizes: Sequence[int], first: int = 0) -> pd.DataFrame:
    """Conversations of these lengths; every other one is the user's, in turn 1."""
    numbers = np.repeat(np.arange(first, first + len(sizes), dtype=np.int32), sizes)
    positions = np.concatenate([np.arange(n) for n in sizes] or [np.zeros(0)]).astype(np.int32)
    frame = pd.DataFrame(
        {
            "conversation": numbers,
            "transcript_id": [f"t{number}" for number in numbers],
            "position": positions,
            "token_id": positions + 100 * numbers,
            "message": np.zeros(len(numbers), np.int32),
            "turn": np.ones(len(numbers), np.int32),
            "role": np.where(numbers % 2, "user", "assistant"),
            "section": np.where(positions % 3, "reasoning", "answer"),
            "char_start": positions,
            "char_end": positions + 1,
        }
    )
    return frame.astype({"transcript_id": "category", "role": "category", "section": "category"})


def write_store(
    folder: Path,
    acts: dict[str, Tensor],
    sizes: Sequence[int],
    cuts: Sequence[int] = (),
    dtype: str = "float32",
) -> ActivationStore:
    """Conversations of these sizes; a new shard begins before each conversation in `cuts`."""
    rows = np.cumsum([0, *sizes])
    bounds = [0, *cuts, len(sizes)]
    with StoreWriter.start(
        folder,
        hooks={name: tensor.shape[1] for name, tensor in acts.items()},
        dtype=dtype,
        config={},
        n_conversations=len(sizes),
    ) as writer:
        for index, (first, last) in enumerate(pairwise(bounds)):
            writer.write(
                index,
                {name: tensor[rows[first] : rows[last]] for name, tensor in acts.items()},
                token_table(sizes[first:last], first),
                first_conversation=first,
                transcript_ids=[f"t{number}" for number in range(first, last)],
            )
    return ActivationStore.open(folder)
