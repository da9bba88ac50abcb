"""Stores as other programs read them: one safetensors file, or a Hugging Face dataset in sae-lens' layout; and back.

The one door to `datasets`. sae-lens' cache holds sequences of one length, so rows are cut into such: they go on across
conversations, and what is left over at the end stays out. Back, a sequence counts as a conversation of its own.
"""

import json
import shutil
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mechprobe.activations.durable import Chunk, write_durably
from mechprobe.activations.shards import map_tensors, safetensors_header, tensor_bytes
from mechprobe.activations.store import ActivationStore
from mechprobe.activations.writing import StoreWriter
from mechprobe.errors import ConfigError, DataError
from mechprobe.models.rendering import ROLES, SECTIONS

_NUMBER_COLUMNS = (
    "conversation",
    "position",
    "token_id",
    "message",
    "turn",
    "char_start",
    "char_end",
)
_CODED_COLUMNS = ("role", "section")
SHARD_BYTES = 256 << 20
"""Of an imported store, about."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What an export wrote."""

    path: Path
    n_rows: int
    n_left_out: int
    """Rows that did not fill a sequence."""


def export_safetensors(store: ActivationStore, path: Path) -> Exported:
    """Write a whole store as one safetensors file, shard by shard.

    It holds a matrix for each hook point and a vector for each column of numbers of the token table; roles and sections
    are codes, whose names stand in the file's metadata with the transcripts' ids.

    Raises:
        StoreError: the disk is full or refuses the write.
    """
    columns = _token_vectors(store.tokens)
    dtype = getattr(torch, store.dtype)
    layout = {name: (dtype, (store.n_tokens, width)) for name, width in store.hooks.items()}
    layout |= {name: (column.dtype, tuple(column.shape)) for name, column in columns.items()}
    metadata = {
        "roles": json.dumps(ROLES),
        "sections": json.dumps(SECTIONS),
        "transcript_ids": json.dumps(store.transcript_ids),
        "config": json.dumps(store.config),
    }

    def chunks() -> Iterator[Chunk]:
        yield safetensors_header(layout, metadata)
        for name in store.hooks:
            for index, shard in enumerate(store.shards):
                if shard.n_rows:
                    yield tensor_bytes(map_tensors(store.path(index))[name])
        yield from map(tensor_bytes, columns.values())

    write_durably(path, chunks())
    return Exported(path=path, n_rows=store.n_tokens, n_left_out=0)


