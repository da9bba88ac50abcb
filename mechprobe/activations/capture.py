"""From transcripts to an activation store: the model runs once, only the selected tokens are kept.

First the plan (`plan.py`): which conversations make which shard, and what it all needs. Then the shards, here or on
many machines (`shard_capture.py`); a capture that was cut off goes on with those that are missing and ends with the
same bytes, a finished one is left as it is.
"""

import hashlib
import json
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from mechprobe.activations.estimate import CaptureEstimate, estimate_capture, need_disk
from mechprobe.activations.plan import HELD_TOKENS, Conversations, ShardPlan, missing_shards
from mechprobe.activations.selection import TokenSelection
from mechprobe.activations.shard_capture import CaptureJob, Engine, ShardCapture, engine_for
from mechprobe.activations.shards import read_header
from mechprobe.activations.store import ActivationStore
from mechprobe.activations.store_header import HEADER_NAME, KIND
from mechprobe.activations.transcript_file import TranscriptFile
from mechprobe.activations.writing import TORCH_DTYPES, StoreWriter
from mechprobe.errors import ConfigError, DataError
from mechprobe.executors.local import LocalExecutor
from mechprobe.executors.work import Executor
from mechprobe.models.subject import Subject
from mechprobe.transcripts.transcript import Transcript


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
    executor: Executor | None = None,
    say: Callable[[str], None] | None = None,
) -> ActivationStore:
    """Run a model on transcripts and store its activations at hook points; go on where a run was cut off.

    Args:
        transcripts: a list, or a `TranscriptFile`, which keeps them on disk.
        select: which tokens to store; by default what the assistant reasons, answers and calls.
        dtype: "bfloat16", "float32" or "float16".
        batch_tokens: padded tokens in a forward pass; 2048 suits the caches of a CPU, a GPU likes more.
        shard_tokens: stored tokens from which on a shard is full.
        limit: only the first transcripts.
        executor: where shards are made, by default in this process; the bytes are the same. Other processes load the
            model as `subject` was loaded, and `out` must be a folder that all of them see.
        say: takes a line that says how much work, disk and memory is ahead.

    Raises:
        ConfigError: a number is out of range, or the executor cannot be had.
        DataError: there are no transcripts, two have one id, or no token is selected.
        HookError: a hook point does not exist.
        StoreError: `out` holds something else, the disk is too small, or activations are not finite.
        WorkError: a shard failed in other processes as often as it may; the others are done.
    """
    if min(batch_tokens, shard_tokens) < 1 or (limit is not None and limit < 1):
        raise ConfigError(
            f"batch_tokens {batch_tokens}, shard_tokens {shard_tokens} and limit {limit} must be >= 1."
        )
    chosen, select = transcripts[:limit], select or TokenSelection()
    executor = executor or LocalExecutor()
    check_ids(chosen)
    hooks = {subject.resolve(name): subject.width(name) for name in hook_names}
    engine = _engine(subject, list(hooks), out)
    config = {
        **reading_config(subject, select, chosen),
        "batch_tokens": batch_tokens,
        "shard_tokens": shard_tokens,
        **({"engine": engine} if engine != "bridge" else {}),
    }
    with StoreWriter.start(
        out,
        hooks=hooks,
        dtype=dtype,
        config=config,
        n_conversations=len(chosen),
        record={"parity": asdict(subject.parity)},
    ) as writer:
        held = HELD_TOKENS if executor.is_here else 0
        job = _Job(
            subject=subject,
            conversations=Conversations(chosen, subject.render, select, hold_tokens=held),
            writer=writer,
            select=select,
            batch_tokens=batch_tokens,
            engine=engine,
        )
        shards = list(missing_shards(job.conversations, writer, shard_tokens))
        if shards:
            estimate = job.estimate(shards)
            need_disk(estimate, out)
            if say:
                say(str(estimate))
            _make_shards(shards, executor, job)
    store = ActivationStore.open(out)
    if store.n_tokens == 0:
        raise DataError(
            f"no token of {len(chosen)} transcripts has a role among {select.roles} and a section among "
            f"{select.sections}; select others."
        )
    return store


