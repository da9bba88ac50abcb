"""Encoding an activation store into a feature store, shard by shard, never with all features of all tokens."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from mechprobe.activations.shards import (
    SCHEMA,
    Sidecar,
    commit_shard,
    finished_shard,
    read_header,
    safetensors_chunks,
    shard_name,
    write_json_durably,
)
from mechprobe.activations.store import ActivationStore, Rows
from mechprobe.errors import CheckpointError, StoreError
from mechprobe.records import digest_json
from mechprobe.saes.features import HEADER_NAME, KIND, FeatureStore
from mechprobe.saes.lens import Sae, d_sae_of, sae_digest

_DENSE_NUMBERS = 1 << 24
"""How many dense feature activations are in memory at once (64 MiB of float32)."""
_MAX_UINT16 = 1 << 16


def encode_store(
    store: ActivationStore, hook_name: str, sae: Sae, out: Path, rows: Rows = None
) -> FeatureStore:
    """Encode rows of a store and keep the active features; a second call writes only what is missing.

    Raises:
        CheckpointError: the SAE reads activations of another width.
        StoreError: `out` holds something else, or a feature is not finite in float16.
    """
    if sae.cfg.d_in != store.width(hook_name):
        raise CheckpointError(
            f"the SAE reads activations of width {sae.cfg.d_in}, {hook_name} has width "
            f"{store.width(hook_name)}; use an SAE trained at that hook point."
        )
    numbers = np.unique(store.row_numbers(rows))
    config = _start(store, hook_name, sae, numbers, out)
    pairs = list(pairwise(np.searchsorted(numbers, store.row_bounds)))
    for index, (start, end) in enumerate(
        tqdm(pairs, desc=f"features at {hook_name}", disable=None)
    ):
        if not finished_shard(out, index, kind=KIND, config=config):
            _encode_shard(store, hook_name, sae, numbers[start:end], out, index, config)
    return FeatureStore.open(out)


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
    store: ActivationStore, hook_name: str, sae: Sae, numbers: Int[np.ndarray, "row"], out: Path
) -> str:
    header: dict[str, Any] = {
        "kind": KIND,
        "schema": SCHEMA,
        "hook_name": hook_name,
        "d_sae": d_sae_of(sae),
        "sae": sae_digest(sae),
        "store": store.digest,
        "n_shards": len(store.shards),
        "rows": digest_json(numbers.tolist()),
    }
    header["digest"] = digest_json(header)
    out.mkdir(parents=True, exist_ok=True)
    if not (out / HEADER_NAME).is_file():
        if found := sorted(path.name for path in out.iterdir() if path.suffix != ".tmp"):
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


def _encode_shard(
    store: ActivationStore,
    hook_name: str,
    sae: Sae,
    numbers: Int[np.ndarray, "row"],
    out: Path,
    index: int,
    config: str,
) -> Sidecar:
    blocks = [
        encode_rows(sae, store.acts(hook_name, block))
        for block in _blocks(numbers, store.width(hook_name))
    ]
    features: Any = sp.vstack(blocks, format="csr") if blocks else sp.csr_matrix((0, d_sae_of(sae)))
    tensors = _tensors(features, numbers)
    if not tensors["value"].isfinite().all():
        raise StoreError(
            f"a feature of the SAE at {hook_name} reaches {np.abs(features.data).max():.3g}, more than float16 "
            "holds (65504); scale the SAE's encoder down and its decoder up."
        )
    return commit_shard(
        out,
        shard_name(index),
        {".safetensors": safetensors_chunks(tensors)},
        kind=KIND,
        config=config,
        n_rows=len(numbers),
        facts={"n_active": int(features.nnz)},
    )


def _blocks(numbers: Int[np.ndarray, "row"], width: int) -> Iterator[Int[np.ndarray, "block"]]:
    step = max(16, _DENSE_NUMBERS // width)
    for start in range(0, len(numbers), step):
        yield numbers[start : start + step]


def _tensors(features: Any, numbers: Int[np.ndarray, "row"]) -> dict[str, Tensor]:
    """Row-major and feature-major copies of the same numbers: one for reading rows, one for features."""
    by_feature = features.tocsc()
    narrow = np.uint16 if features.shape[1] <= _MAX_UINT16 else np.int32
    with np.errstate(over="ignore"):
        arrays = {
            "row": numbers.astype(np.int64),
            "indptr": features.indptr.astype(np.int64),
            "index": features.indices.astype(narrow),
            "value": features.data.astype(np.float16),
            "feature_indptr": by_feature.indptr.astype(np.int64),
            "feature_row": by_feature.indices.astype(np.int32),
            "feature_value": by_feature.data.astype(np.float16),
        }
    return {name: torch.from_numpy(array) for name, array in arrays.items()}
