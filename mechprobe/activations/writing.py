"""Writing an activation store, shard by shard, so that a second run adds only what is missing."""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float
from torch import Tensor

from mechprobe.activations.shards import (
    SCHEMA,
    Chunk,
    Sidecar,
    commit_shard,
    finished_shard,
    read_header,
    safetensors_chunks,
    shard_name,
    write_json_durably,
)
from mechprobe.activations.store import HEADER_NAME, KIND
from mechprobe.errors import ConfigError, ShapeError, StoreError
from mechprobe.records import digest_json

TORCH_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreWriter:
    """A store being written; `StoreWriter.start` makes one or takes up an unfinished one."""

    folder: Path
    hooks: Mapping[str, int]
    dtype: str
    config_digest: str

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        hooks: Mapping[str, int],
        dtype: str,
        config: Mapping[str, Any],
        n_conversations: int,
    ) -> "StoreWriter":
        """Begin a store in an empty folder, or go on with one of exactly the same settings.

        Raises:
            ConfigError: the dtype is none that a store can have.
            StoreError: the folder holds something else, or a store of other settings.
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
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / HEADER_NAME).is_file():
            _refuse_other_settings(folder, read_header(folder / HEADER_NAME, KIND), wanted)
        elif found := sorted(path.name for path in folder.iterdir() if path.suffix != ".tmp"):
            raise StoreError(
                f"{folder} is no activation store and not empty (found: {', '.join(found[:3])}); "
                "capture into a new folder."
            )
        else:
            write_json_durably(folder / HEADER_NAME, wanted)
        return cls(folder=folder, hooks=dict(hooks), dtype=dtype, config_digest=wanted["digest"])

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
        """Write one shard of whole conversations.

        Args:
            tokens: the token table, one row for each row of the activations.
            n_dropped: texts of these conversations that the chat template did not render.

        Raises:
            ShapeError: activations and token table have different rows, or a width is not the promised one.
            StoreError: activations are not finite; the message names hook point and transcript.
        """
        stored = {
            hook_name: self._checked(hook_name, acts[hook_name], tokens) for hook_name in self.hooks
        }
        facts: dict[str, Any] = {
            "dtype": self.dtype,
            "shapes": {name: list(tensor.shape) for name, tensor in stored.items()},
            "first_conversation": first_conversation,
            "transcript_ids": list(transcript_ids),
            "n_dropped": n_dropped,
        }
        return commit_shard(
            self.folder,
            shard_name(index),
            {".safetensors": safetensors_chunks(stored), ".parquet": _parquet_chunks(tokens)},
            kind=KIND,
            config=self.config_digest,
            n_rows=len(tokens),
            facts=facts,
        )

    def _checked(self, hook_name: str, acts: Tensor, tokens: pd.DataFrame) -> Tensor:
        wanted = (len(tokens), self.hooks[hook_name])
        if tuple(acts.shape) != wanted:
            raise ShapeError(
                f"activations of {hook_name} have shape {tuple(acts.shape)}, wanted {wanted}: "
                "one row for each row of the token table."
            )
        stored = acts.to("cpu", TORCH_DTYPES[self.dtype])
        # A sum is finite only if all its terms are; the exact look is for when it is not.
        if (
            not stored.sum(dtype=torch.float32).isfinite()
            and not (finite := stored.isfinite()).all()
        ):
            row = int((~finite.all(dim=1)).nonzero()[0])
            cause = (
                "the model's output" if not acts.isfinite().all() else f"rounding to {self.dtype}"
            )
            raise StoreError(
                f"activations of {hook_name} are not finite in transcript "
                f"{tokens['transcript_id'].iloc[row]!r}, token {tokens['position'].iloc[row]}, "
                f"by {cause}; load the model or store in bfloat16 or float32."
            )
        return stored


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
