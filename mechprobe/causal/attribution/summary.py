"""Contributions of features by token, span or transcript, with intervals that resample whole transcripts."""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import pandas as pd
import scipy.sparse as sp
from jaxtyping import Float, Int

from mechprobe.causal.attribution.contributions import Contributions, UnitContributions
from mechprobe.causal.attribution.probe_scores import EXACT_LINEAR
from mechprobe.causal.attribution.runs import AskedTokens
from mechprobe.causal.verdicts.statistics import bootstrap_many
from mechprobe.errors import ConfigError, DataError

Unit = Literal["token", "span", "transcript"]
COLUMNS = ("rank", "name", "mean", "low", "high", "share", "n_active")
ERROR, CONSTANT, TOTAL = "error term", "constant", "total"


def summarise(
    contributions: Contributions,
    tokens: AskedTokens,
    *,
    unit: Unit = "transcript",
    k: int = 10,
    n_boot: int = 1000,
    seed: int = 0,
    indicator: str | None = None,
) -> pd.DataFrame:
    """The features of largest mean contribution, then the error term, the constant and the total.

    An outcome's contributions are summed over the tokens of a unit, since all of them act on it; a probe's are averaged,
    since each token has a score of its own.

    Args:
        indicator: spans of this one only.

    Returns:
        COLUMNS: `mean` over units with its 95 % interval, `share` of the sum of sizes of all features and the error
        term, `n_active` units in which the feature brings anything.

    Raises:
        ConfigError: the unit is unknown.
        DataError: there is no such unit.
    """
    of_token, clusters = units_of(contributions, tokens, unit, indicator)
    if not clusters:
        raise DataError(
            f"there is no {unit}{f' of {indicator!r}' if indicator else ''} to summarise; the spans are of "
            f"{', '.join(sorted(set(tokens.span_names))) or 'no indicator'}."
        )
    found = contributions.summed(of_token, len(clusters))
    if contributions.method == EXACT_LINEAR:
        found = _averaged(found, np.bincount(of_token[of_token >= 0], minlength=len(clusters)))
    return _table(found, clusters, k, n_boot, seed)


def units_of(
    contributions: Contributions,
    tokens: AskedTokens,
    unit: Unit,
    indicator: str | None = None,
) -> tuple[Int[np.ndarray, "row"], list[str]]:
    """The unit of each token, -1 for none, and the transcript of each unit.

    Raises:
        ConfigError: the unit is unknown.
    """
    if unit not in get_args(Unit):
        raise ConfigError(f"unit is {unit!r}; it must be one of {', '.join(get_args(Unit))}.")
    is_used = np.ones(len(contributions.case), dtype=bool)
    if indicator is not None or unit == "span":
        names = np.array([*tokens.span_names, ""])[contributions.span]
        is_used = contributions.span >= 0
        is_used &= (names == indicator) if indicator is not None else True
    key = {
        "token": np.arange(len(is_used)),
        "span": contributions.span,
        "transcript": contributions.case,
    }[unit]
    of_token = np.full(len(is_used), -1)
    _, first, of_token[is_used] = np.unique(key[is_used], return_index=True, return_inverse=True)
    case = contributions.case[is_used][first]
    return of_token, [tokens.clusters[i] for i in case]


def mean_contributions(contributions: Contributions, n_cases: int) -> Float[np.ndarray, "d_sae"]:
    """Each feature's mean over runs."""
    return _mean(contributions.by_case(n_cases).features)


def _table(
    found: UnitContributions, clusters: Sequence[str], k: int, n_boot: int, seed: int
) -> pd.DataFrame:
    mean = _mean(found.features)
    size = np.abs(mean).sum() + abs(found.error.mean()) or 1.0
    top = np.argsort(-np.abs(mean), kind="stable")[:k]
    top = top[mean[top] != 0]
    values = np.column_stack(
        [found.features[:, top].toarray(), found.error, found.constant, found.total]
    )
    bounds = bootstrap_many(values, clusters, n_boot=n_boot, seed=seed)
    share = [*np.abs(mean[top]) / size, abs(found.error.mean()) / size, np.nan, np.nan]
    return pd.DataFrame(
        {
            "rank": [*range(1, len(top) + 1), 0, 0, 0],
            "name": [*map(str, top.tolist()), ERROR, CONSTANT, TOTAL],
            "mean": values.mean(0),
            "low": bounds[:, 0],
            "high": bounds[:, 1],
            "share": share,
            "n_active": (values != 0).sum(0),
        },
        columns=list(COLUMNS),
    )


def _averaged(found: UnitContributions, n_tokens: Int[np.ndarray, "unit"]) -> UnitContributions:
    share = 1 / n_tokens
    return UnitContributions(
        features=sp.csr_matrix(sp.diags_array(share) @ found.features),
        error=found.error * share,
        constant=found.constant * share,
    )


def _mean(features: sp.csr_matrix) -> Float[np.ndarray, "d_sae"]:
    return np.asarray(features.mean(axis=0), dtype=np.float64).ravel()
