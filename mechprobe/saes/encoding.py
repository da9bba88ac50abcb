"""Encoding an activation store into a feature store, shard by shard, never with all features of all tokens."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
import xxhash
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from mechprobe.activations.durable import write_json_durably
from mechprobe.activations.lock import LOCK_NAME, StoreLock
from mechprobe.activations.shards import (
    SCHEMA,
    commit_shard,
    finished_shard,
    read_header,
    safetensors_chunks,
    shard_name,
)
from mechprobe.activations.store import ActivationStore, Rows
from mechprobe.errors import CheckpointError, StoreError
from mechprobe.executors.local import LocalExecutor
from mechprobe.executors.work import Executor
from mechprobe.records import digest_json
from mechprobe.saes.codes import pack_rows
from mechprobe.saes.features import HEADER_NAME, KIND, FeatureStore
from mechprobe.saes.lens import Sae, d_sae_of, sae_digest

_DENSE_NUMBERS = 1 << 24
"""How many dense feature activations are in memory at once (64 MiB of float32)."""


def encode_store(
    store: ActivationStore,
    hook_name: str,
    sae: Sae,
    out: Path,
    rows: Rows = None,
    *,
    executor: Executor | None = None,
) -> FeatureStore:
    """Encode rows of a store and keep the active features; a second call writes only what is missing.

    Args:
        executor: where shards are encoded, by default in this process. Other processes open the store by its folder,
            and `out` must be a folder that all of them see.

    Raises:
        CheckpointError: the SAE reads activations of another width.
        StoreError: `out` holds something else or is written by another process, or a feature is not finite in float16.
        WorkError: a shard failed in other processes as often as it may; the others are done.
    """
    if sae.cfg.d_in != store.width(hook_name):
        raise CheckpointError(
            f"the SAE reads activations of width {sae.cfg.d_in}, {hook_name} has width "
            f"{store.width(hook_name)}; use an SAE trained at that hook point."
        )
    numbers = None if rows is None else np.unique(store.row_numbers(rows))
    out.mkdir(parents=True, exist_ok=True)
    # A finished store may stand where nobody can write.
    lock = StoreLock.take(out) if os.access(out, os.W_OK) else None
    try:
        _encode_missing(store, hook_name, sae, numbers, out, executor or LocalExecutor())
    finally:
        if lock is not None:
            lock.release()
    features = FeatureStore.open(out)
    _ = features.index  # sorted by feature now, so that reading never has to write
    return features


def _encode_missing(
    store: ActivationStore,
    hook_name: str,
    sae: Sae,
    numbers: Int[np.ndarray, "row"] | None,
    out: Path,
    executor: Executor,
) -> None:
    config = _start(store, hook_name, sae, numbers, out)
    job = EncodingJob(
        store=store.folder.resolve(),
        hook_name=hook_name,
        sae=sae,
        numbers=numbers,
        out=out.resolve(),
        config=config,
        n_threads=torch.get_num_threads(),
    )
    # Here the opened store is used as it is; elsewhere each process opens it anew.
    make_work = partial(job.on, store) if executor.is_here else job.open
    missing = [
        index
        for index in range(len(store.shards))
        if not finished_shard(out, index, kind=KIND, config=config)
    ]
    done = executor.map(make_work, missing)
    for _ in tqdm(done, desc=f"features at {hook_name}", total=len(missing), disable=None):
        pass


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodingJob:
    """What a process needs to encode any shard of a store."""

    store: Path
    hook_name: str
    sae: Sae
    numbers: Int[np.ndarray, "row"] | None
    """Rows to encode, ascending; None for all."""
    out: Path
    config: str
    """Digest of the header of `out`."""
    n_threads: int
    """Of the process that planned: sums of other parts round otherwise."""

    def open(self) -> Callable[[int], int]:
        """Open the store in a process of its own and be ready for shards."""
        torch.set_num_threads(self.n_threads)
        return self.on(ActivationStore.open(self.store))

    def on(self, store: ActivationStore) -> Callable[[int], int]:
        """Be ready for shards of a store that is open already."""
        return partial(_encode_shard, self, store)


def encode_rows(sae: Sae, acts: Float[Tensor, "tok d_in"]) -> sp.csr_matrix:
    """Feature activations of some rows, only the active ones kept (float32)."""
    d_sae = d_sae_of(sae)
    chunk = max(16, _DENSE_NUMBERS // d_sae)
    parts = [_active(sae, part) for part in acts.split(chunk)] if len(acts) else []
    counts = np.concatenate([np.zeros(1, np.int64), *(part[0] for part in parts)])
    columns = np.concatenate([np.zeros(0, np.int64), *(part[1] for part in parts)])
    values = np.concatenate([np.zeros(0, np.float32), *(part[2] for part in parts)])
    return sp.csr_matrix((values, columns, np.cumsum(counts)), shape=(len(acts), d_sae))


@torch.no_grad()
def _active(
    sae: Sae, acts: Float[Tensor, "tok d_in"]
) -> tuple[Int[np.ndarray, "tok"], Int[np.ndarray, "active"], Float[np.ndarray, "active"]]:
    feature_acts = sae.encode(acts.to(sae.W_dec.device))
    token, feature = feature_acts.nonzero(as_tuple=True)
    counts = torch.bincount(token, minlength=len(acts))
    values = feature_acts[token, feature].float()
    return counts.cpu().numpy(), feature.cpu().numpy(), values.cpu().numpy()


def _start(
    store: ActivationStore,
    hook_name: str,
    sae: Sae,
    numbers: Int[np.ndarray, "row"] | None,
    out: Path,
) -> str:
    header: dict[str, Any] = {
        "kind": KIND,
        "schema": SCHEMA,
        "hook_name": hook_name,
        "d_sae": d_sae_of(sae),
        "sae": sae_digest(sae),
        "store": store.digest,
        "n_shards": len(store.shards),
        "rows": "all" if numbers is None else xxhash.xxh3_64_hexdigest(numbers.tobytes()),
    }
    header["digest"] = digest_json(header)
    if not (out / HEADER_NAME).is_file():
        if found := sorted(
            path.name for path in out.iterdir() if path.suffix != ".tmp" and path.name != LOCK_NAME
        ):
            raise StoreError(
                f"{out} is no feature store and not empty (found: {', '.join(found[:3])}); encode into a "
                "new folder."
            )
        write_json_durably(out / HEADER_NAME, header)
    found = read_header(out / HEADER_NAME, KIND)
    if differing := [
        name for name in header if name != "digest" and found.get(name) != header[name]
    ]:
        raise StoreError(
            f"{out} holds features of another {', '.join(differing)}; encode into a new folder, or delete "
            "this one."
        )
    return header["digest"]


def _encode_shard(job: EncodingJob, store: ActivationStore, index: int) -> int:
    """Encode one shard; return how many activations are stored of it."""
    numbers = _numbers_of(job, store, index)
    blocks = [
        encode_rows(job.sae, store.acts(job.hook_name, block))
        for block in _blocks(numbers, store.width(job.hook_name))
    ]
    d_sae = d_sae_of(job.sae)
    features: Any = sp.vstack(blocks, format="csr") if blocks else sp.csr_matrix((0, d_sae))
    tensors = pack_rows(features, numbers)
    if not tensors["value"].isfinite().all():
        raise StoreError(
            f"a feature of the SAE at {job.hook_name} reaches {np.abs(features.data).max():.3g}, more than float16 "
            "holds (65504); scale the SAE's encoder down and its decoder up."
        )
    commit_shard(
        job.out,
        shard_name(index),
        {".safetensors": safetensors_chunks(tensors)},
        kind=KIND,
        config=job.config,
        n_rows=len(numbers),
        facts={"n_active": int(features.nnz)},
    )
    return int(features.nnz)


def _numbers_of(job: EncodingJob, store: ActivationStore, index: int) -> Int[np.ndarray, "row"]:
    first, stop = store.row_bounds[index : index + 2].tolist()
    if job.numbers is None:
        return np.arange(first, stop)
    return job.numbers[slice(*np.searchsorted(job.numbers, [first, stop]).tolist())]


def _blocks(numbers: Int[np.ndarray, "row"], width: int) -> Iterator[Int[np.ndarray, "block"]]:
    step = max(16, _DENSE_NUMBERS // width)
    for start in range(0, len(numbers), step):
        yield numbers[start : start + step]
