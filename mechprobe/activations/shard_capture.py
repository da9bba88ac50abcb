"""The work of one shard: run the model on its conversations, put the selected rows in their place, write them.

It depends on the job and the plan alone, so that any process makes the same bytes, and makes them again.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from mechprobe.activations.plan import Conversations, RenderedConversation, ShardPlan
from mechprobe.activations.selection import TokenSelection
from mechprobe.activations.transcript_file import TranscriptFile
from mechprobe.activations.writing import TORCH_DTYPES, StoreWriter
from mechprobe.errors import ModelError
from mechprobe.models.batches import TokenBatch, length_sorted_batches
from mechprobe.models.loading import Loading
from mechprobe.models.rendering import Window, token_table
from mechprobe.models.subject import Subject

Engine = Literal["fused", "bridge"]
"""What runs the model: with its own fused attention (`mechprobe.models.fused`), or through TransformerLens' bridge."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptureJob:
    """What another process needs to make any shard of a store: paths and settings, no activations."""

    loading: Loading
    transcripts: TranscriptFile
    select: TokenSelection
    writer: StoreWriter
    batch_tokens: int
    engine: Engine
    n_threads: int
    """Of the process that planned: sums of other parts round otherwise."""

    def open(self) -> Callable[[ShardPlan], int]:
        """Load the model and be ready for shards."""
        torch.set_num_threads(self.n_threads)
        subject = Subject.load(**self.loading.arguments())
        conversations = Conversations(self.transcripts, subject.render, self.select)
        return ShardCapture(
            subject=subject,
            conversations=conversations,
            writer=self.writer,
            batch_tokens=self.batch_tokens,
            engine=self.engine,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardCapture:
    """A model that is ready to make shards."""

    subject: Subject
    conversations: Conversations
    writer: StoreWriter
    batch_tokens: int
    engine: Engine
    advance: Callable[[int], object] = lambda _: None
    """Told how many tokens were read, after each pass."""

    def __call__(self, shard: ShardPlan) -> int:
        """Make one shard, unless it is there; return how many tokens the model had to read for it."""
        if self.writer.finished(shard.index):
            return shard.n_tokens
        taken = [self.conversations.take(number) for number in shard.conversations]
        dtype = TORCH_DTYPES[self.writer.dtype]
        acts = {
            name: torch.zeros(shard.n_rows, width, dtype=dtype)
            for name, width in self.writer.hooks.items()
        }
        run = harvester(self.subject, self.engine)
        for batch, rows in shard_batches(taken, self.subject, self.batch_tokens):
            captured = run(batch, list(acts))
            is_stored = rows >= 0
            for name, stored in acts.items():
                # Selected and cast where they are, so that a GPU sends no more than is stored.
                found = captured[name][is_stored.to(captured[name].device)]
                stored[rows[is_stored]] = found.to(dtype).cpu()
            self.advance(int(batch.mask.sum()))
        self.writer.write(
            shard.index,
            acts,
            token_frame(taken, shard.first_conversation),
            first_conversation=shard.first_conversation,
            transcript_ids=[one.rendering.transcript_id for one in taken],
            n_dropped=sum(len(one.rendering.dropped) for one in taken),
        )
        return shard.n_tokens


def engine_for(subject: Subject, hook_names: Sequence[str]) -> Engine:
    """The faster engine where it serves all of some canonical hook points."""
    fused = subject.fused
    return "fused" if fused is not None and fused.served.issuperset(hook_names) else "bridge"


def harvester(
    subject: Subject, engine: Engine
) -> Callable[[TokenBatch, Sequence[str]], Mapping[str, Tensor]]:
    """What captures a batch.

    Raises:
        ModelError: the model is not the same with fused attention here, where the store was begun with it.
    """
    if engine == "bridge":
        return subject.capture
    if subject.fused is None:
        raise ModelError(
            f"{subject.name} gives other activations with fused attention than through the bridge on this machine, and "
            "the store was begun with fused attention; use machines and versions of one kind, or a new folder."
        )
    return subject.fused.capture


def shard_batches(
    conversations: Sequence[RenderedConversation], subject: Subject, batch_tokens: int
) -> Iterator[tuple[TokenBatch, Int[Tensor, "case pos"]]]:
    """Batches with the row that each position is stored in, -1 for the others."""
    sequences: list[tuple[Window, np.ndarray]] = []
    n_before = 0
    for one in conversations:
        row_of_token = np.where(one.keep, n_before + np.cumsum(one.keep) - 1, -1)
        n_before += one.n_rows
        for window in one.rendering.windows:
            rows = np.where(window.tokens >= 0, row_of_token[window.tokens], -1)
            if (rows >= 0).any():
                sequences.append((window, rows))
    lengths = [len(window.token_ids) for window, _ in sequences]
    groups = length_sorted_batches(lengths, batch_tokens, apart_from=subject.rotary_switch)
    for group in groups:
        chosen = [sequences[i][0].token_ids.tolist() for i in group]
        batch = TokenBatch.of(chosen, subject.pad_id)
        rows = torch.full(batch.token_ids.shape, -1)
        for case, i in enumerate(group):
            rows[case, : lengths[i]] = torch.from_numpy(sequences[i][1])
        yield batch, rows


def token_frame(
    conversations: Sequence[RenderedConversation], first_conversation: int
) -> pd.DataFrame:
    """The token table of a shard's rows, with conversations counted over the whole store."""
    table = token_table([one.rendering for one in conversations]).to_pandas()
    keep = np.concatenate([one.keep for one in conversations])
    frame = table[keep].reset_index(drop=True)
    frame["conversation"] += np.int32(first_conversation)
    return frame
