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
    "mse",
    "cosine",
    "norm_in",
    "norm_ratio",
    "reconstruction_bias",
    "dead_share",
    "dense_share",
)
DENSE_DENSITY = 0.1
"""A feature active on more than this share of tokens is dense (the line that SAEBench draws)."""
_CHUNK = 1 << 14
_NO_LENGTH = 1e-4
"""Activations shorter than this are divided by 1, as sae-lens does."""


def sae_quality(
    store: ActivationStore,
    features: FeatureStore,
    sae: Sae,
    transcripts: Sequence[Transcript] = (),
) -> pd.DataFrame:
    """Quality on each subset of the encoded tokens: columns QUALITY_COLUMNS, a row each.

    `l0` is features active on a token. As in sae-lens' evaluation, `explained_variance` is a fraction of the variance
    summed over the coordinates, `mse` the squared error summed over coordinates, `cosine` that of activation and
    reconstruction, `norm_in` the length of the activation, `norm_ratio` length out over length in, each a mean over tokens.
    `reconstruction_bias` is mean squared length out over mean product of both: below 1 the SAE shrinks (arXiv
    2404.16014, equation 10). `dead_share` is features that are active on no token of the subset, `dense_share` on more
    than a tenth.

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
            decoded = decode_sparse(sae, active)
        of_block = member[start : start + _CHUNK]
        sums.add(of_block, acts.double().numpy(), decoded.double().numpy(), active)
    table: Any = pd.DataFrame(
        {"hook_name": features.hook_name, "subset": list(subsets), **sums.columns()}
    )
    return table[list(QUALITY_COLUMNS)]


class _Sums:
    """Running sums for each subset, in float64, since the variance is a difference of large numbers."""

    def __init__(self, *, n_subsets: int, d_in: int, d_sae: int) -> None:
        self.count = np.zeros(n_subsets)
        self.acts = np.zeros((n_subsets, d_in))
        self.figures = np.zeros((n_subsets, len(TOKEN_FIGURES)))
        self.fired = np.zeros((n_subsets, d_sae))

    def add(
        self,
        member: sp.csr_matrix,
        acts: Float[np.ndarray, "tok d_in"],
        decoded: Float[np.ndarray, "tok d_in"],
        active: sp.csr_matrix,
    ) -> None:
        """Add some tokens; `member` [tok, subset] says which subsets each belongs to."""
        self.count += np.asarray(member.sum(axis=0)).ravel()
        self.acts += member.T @ acts
        self.figures += member.T @ token_figures(acts, decoded)
        fired = sp.csr_matrix((active.data != 0, active.indices, active.indptr), active.shape)
        self.fired += (member.T @ fired.astype(np.float64)).toarray()

    def columns(self) -> Mapping[str, np.ndarray]:
        """The columns of the quality table that are numbers."""
        n = np.maximum(self.count, 1)
        mean = dict(zip(TOKEN_FIGURES, (self.figures / n[:, None]).T, strict=True))
        variance = mean["square_in"] - ((self.acts / n[:, None]) ** 2).sum(1)
        density = self.fired / n[:, None]
        return {
            "n_tokens": self.count.astype(np.int64),
            "l0": density.sum(1),
            "explained_variance": 1 - mean["error"] / np.maximum(variance, 1e-12),
            "mse": mean["error"],
            "cosine": mean["cosine"],
            "norm_in": mean["norm_in"],
            "norm_ratio": mean["norm_ratio"],
            "reconstruction_bias": mean["square_out"]
            / np.where(mean["product"], mean["product"], np.nan),
            "dead_share": (density == 0).mean(1),
            "dense_share": (density > DENSE_DENSITY).mean(1),
        }


TOKEN_FIGURES = (
    "error", "square_in", "square_out", "product", "cosine", "norm_in", "norm_ratio"
)  # fmt: skip


def token_figures(
    acts: Float[np.ndarray, "tok d_in"], decoded: Float[np.ndarray, "tok d_in"]
) -> Float[np.ndarray, "tok figure"]:
    """What is known of each token's reconstruction: columns TOKEN_FIGURES."""
    square_in, square_out = (acts**2).sum(1), (decoded**2).sum(1)
    product = (acts * decoded).sum(1)
    norm_in, norm_out = np.sqrt(square_in), np.sqrt(square_out)
    return np.stack(
        [
            ((acts - decoded) ** 2).sum(1),
            square_in,
            square_out,
            product,
            product / np.maximum(norm_in * norm_out, 1e-12),
            norm_in,
            norm_out / np.where(norm_in < _NO_LENGTH, 1.0, norm_in),
        ],
        axis=1,
    )


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