def export_sae_lens(
    store: ActivationStore, hook_name: str, out: Path, *, context_size: int = 128
) -> Exported:
    """Write a hook point as the dataset that sae-lens' ActivationsStore reads as cached activations, in float32.

    Raises:
        ConfigError: the store has fewer rows than a sequence, or `out` is there already.
        HookError: nothing is stored for the hook point.
    """
    from datasets import Array2D, Dataset, Features, Value
    from datasets import Sequence as SequenceOf

    width, n_sequences = store.width(hook_name), store.n_tokens // max(context_size, 1)
    if context_size < 1 or not n_sequences:
        raise ConfigError(
            f"{store.n_tokens} rows make no sequence of {context_size}; give a smaller context_size, of 1 at least."
        )
    if out.exists():
        raise ConfigError(f"{out} is there already; export into a new folder.")
    token_ids = store.tokens["token_id"].to_numpy()
    step = max(1, (64 << 20) // (4 * context_size * width))

    def sequences() -> Iterator[dict[str, Any]]:
        for first in range(0, n_sequences, step):
            last = min(first + step, n_sequences)
            rows = slice(first * context_size, last * context_size)
            acts = store.acts(hook_name, rows).view(-1, context_size, width).numpy()
            ids = token_ids[rows].reshape(-1, context_size)
            yield from ({hook_name: a, "token_ids": i} for a, i in zip(acts, ids, strict=True))

    features = Features(
        {
            hook_name: Array2D(shape=(context_size, width), dtype="float32"),
            "token_ids": SequenceOf(Value("int32"), length=context_size),
        }
    )
    scratch = out.with_name(f".{out.name}.building")
    try:
        with _quiet():
            made: Any = Dataset.from_generator(sequences, features=features, cache_dir=str(scratch))
            made.save_to_disk(str(out))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    n_rows = n_sequences * context_size
    return Exported(path=out, n_rows=n_rows, n_left_out=store.n_tokens - n_rows)


def import_sae_lens(
    source: Path, out: Path, *, dtype: str = "float32", config: Mapping[str, Any] | None = None
) -> ActivationStore:
    """Make a store of sae-lens' cached activations; a second call goes on where the first was cut off.

    Nobody knows what the tokens were, so each sequence is a conversation and its tokens stand in no message.

    Args:
        config: what is known of the model, such as {"model": name}.

    Raises:
        DataError: the folder is no such cache.
        StoreError: `out` holds something else.
    """
    data, hooks = _open_cache(source)
    context_size, width = (
        data.features[hooks[0]].shape[0],
        sum(data.features[name].shape[1] for name in hooks),
    )
    writer = StoreWriter.start(
        out,
        hooks={name: data.features[name].shape[1] for name in hooks},
        dtype=dtype,
        config={**(config or {}), "source": "sae-lens cache", "fingerprint": data._fingerprint},
        n_conversations=len(data),
    )
    step = max(1, SHARD_BYTES // (context_size * width * 4))
    with writer:
        for index, first in enumerate(range(0, len(data), step)):
            if writer.finished(index):
                continue
            part = data.with_format("numpy")[first : first + step]
            n_sequences = len(part[hooks[0]])
            names = [f"sequence-{first + number:07d}" for number in range(n_sequences)]
            acts = {name: torch.from_numpy(part[name]).flatten(0, 1) for name in hooks}
            tokens = _unknown_tokens(first, names, context_size, part.get("token_ids"))
            writer.write(index, acts, tokens, first_conversation=first, transcript_ids=names)
    return ActivationStore.open(out)


def _open_cache(source: Path) -> tuple[Any, list[str]]:
    from datasets import Array2D, load_from_disk

    try:
        with _quiet():
            data: Any = load_from_disk(str(source))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{source} is no dataset on disk ({error}); give the folder that sae-lens' CacheActivationsRunner wrote."
        ) from error
    features = getattr(data, "features", {})
    hooks = [name for name, feature in features.items() if isinstance(feature, Array2D)]
    if not hooks or len({features[name].shape[0] for name in hooks}) != 1:
        raise DataError(
            f"{source} has columns {', '.join(features)}, none or unlike ones of which hold activations [context, d]; "
            "give the folder that sae-lens' CacheActivationsRunner wrote."
        )
    return data, hooks


def _unknown_tokens(
    first: int, names: Sequence[str], context_size: int, token_ids: np.ndarray | None
) -> pd.DataFrame:
    n_rows = len(names) * context_size
    minus = np.full(n_rows, -1, dtype=np.int32)
    ids = minus if token_ids is None else token_ids.reshape(-1).astype(np.int32)
    numbers = np.arange(first, first + len(names), dtype=np.int32)
    return pd.DataFrame(
        {
            "conversation": np.repeat(numbers, context_size),
            "transcript_id": np.repeat(np.array(names), context_size),
            "position": np.tile(np.arange(context_size, dtype=np.int32), len(names)),
            "token_id": ids,
            "message": minus,
            "turn": np.zeros(n_rows, dtype=np.int32),
            "role": pd.Categorical.from_codes(np.zeros(n_rows, np.int8), list(ROLES)),
            "section": pd.Categorical.from_codes(np.zeros(n_rows, np.int8), list(SECTIONS)),
            "char_start": minus,
            "char_end": minus,
        }
    )


def _token_vectors(tokens: pd.DataFrame) -> dict[str, Tensor]:
    vectors = {
        name: torch.from_numpy(tokens[name].to_numpy(np.int32, copy=True))
        for name in _NUMBER_COLUMNS
        if name in tokens
    }
    for name in _CODED_COLUMNS:
        if name in tokens:
            names: Any = pd.Index(ROLES if name == "role" else SECTIONS)
            vectors[name] = torch.from_numpy(
                names.get_indexer(pd.Index(tokens[name])).astype(np.int8)
            )
    return vectors


@contextmanager
def _quiet() -> Generator[None, None, None]:
    """No progress bars of `datasets` while active."""
    import datasets

    were_off = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not were_off:
            datasets.enable_progress_bars()
