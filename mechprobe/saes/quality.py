"""How well an SAE describes activations, over all tokens and over roles, sections and indicators."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from jaxtyping import Bool, Float

from mechprobe.activations.rows import span_table, span_tokens
from mechprobe.activations.store import ActivationStore
from mechprobe.saes.decoding import decode_sparse
from mechprobe.saes.features import FeatureStore
from mechprobe.saes.lens import Sae
from mechprobe.transcripts.transcript import Transcript

QUALITY_COLUMNS = (
    "hook_name",
    "subset",
    "n_tokens",
    "l0",
    "explained_variance",
    "dead_share",
    "dense_share",
)
DENSE_DENSITY = 0.1
"""A feature active on more than this share of tokens is dense (the line that SAEBench draws)."""
_CHUNK = 1 << 14


def sae_quality(
    store: ActivationStore,
    features: FeatureStore,
    sae: Sae,
    transcripts: Sequence[Transcript] = (),
) -> pd.DataFrame:
    """Quality on each subset of the encoded tokens: columns QUALITY_COLUMNS, a row each.

    `l0` is features active on a token; `explained_variance` a fraction, as sae-lens' evaluation has it;
    `dead_share` features that are active on no token of the subset; `dense_share` on more than a tenth.

    Args:
        transcripts: those captured, for a subset of the span tokens of each indicator.
    """
    rows = features.rows
    subsets = _subsets(store.tokens.iloc[rows], _indicator_masks(store, rows, transcripts))
    member = sp.csr_matrix(np.stack(list(subsets.values()), axis=1).astype(np.float64))
    sums = _Sums(n_subsets=len(subsets), d_in=store.width(features.hook_name), d_sae=features.d_sae)
    for start in range(0, len(rows), _CHUNK):
        block = rows[start : start + _CHUNK]
        active = features.csr(block)
        acts = store.acts(features.hook_name, block)
        with torch.no_grad():
            error = (acts - decode_sparse(sae, active)).pow(2).sum(1)
        sums.add(
            member[start : start + _CHUNK], acts.double().numpy(), error.double().numpy(), active
        )
    table: Any = pd.DataFrame(
        {"hook_name": features.hook_name, "subset": list(subsets), **sums.columns()}
    )
    return table[list(QUALITY_COLUMNS)]


class _Sums:
    """Running sums for each subset, in float64, since the variance is a difference of large numbers."""

    def __init__(self, *, n_subsets: int, d_in: int, d_sae: int) -> None:
        self.count = np.zeros(n_subsets)
        self.acts = np.zeros((n_subsets, d_in))
        self.squares = np.zeros(n_subsets)
        self.errors = np.zeros(n_subsets)
        self.fired = np.zeros((n_subsets, d_sae))

    def add(
        self,
        member: sp.csr_matrix,
        acts: Float[np.ndarray, "tok d_in"],
        error: Float[np.ndarray, "tok"],
        active: sp.csr_matrix,
    ) -> None:
        """Add some tokens; `member` [tok, subset] says which subsets each belongs to."""
        self.count += np.asarray(member.sum(axis=0)).ravel()
        self.acts += member.T @ acts
        self.squares += member.T @ (acts**2).sum(1)
        self.errors += member.T @ error
        fired = sp.csr_matrix((active.data > 0, active.indices, active.indptr), active.shape)
        self.fired += (member.T @ fired.astype(np.float64)).toarray()

    def columns(self) -> Mapping[str, np.ndarray]:
        """The columns of the quality table that are numbers."""
        n = np.maximum(self.count, 1)
        variance = self.squares / n - ((self.acts / n[:, None]) ** 2).sum(1)
        density = self.fired / n[:, None]
        return {
            "n_tokens": self.count.astype(np.int64),
            "l0": density.sum(1),
            "explained_variance": 1 - self.errors / n / np.maximum(variance, 1e-12),
            "dead_share": (density == 0).mean(1),
            "dense_share": (density > DENSE_DENSITY).mean(1),
        }


def _subsets(
    tokens: pd.DataFrame, indicators: Mapping[str, Bool[np.ndarray, "tok"]]
) -> dict[str, Bool[np.ndarray, "tok"]]:
    subsets = {"all": np.ones(len(tokens), dtype=bool)}
    for column in ("role", "section"):
        for value in sorted(tokens[column].astype(str).unique()):
            subsets[f"{column}:{value}"] = (tokens[column] == value).to_numpy()
    return {**subsets, **indicators}


def _indicator_masks(
    store: ActivationStore, rows: np.ndarray, transcripts: Sequence[Transcript]
) -> dict[str, Bool[np.ndarray, "tok"]]:
    if not transcripts:
        return {}
    spans: Any = span_table(store.tokens, transcripts)
    spans = spans[spans["present"].astype(bool)].reset_index(drop=True)
    inside: Any = span_tokens(spans)
    indicators = spans["indicator"].to_numpy()[inside["span"].to_numpy()]
    masks = {
        f"indicator:{name}": np.isin(rows, inside["row"].to_numpy()[indicators == name])
        for name in sorted(set(indicators.tolist()))
    }
    return {name: mask for name, mask in masks.items() if mask.any()}
