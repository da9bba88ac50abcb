"""Conversations that the model itself goes on with: the text and its activations from one pass.

The text is part of the result: it is written, part by part, before the shard that holds its activations counts. A row
belongs to a token of the finished conversation as the chat template renders it. Where that has other tokens than were
written (a text that is tokenised anew can be), the conversation is run again, so the rows are always those of the text.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from mechprobe.activations.author import Author, GenerationConfig
from mechprobe.activations.capture import check_ids, reading_config
from mechprobe.activations.estimate import CaptureEstimate, need_disk
from mechprobe.activations.selection import TokenSelection
from mechprobe.activations.store import ActivationStore
from mechprobe.activations.writing import TORCH_DTYPES, StoreWriter
from mechprobe.errors import DataError
from mechprobe.models.subject import Subject
from mechprobe.transcripts.jsonl import read_transcripts, write_transcripts
from mechprobe.transcripts.transcript import Transcript

STORE, TEXTS, PARTS = "store", "transcripts.jsonl", "parts"


def generate_and_capture(
    prompts: Sequence[Transcript],
    subject: Subject,
    hook_names: Sequence[str],
    out: Path,
    *,
    config: GenerationConfig | None = None,
    select: TokenSelection | None = None,
    dtype: str = "bfloat16",
) -> ActivationStore:
    """Let a model write the next assistant message of conversations, and store the activations of the whole.

    Writes `out`/store and `out`/transcripts.jsonl (the finished conversations, without labels); goes on where a run
    was cut off, to the same bytes.

    Args:
        prompts: conversations whose next message is the assistant's; their spans are not taken over.
        select: which tokens to store; by default what the assistant reasons, answers and calls, in old messages too.

    Raises:
        DataError: there are no prompts, two have one id, or one ends with the assistant's message.
        ModelError: the model is an encoder, or its chat template does not say where the assistant begins.
        StoreError: `out` holds something else, or the disk is too small for texts of full length.
    """
    config, select = config or GenerationConfig(), select or TokenSelection()
    check_ids(prompts)
    if done := next(
        (p for p in prompts if p.messages and p.messages[-1].role == "assistant"), None
    ):
        raise DataError(
            f"prompt {done.id!r} ends with a message of the assistant; end it with the message to answer."
        )
    author = Author.of(subject, config, select)
    hooks = {subject.resolve(name): subject.width(name) for name in hook_names}
    with StoreWriter.start(
        out / STORE,
        hooks=hooks,
        dtype=dtype,
        config={**reading_config(subject, select, prompts), "generation": asdict(config)},
        n_conversations=len(prompts),
        record={"parity": asdict(subject.parity)},
    ) as writer:
        _need_room(prompts, author, writer)
        starts = range(0, len(prompts), config.shard_prompts)
        for index, start in enumerate(tqdm(starts, desc="generate and capture", disable=None)):
            part = out / PARTS / f"{index:05d}.jsonl"
            if not (part.is_file() and writer.finished(index)):
                part.parent.mkdir(exist_ok=True)
                author.write_shard(
                    prompts[start : start + config.shard_prompts], start, index, writer, part
                )
        paths = [out / PARTS / f"{index:05d}.jsonl" for index in range(len(starts))]
        write_transcripts(out / TEXTS, (t for path in paths for t in read_transcripts(path)))
    return ActivationStore.open(out / STORE)


def _need_room(prompts: Sequence[Transcript], author: "Author", writer: StoreWriter) -> None:
    """The most that can come: every text at full length, every token kept."""
    row = sum(writer.hooks.values()) * TORCH_DTYPES[writer.dtype].itemsize
    n_shards = -(-len(prompts) // author.config.shard_prompts)
    if all(writer.finished(index) for index in range(n_shards)):
        return
    n_tokens = sum(len(author.prompt_ids(p)) + author.config.max_new_tokens for p in prompts)
    need_disk(
        CaptureEstimate(
            n_shards=n_shards,
            n_tokens=n_tokens,
            n_rows=n_tokens,
            disk_bytes=n_tokens * row,
            memory_bytes=0,
        ),
        writer.folder,
    )
