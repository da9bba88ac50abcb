"""From transcripts to an activation store: the model runs once, only the selected tokens are kept.

A shard holds whole conversations and depends on nothing but the settings, so a capture that was cut off goes on
with the next shard and ends with the same bytes; a finished one is left as it is.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Int
from torch import Tensor
from tqdm import tqdm

from mechprobe.activations.selection import TokenSelection
from mechprobe.activations.store import ActivationStore
from mechprobe.activations.writing import TORCH_DTYPES, StoreWriter
from mechprobe.errors import ConfigError, DataError, StoreError
from mechprobe.models.batches import TokenBatch, length_sorted_batches
from mechprobe.models.rendering import ROLES, SECTIONS, Rendering, Window, token_table
from mechprobe.models.subject import Subject
from mechprobe.transcripts.transcript import Transcript


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Piece:
    """Conversations that make one shard."""

    first_conversation: int
    renderings: tuple[Rendering, ...]
    keep: tuple[Bool[np.ndarray, "_"], ...]
    """For each conversation, which tokens are stored."""

    @property
    def n_rows(self) -> int:
        return sum(int(mask.sum()) for mask in self.keep)


def capture(
    transcripts: Sequence[Transcript],
    subject: Subject,
    hook_names: Sequence[str],
    out: Path,
    *,
    select: TokenSelection | None = None,
    dtype: str = "bfloat16",
    batch_tokens: int = 2048,
    shard_tokens: int = 65536,
    limit: int | None = None,
) -> ActivationStore:
    """Run a model on transcripts and store its activations at hook points; go on where a run was cut off.

    Args:
        select: which tokens to store; by default what the assistant reasons, answers and calls.
        dtype: "bfloat16", "float32" or "float16".
        batch_tokens: padded tokens in a forward pass; 2048 suits the caches of a CPU, a GPU likes more.
        shard_tokens: stored tokens from which on a shard is full.
        limit: only the first transcripts.

    Raises:
        ConfigError: a number is out of range.
        DataError: there are no transcripts, two have one id, or no token is selected.
        HookError: a hook point does not exist.
        StoreError: `out` holds something else, the disk is too small, or activations are not finite.
    """
    if min(batch_tokens, shard_tokens) < 1 or (limit is not None and limit < 1):
        raise ConfigError(
            f"batch_tokens {batch_tokens}, shard_tokens {shard_tokens} and limit {limit} must be >= 1."
        )
    chosen, select = transcripts[:limit], select or TokenSelection()
    _check_ids(chosen)
    config = {
        "model": _model_name(subject),
        "model_digest": subject.model_digest,
        "model_dtype": str(subject.bridge.cfg.dtype),
        "chat_template": subject.chat_template,
        "window": subject.window,
        "roles": select.roles and list(select.roles),
        "sections": select.sections and list(select.sections),
        "batch_tokens": batch_tokens,
        "shard_tokens": shard_tokens,
        "transcripts": digest_texts(chosen),
    }
    writer = StoreWriter.start(
        out,
        hooks={subject.resolve(name): subject.width(name) for name in hook_names},
        dtype=dtype,
        config=config,
        n_conversations=len(chosen),
    )
    _write_shards(chosen, subject, writer, select, batch_tokens, shard_tokens)
    store = ActivationStore.open(out)
    if store.n_tokens == 0:
        raise DataError(
            f"no token of {len(chosen)} transcripts has a role among {select.roles} and a section among "
            f"{select.sections}; select others."
        )
    return store


def _model_name(subject: Subject) -> str:
    """The hub name or the folder's own name, so that a moved folder is still the same model."""
    folder = Path(subject.name)
    return folder.name if folder.is_dir() else subject.name


def digest_texts(transcripts: Sequence[Transcript]) -> str:
    """SHA-256 of what a model reads of the transcripts, whatever their labels."""
    digest = hashlib.sha256()
    for transcript in transcripts:
        texts = [
            [message.role, message.content, message.reasoning, [c.text for c in message.tool_calls]]
            for message in transcript.messages
        ]
        digest.update(json.dumps([transcript.id, texts]).encode())
    return digest.hexdigest()


def _check_ids(transcripts: Sequence[Transcript]) -> None:
    if not transcripts:
        raise DataError("there are no transcripts to capture; give at least one.")
    ids = [transcript.id for transcript in transcripts]
    if len(set(ids)) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise DataError(f"two transcripts have the id {twice!r}; give each its own.")


