"""Writing an activation store, shard by shard, so that a second run adds only what is missing."""

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float
from torch import Tensor

from mechprobe.activations.durable import (
    Chunk,
    WrittenFile,
    unwritable,
    write_json_durably,
    write_temporary,
)
from mechprobe.activations.lock import LOCK_NAME, StoreLock
from mechprobe.activations.moments import ActsStatistics, acts_statistics
from mechprobe.activations.shards import (
    SCHEMA,
    Sidecar,
    commit_written,
    finished_shard,
    read_header,
    safetensors_chunks,
    shard_name,
)
from mechprobe.activations.store_header import HEADER_NAME, KIND, MOMENTS_SUFFIX
from mechprobe.activations.token_columns import with_stored_columns
from mechprobe.errors import ConfigError, ShapeError, StoreError
from mechprobe.records import digest_json, installed_packages

TORCH_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreWriter:
    """A store being written; `StoreWriter.start` makes one or takes up an unfinished one.

    It holds the store's lock until it is closed or gone. Pickled, it travels without the lock: workers write their
    shards under the lock of the process that started the store.
    """

    folder: Path
    hooks: Mapping[str, int]
    dtype: str
    config_digest: str
    lock: StoreLock | None = field(default=None, repr=False, compare=False)

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        hooks: Mapping[str, int],
        dtype: str,
        config: Mapping[str, Any],
        n_conversations: int,
        record: Mapping[str, Any] | None = None,
    ) -> "StoreWriter":
        """Begin a store in an empty folder, or go on with one of exactly the same settings.

        Args:
            config: settings that decide the bytes; going on with others is refused.
            record: what is worth knowing and may differ when the work goes on, such as parity; versions are added.

        Raises:
            ConfigError: the dtype is none that a store can have.
            StoreError: the folder holds something else, a store of other settings, or is written by another process.
        """
        if dtype not in TORCH_DTYPES:
            raise ConfigError(f"dtype is {dtype!r}; a store has one of {list(TORCH_DTYPES)}.")
        wanted = {
            "kind": KIND,
            "schema": SCHEMA,
            "hooks": dict(hooks),
            "dtype": dtype,
            "n_conversations": n_conversations,
            "config": dict(config),
        }
        wanted["digest"] = digest_json(wanted)
        wanted["record"] = {**(record or {}), "packages": installed_packages()}
        _make_folder(folder)
        _refuse_foreign(folder)
        is_begun = (folder / HEADER_NAME).is_file()
        # A finished store may stand where nobody can write.
        lock = StoreLock.take(folder) if os.access(folder, os.W_OK) or not is_begun else None
        if is_begun or (folder / HEADER_NAME).is_file():
            _refuse_other_settings(folder, read_header(folder / HEADER_NAME, KIND), wanted)
        else:
            write_json_durably(folder / HEADER_NAME, wanted)
        return cls(
            folder=folder,
            hooks=dict(hooks),
            dtype=dtype,
            config_digest=wanted["digest"],
            lock=lock,
        )

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let other processes write the store."""
        if self.lock is not None:
            self.lock.release()

    def __reduce__(self) -> tuple[Any, ...]:
        return _without_lock, (self.folder, self.hooks, self.dtype, self.config_digest)

    def finished(self, index: int) -> Sidecar | None:
        """The sidecar of a shard that need not be written again."""
        return finished_shard(self.folder, index, kind=KIND, config=self.config_digest)

    def write(
        self,
        index: int,
        acts: Mapping[str, Float[Tensor, "tok _"]],
        tokens: pd.DataFrame,
        *,
        first_conversation: int,
        transcript_ids: Sequence[str],
        n_dropped: int = 0,
    ) -> Sidecar:
        """Write one shard of whole conversations; norms, sinks, spans and moments are added.

        Args:
            tokens: the token table, one row for each row of the activations.
            n_dropped: texts of these conversations that the chat template did not render.

        Raises:
            ShapeError: activations and token table have different rows, or a width is not the promised one.
            StoreError: activations are not finite; the message names hook point and transcript. Or the disk is full.
        """
        stored = {name: self._stored(name, acts[name], len(tokens)) for name in self.hooks}
        facts: dict[str, Any] = {
            "dtype": self.dtype,
            "hook_names": list(stored),
            "shapes": {name: list(tensor.shape) for name, tensor in stored.items()},
            "first_conversation": first_conversation,
            "transcript_ids": list(transcript_ids),
            "n_dropped": n_dropped,
        }
        written: list[WrittenFile] = []
        try:
            written += self._write_files(shard_name(index), stored, acts, tokens)
            return commit_written(
                self.folder,
                shard_name(index),
                written,
                kind=KIND,
                config=self.config_digest,
                n_rows=len(tokens),
                facts=facts,
            )
        finally:
            for file in written:
                file.discard()

    def _write_files(
        self,
        name: str,
        stored: Mapping[str, Tensor],
        acts: Mapping[str, Tensor],
        tokens: pd.DataFrame,
    ) -> list[WrittenFile]:
        """The files of a shard under temporary names; the disk takes the rows while their statistics are computed."""
        with ThreadPoolExecutor(1) as writing_rows:
            path = self.folder / f"{name}.safetensors"
            rows = writing_rows.submit(write_temporary, path, safetensors_chunks(stored))
            try:
                found = {hook: acts_statistics(tensor) for hook, tensor in stored.items()}
                for hook, statistics in found.items():
                    if not statistics.is_finite:
                        raise self._not_finite(hook, stored[hook], acts[hook], tokens)
                table = with_stored_columns(tokens, {hook: s.norms for hook, s in found.items()})
                small = [
                    write_temporary(self.folder / f"{name}.parquet", _parquet_chunks(table)),
                    write_temporary(
                        self.folder / f"{name}{MOMENTS_SUFFIX}", _moments_chunks(found)
                    ),
                ]
            except BaseException:
                if rows.exception() is None:
                    rows.result().discard()
                raise
            return [rows.result(), *small]

    def _stored(self, hook_name: str, acts: Tensor, n_rows: int) -> Tensor:
        wanted = (n_rows, self.hooks[hook_name])
        if tuple(acts.shape) != wanted:
            raise ShapeError(
                f"activations of {hook_name} have shape {tuple(acts.shape)}, wanted {wanted}: "
                "one row for each row of the token table."
            )
        return acts.to("cpu", TORCH_DTYPES[self.dtype])

    def _not_finite(
        self, hook_name: str, stored: Tensor, acts: Tensor, tokens: pd.DataFrame
    ) -> StoreError:
        row = int((~stored.isfinite().all(dim=1)).nonzero()[0])
        cause = "the model's output" if not acts.isfinite().all() else f"rounding to {self.dtype}"
        return StoreError(
            f"activations of {hook_name} are not finite in transcript "
            f"{tokens['transcript_id'].iloc[row]!r}, token {tokens['position'].iloc[row]}, "
            f"by {cause}; load the model or store in bfloat16 or float32."
        )


def _without_lock(
    folder: Path, hooks: Mapping[str, int], dtype: str, config_digest: str
) -> StoreWriter:
    return StoreWriter(folder=folder, hooks=hooks, dtype=dtype, config_digest=config_digest)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error


def _refuse_foreign(folder: Path) -> None:
    if (folder / HEADER_NAME).is_file():
        return
    found = sorted(path.name for path in folder.iterdir() if path.suffix != ".tmp")
    if found and found != [LOCK_NAME]:
        raise StoreError(
            f"{folder} is no activation store and not empty (found: {', '.join(found[:3])}); "
            "capture into a new folder."
        )


def _refuse_other_settings(folder: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    if found["digest"] == wanted["digest"]:
        return
    pairs = [
        (name, found.get(name), wanted[name]) for name in ("hooks", "dtype", "n_conversations")
    ]
    names = sorted({*found["config"], *wanted["config"]})
    pairs += [(name, found["config"].get(name), wanted["config"].get(name)) for name in names]
    differing = "; ".join(
        f"{name} is {_short(a)}, wanted {_short(b)}" for name, a, b in pairs if a != b
    )
    raise StoreError(
        f"{folder} holds a store of other settings ({differing}); capture into a new folder, or delete "
        "this one."
    )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:40]}... ({len(text)} characters)"


def _parquet_chunks(tokens: pd.DataFrame) -> Iterator[Chunk]:
    stream = io.BytesIO()
    # Plain strings, since the codes of categories may have another width in each shard.
    categories = tokens.select_dtypes("category").columns
    plain = tokens.astype(dict.fromkeys(categories, "str"))
    table = pa.Table.from_pandas(plain, preserve_index=False).replace_schema_metadata(None)
    pq.write_table(table, stream, compression="zstd")
    yield stream.getbuffer()


def _moments_chunks(found: Mapping[str, ActsStatistics]) -> Iterator[Chunk]:
    tensors: dict[str, Tensor] = {}
    for hook_name, statistics in found.items():
        tensors[f"{hook_name}.mean"] = statistics.moments.mean
        tensors[f"{hook_name}.m2"] = statistics.moments.m2
    yield from safetensors_chunks(tensors)
