"""Sequences of unequal length as padded batches, few tokens wasted and none confused."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mechprobe.errors import ShapeError

Side = Literal["left", "right"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TokenBatch:
    """Padded sequences, and which of their positions hold tokens."""

    token_ids: Int[Tensor, "case pos"]
    mask: Bool[Tensor, "case pos"]

    @staticmethod
    def of(sequences: Sequence[Sequence[int]], pad_id: int, side: Side = "right") -> "TokenBatch":
        """Pad sequences to the longest.

        Raises:
            ShapeError: there is no sequence, or one is empty.
        """
        lengths = [len(sequence) for sequence in sequences]
        if not lengths or min(lengths) == 0:
            raise ShapeError(
                f"a batch needs at least one sequence and a token in each; got lengths {lengths[:20]}."
            )
        token_ids = torch.full((len(lengths), max(lengths)), pad_id, dtype=torch.long)
        mask = torch.zeros(token_ids.shape, dtype=torch.bool)
        for row, sequence in enumerate(sequences):
            first = 0 if side == "right" else max(lengths) - len(sequence)
            token_ids[row, first : first + len(sequence)] = torch.as_tensor(sequence)
            mask[row, first : first + len(sequence)] = True
        return TokenBatch(token_ids=token_ids, mask=mask)

    @property
    def positions(self) -> Int[Tensor, "case pos"]:
        """Index of each token in its own sequence; -1 at padding."""
        return torch.where(self.mask, self.mask.long().cumsum(-1) - 1, -1)


def length_sorted_batches(
    lengths: Sequence[int] | Int[np.ndarray, "case"], max_tokens: int
) -> list[Int[np.ndarray, "row"]]:
    """Split sequences of like length into batches of at most `max_tokens` positions, padding included.

    The longest come first, so that a batch that does not fit in memory fails at once. A sequence longer than
    `max_tokens` makes a batch of its own.
    """
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    batches: list[Int[np.ndarray, "row"]] = []
    start = 0
    while start < len(order):
        n_rows = max(1, max_tokens // max(1, int(lengths[order[start]])))
        batches.append(order[start : start + n_rows])
        start += n_rows
    return batches