def _write_shards(
    transcripts: Sequence[Transcript],
    subject: Subject,
    writer: StoreWriter,
    select: TokenSelection,
    batch_tokens: int,
    shard_tokens: int,
) -> None:
    start, index = 0, 0
    with tqdm(unit="tok", unit_scale=True, disable=None) as bar:
        while start < len(transcripts):
            bar.set_description(f"capture {start}/{len(transcripts)}")
            if done := writer.finished(index):
                start += len(done.facts["transcript_ids"])
            else:
                piece = _next_piece(transcripts, start, subject, select, shard_tokens)
                _check_room(piece, writer, len(transcripts) - start)
                _write_piece(piece, index, subject, writer, batch_tokens, bar.update)
                start += len(piece.renderings)
            index += 1


def _next_piece(
    transcripts: Sequence[Transcript],
    start: int,
    subject: Subject,
    select: TokenSelection,
    shard_tokens: int,
) -> _Piece:
    renderings: list[Rendering] = []
    keep: list[np.ndarray] = []
    n_rows = 0
    for transcript in transcripts[start:]:
        renderings.append(subject.render(transcript))
        keep.append(selected_tokens(renderings[-1], select))
        n_rows += int(keep[-1].sum())
        if n_rows >= shard_tokens:
            break
    return _Piece(first_conversation=start, renderings=tuple(renderings), keep=tuple(keep))


def selected_tokens(rendering: Rendering, select: TokenSelection) -> Bool[np.ndarray, "tok"]:
    """Which tokens of a conversation a selection keeps.

    Raises:
        ConfigError: it names a role or section that does not exist.
    """
    kept = np.ones(len(rendering.token_ids), dtype=bool)
    for codes, names, wanted in (
        (rendering.role, ROLES, select.roles),
        (rendering.section, SECTIONS, select.sections),
    ):
        if wanted is not None:
            if unknown := sorted(set(wanted) - set(names)):
                raise ConfigError(f"{unknown[0]!r} cannot be selected; choose among {list(names)}.")
            kept &= np.isin(codes, [names.index(name) for name in wanted])
    return kept


def _check_room(piece: _Piece, writer: StoreWriter, n_left: int) -> None:
    """Refuse before the work is done; what is still to come is taken to be like this shard."""
    row_bytes = sum(writer.hooks.values()) * TORCH_DTYPES[writer.dtype].itemsize
    needed = row_bytes * piece.n_rows * n_left // len(piece.renderings)
    free = shutil.disk_usage(writer.folder).free
    if needed > free:
        raise StoreError(
            f"the disk of {writer.folder} has {free / 1e9:.2f} GB free, and about {needed / 1e9:.2f} GB are "
            "needed; store fewer hook points or tokens, use bfloat16, or choose another disk."
        )


def _write_piece(
    piece: _Piece,
    index: int,
    subject: Subject,
    writer: StoreWriter,
    batch_tokens: int,
    advance: Callable[[int], object],
) -> None:
    dtype = TORCH_DTYPES[writer.dtype]
    acts = {
        name: torch.zeros(piece.n_rows, width, dtype=dtype) for name, width in writer.hooks.items()
    }
    for batch, rows in _batches(piece, subject.pad_id, batch_tokens):
        captured = subject.capture(batch, list(acts))
        is_stored = rows >= 0
        for name, stored in acts.items():
            stored[rows[is_stored]] = captured[name].cpu()[is_stored].to(dtype)
        advance(int(batch.mask.sum()))
    writer.write(
        index,
        acts,
        _token_frame(piece),
        first_conversation=piece.first_conversation,
        transcript_ids=[rendering.transcript_id for rendering in piece.renderings],
        n_dropped=sum(len(rendering.dropped) for rendering in piece.renderings),
    )


def _batches(
    piece: _Piece, pad_id: int, batch_tokens: int
) -> Iterator[tuple[TokenBatch, Int[Tensor, "case pos"]]]:
    """Batches with the row that each position is stored in, -1 for the others."""
    sequences: list[tuple[Window, np.ndarray]] = []
    n_before = 0
    for rendering, mask in zip(piece.renderings, piece.keep, strict=True):
        row_of_token = np.where(mask, n_before + np.cumsum(mask) - 1, -1)
        n_before += int(mask.sum())
        for window in rendering.windows:
            rows = np.where(window.tokens >= 0, row_of_token[window.tokens], -1)
            if (rows >= 0).any():
                sequences.append((window, rows))
    lengths = [len(window.token_ids) for window, _ in sequences]
    for group in length_sorted_batches(lengths, batch_tokens):
        batch = TokenBatch.of([sequences[i][0].token_ids.tolist() for i in group], pad_id)
        rows = torch.full(batch.token_ids.shape, -1)
        for case, i in enumerate(group):
            rows[case, : lengths[i]] = torch.from_numpy(sequences[i][1])
        yield batch, rows


def _token_frame(piece: _Piece) -> pd.DataFrame:
    table = token_table(piece.renderings).to_pandas()
    frame = table[np.concatenate(piece.keep)].reset_index(drop=True)
    frame["conversation"] += np.int32(piece.first_conversation)
    return frame
