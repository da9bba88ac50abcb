"""What a feature goes with: tokens and indicators that are more frequent where it is active, by how much (lift)."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from mechprobe.saes.features import FeatureStore

_MIN_COUNT = 2
"""Active tokens that a word needs, so that a single one does not look like a finding."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Word:
    """A token that a feature goes with."""

    token_id: int
    count: int
    """Of the feature's active tokens, how many are this one."""
    lift: float
    """Share among the feature's active tokens divided by share among all encoded tokens; 1 is no relation."""


def feature_words(
    token_ids: Int[np.ndarray, "active"], among_all: Int[np.ndarray, "vocab"], n: int = 6
) -> list[Word]:
    """The tokens that tell most of where a feature is active: largest count times log lift.

    Args:
        token_ids: tokens that the feature is active on.
        among_all: how often each token is among all that were encoded.
    """
    if not len(token_ids):
        return []
    found, counts = np.unique(token_ids, return_counts=True)
    lift = counts / len(token_ids) * among_all.sum() / among_all[found]
    worth = np.where((lift > 1) & (counts >= _MIN_COUNT), counts * np.log(lift), -np.inf)
    best = [at for at in np.argsort(-worth, kind="stable")[:n].tolist() if np.isfinite(worth[at])]
    return [
        Word(token_id=int(found[at]), count=int(counts[at]), lift=float(lift[at])) for at in best
    ]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class IndicatorCompany:
    """How often each feature is active on the tokens of each indicator."""

    indicators: tuple[str, ...]
    n_tokens: Int[np.ndarray, "indicator"]
    """Encoded tokens in spans of the indicator."""
    share: Float[np.ndarray, "indicator d_sae"]
    """Share of these that the feature is active on; NaN where there are none."""
    lift: Float[np.ndarray, "indicator d_sae"]
    """That share over the share of all encoded tokens; NaN for a feature that is never active."""


def indicator_company(
    features: FeatureStore, inside: Mapping[str, Bool[np.ndarray, "tok"]]
) -> IndicatorCompany:
    """Lift of every feature on every indicator's tokens; only the rows inside of spans are read.

    Args:
        inside: indicator -> whether each encoded row (`features.rows`) lies in a span of it.
    """
    names = tuple(inside)
    n_tokens = np.array([int(inside[name].sum()) for name in names], dtype=np.int64)
    share = np.full((len(names), features.d_sae), np.nan)
    for at, name in enumerate(names):
        if n_tokens[at]:
            active = features.csr(features.rows[inside[name]])
            share[at] = active.getnnz(axis=0) / n_tokens[at]
    density = features.index.counts() / max(features.n_tokens, 1)
    lift = np.divide(share, density, out=np.full_like(share, np.nan), where=density > 0)
    return IndicatorCompany(indicators=names, n_tokens=n_tokens, share=share, lift=lift)
