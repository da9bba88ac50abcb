"""How much of the text flip each of many patches brings, with intervals and tests for an exploratory map.

A map has one cell for each place that is patched. Its cells are tested against zero, two-sided since a part may hold
the text's effect back, and its q-values (Benjamini-Hochberg) are over all cells of the map. No verdict rests on them.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from mechprobe.causal.cases import SIDES, Case, RenderedPair
from mechprobe.causal.effects import measure
from mechprobe.causal.places.sites import Position, tokens_at
from mechprobe.causal.verdicts.statistics import benjamini_hochberg
from mechprobe.causal.verdicts.strata import Baseline, baseline, natural_gap
from mechprobe.models.subject import Subject

ALL = "all"
"""Indicator of the rows that average over the indicators."""
N_FLIPS = 4999
"""Sign patterns that are drawn where there are too many to try all."""
EXACT_UP_TO = 12
"""Transcripts up to which all sign patterns are tried."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TextFlips:
    """The runs whose outcome the text flip changes, both sides of each pair, unedited."""

    outcome: str
    cases: tuple[Case, ...]
    unedited: Baseline
    indicators: tuple[str, ...]
    """All indicators of the pairs, also those whose text changes nothing."""

    @property
    def names(self) -> list[str]:
        """The indicator of each case."""
        return [case.pair.indicator for case in self.cases]

    def reachable(self, positions: Sequence[Position]) -> list[Position]:
        """The positions that have a token before the outcome is read in every case; none where there is no case."""
        if not self.cases:
            return []
        return [
            position
            for position in positions
            if all(len(tokens_at(position, case.own, self.outcome)) for case in self.cases)
        ]


def text_flips(
    subject: Subject, pairs: Sequence[RenderedPair], outcome: str, *, batch_tokens: int
) -> TextFlips:
    """Run both sides of the pairs and keep those whose outcome the text changes; only they are worth patching."""
    cases = [
        Case(pair=pair, side=side) for pair in pairs for side in SIDES if outcome in pair.outcomes
    ]
    indicators = tuple(sorted({case.pair.indicator for case in cases}))
    if not cases:
        empty = baseline([], np.zeros(0), np.zeros(0), np.nan)
        return TextFlips(outcome=outcome, cases=(), unedited=empty, indicators=indicators)
    base = measure(subject, cases, outcome, batch_tokens=batch_tokens).logit_diff[0]
    # The sides of a pair are neighbours, each the other's partner.
    other = base.reshape(-1, 2)[:, ::-1].reshape(-1)
    unedited = baseline(cases, base, other, natural_gap(base))
    kept = np.flatnonzero(unedited.changed())
    return TextFlips(
        outcome=outcome,
        cases=tuple(cases[i] for i in kept),
        unedited=unedited.pick(kept),
        indicators=indicators,
    )


def share_rows(
    flips: TextFlips,
    patched: Float[np.ndarray, "condition case"],
    *,
    n_boot: int = 500,
    seed: int = 0,
) -> list[list[dict[str, object]]]:
    """For each condition the rows of every indicator, and of "all" with their mean; n counts runs, or indicators."""
    names = np.array(flips.names)
    found: list[list[dict[str, object]]] = [[] for _ in patched]
    shares = np.zeros(patched.T.shape)
    weights = np.zeros(len(names))
    for name in flips.indicators:
        mine = names == name
        some = flips.unedited.pick(mine)
        if mine.any():
            shares[mine] = np.stack([some.share_of_text_flip(row[mine]) for row in patched], 1)
            weights[mine] = 1 / mine.sum()
        cells = cluster_tests(shares[mine], some.clusters, n_boot=n_boot, seed=seed)
        _append(found, name, int(mine.sum()), cells)
    cells = cluster_tests(
        shares, flips.unedited.clusters, weights=weights, n_boot=n_boot, seed=seed
    )
    _append(found, ALL, len(set(names.tolist())), cells)
    return found


def _append(
    rows: list[list[dict[str, object]]], indicator: str, n: int, cells: Iterator[dict[str, float]]
) -> None:
    for row, cell in zip(rows, cells, strict=True):
        row.append({"indicator": indicator, "n": n, **cell})


def cluster_tests(
    values: Float[np.ndarray, "case condition"],
    clusters: Sequence[str],
    *,
    weights: Float[np.ndarray, "case"] | None = None,
    n_boot: int = 500,
    seed: int = 0,
) -> Iterator[dict[str, float]]:
    """For each condition its (weighted) mean as "effect", a bootstrap interval, and a two-sided sign-flip p.

    Clusters are resampled and flipped whole, with the same draws for all conditions. NaN where nothing can be said.
    """
    weights = np.ones(len(values)) if weights is None else weights
    names, index = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    member = np.zeros((len(names), len(values)))
    member[index, np.arange(len(values))] = weights
    sums, counts = member @ values, member.sum(1)
    n_conditions = values.shape[1]
    if len(names) < 2:
        low = high = p_value = np.full(n_conditions, np.nan)
    else:
        low, high = _bootstrap(sums, counts, n_boot, seed)
        p_value = _sign_flips(sums, seed)
    total = counts.sum() if len(names) else np.nan
    effect = sums.sum(0) / total
    for cell in zip(effect, low, high, p_value, strict=True):
        yield dict(zip(("effect", "low", "high", "p_value"), map(float, cell), strict=True))


def _bootstrap(
    sums: Float[np.ndarray, "cluster condition"],
    counts: Float[np.ndarray, "cluster"],
    n_boot: int,
    seed: int,
) -> Float[np.ndarray, "2 condition"]:
    n = len(counts)
    draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=n_boot)
    return np.quantile((draws @ sums) / (draws @ counts)[:, None], [0.025, 0.975], axis=0)


def _sign_flips(
    sums: Float[np.ndarray, "cluster condition"], seed: int
) -> Float[np.ndarray, "condition"]:
    if len(sums) <= EXACT_UP_TO:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=len(sums))))
    else:
        drawn = np.random.default_rng(seed).choice((1.0, -1.0), size=(N_FLIPS, len(sums)))
        signs = np.concatenate([np.ones((1, len(sums))), drawn])
    flipped = np.abs(signs @ sums)
    p_value = (flipped >= flipped[0] * (1 - 1e-9)).mean(0)
    return np.where(np.isfinite(flipped[0]), p_value, np.nan)


def as_map(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """The rows as a table with `q_bh`; the indicators' cells are one family and the means over them another."""
    table = pd.DataFrame(list(rows), columns=list(columns))
    table["q_bh"] = np.nan
    is_mean = np.asarray(table["indicator"] == ALL, dtype=bool)
    for family in (is_mean, ~is_mean):
        p_values = np.asarray(table["p_value"], dtype=float)[family]
        table.loc[family, "q_bh"] = benjamini_hochberg(p_values.tolist())
    return table