def _engine(subject: Subject, hook_names: Sequence[str], out: Path) -> Engine:
    """The faster engine that serves the hook points, or the one that a store was begun with.

    Stores of before there was a choice were made through the bridge, and their header names no engine.
    """
    if (out / HEADER_NAME).is_file():
        return read_header(out / HEADER_NAME, KIND)["config"].get("engine", "bridge")
    return engine_for(subject, hook_names)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job:
    """What all shards are made with."""

    subject: Subject
    conversations: Conversations
    writer: StoreWriter
    select: TokenSelection
    batch_tokens: int
    engine: Engine

    def estimate(self, shards: Sequence[ShardPlan]) -> CaptureEstimate:
        """What some shards need."""
        return estimate_capture(
            shards,
            self.writer.hooks,
            stored_itemsize=TORCH_DTYPES[self.writer.dtype].itemsize,
            model_itemsize=self.subject.bridge.cfg.dtype.itemsize,
            batch_tokens=self.batch_tokens,
        )

    def here(self, advance: Callable[[int], object]) -> ShardCapture:
        """In this process."""
        return ShardCapture(
            subject=self.subject,
            conversations=self.conversations,
            writer=self.writer,
            batch_tokens=self.batch_tokens,
            engine=self.engine,
            advance=advance,
        )

    def elsewhere(self, transcripts: TranscriptFile) -> CaptureJob:
        """In other processes."""
        return CaptureJob(
            loading=self.subject.loading,
            transcripts=transcripts,
            select=self.select,
            writer=self.writer,
            batch_tokens=self.batch_tokens,
            engine=self.engine,
            n_threads=torch.get_num_threads(),
        )


def _make_shards(shards: Sequence[ShardPlan], executor: Executor, job: _Job) -> None:
    n_tokens = sum(shard.n_tokens for shard in shards)
    with tqdm(total=n_tokens, desc="capture", unit="tok", unit_scale=True, disable=None) as bar:
        if executor.is_here:
            work = job.here(bar.update)
            for _ in executor.map(lambda: work, shards):
                pass
            return
        with _file_of(job.conversations.transcripts, job.writer.folder) as transcripts:
            for done in executor.map(job.elsewhere(transcripts).open, shards):
                bar.update(done.result)


@contextmanager
def _file_of(transcripts: Sequence[Transcript], out: Path) -> Generator[TranscriptFile, None, None]:
    """Transcripts where other processes can read them: their own file, or one beside the store while it is made."""
    if isinstance(transcripts, TranscriptFile):
        yield transcripts
        return
    path = out.resolve().with_name(f"{out.name}.transcripts.jsonl")
    try:
        yield TranscriptFile.write(path, transcripts)
    finally:
        path.unlink(missing_ok=True)


def reading_config(
    subject: Subject, select: TokenSelection, transcripts: Sequence[Transcript]
) -> dict[str, Any]:
    """Who reads what, and what of it is kept: the part of a store's configuration that every capture has."""
    return {
        "model": _model_name(subject),
        "model_digest": subject.model_digest,
        "model_dtype": str(subject.bridge.cfg.dtype),
        "chat_template": subject.chat_template,
        "window": subject.window,
        "roles": select.roles and list(select.roles),
        "sections": select.sections and list(select.sections),
        "transcripts": digest_texts(transcripts),
    }


def _model_name(subject: Subject) -> str:
    """The hub name or the folder's own name, so that a moved folder is still the same model."""
    folder = Path(subject.name)
    return folder.name if folder.is_dir() else subject.name


def digest_texts(transcripts: Sequence[Transcript]) -> str:
    """SHA-256 of what a model reads of the transcripts, whatever their labels."""
    digest = hashlib.sha256()
    for transcript in transcripts:
        texts: list[Any] = [
            [message.role, message.content, message.reasoning, [c.text for c in message.tool_calls]]
            for message in transcript.messages
        ]
        digest.update(json.dumps([transcript.id, texts]).encode())
    return digest.hexdigest()


def check_ids(transcripts: Sequence[Transcript]) -> None:
    """Refuse an empty list, and two transcripts of one id."""
    if not transcripts:
        raise DataError("there are no transcripts to capture; give at least one.")
    seen: set[str] = set()
    for transcript in transcripts:
        if transcript.id in seen:
            raise DataError(f"two transcripts have the id {transcript.id!r}; give each its own.")
        seen.add(transcript.id)
