"""What a detection study returns, and the collector that the drivers fill scorer by scorer."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from mechprobe.evaluation.detection import (
    MIN_POSITIVES,
    detection_row,
    detection_table,
    roc_rows,
)
from mechprobe.evaluation.differences import difference_of, holm
from mechprobe.evaluation.units import Units
from mechprobe.probes.bank import ProbeBank

SCORE_KEYS = ("transcript_id", "turn", "span_id", "kind")
COMPARISON_COLUMNS = (
    "indicator",
    "unit",
    "hook_name",
    "scorer",
    "baseline",
    "difference",
    "low",
    "high",
    "p_value",
    "p_holm",
)
COMPARISONS = (
    ("dense_logistic", "tfidf_bigrams"),
    ("dense_logistic", "length"),
    ("dense_logistic", "dense_diff_of_means"),
    ("sae_k_sparse", "dense_logistic"),
    ("sae_k_sparse", "tfidf_bigrams"),
    ("sae_logistic", "dense_logistic"),
)
"""Pairs of scorers whose difference is reported: is it more than words, and are features as good as activations?"""
_SWAPS = 2000
"""Permutations for each p-value; the smallest, 1 / 2001, still holds .05 over 18 indicators after Holm."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Detection:
    """The tables of a detection study, and its probes."""

    table: pd.DataFrame
    """`detection.parquet`: columns DETECTION_COLUMNS."""
    roc: pd.DataFrame
    """`roc.parquet`: columns ROC_COLUMNS."""
    scores: pd.DataFrame
    """`scores.parquet`: indicator, scorer, unit, hook_name, is_positive, score, fold (-1 where one fit scored all),
    and SCORE_KEYS."""
    comparisons: pd.DataFrame
    """`comparisons.parquet`: paired differences of AUROC, columns COMPARISON_COLUMNS."""
    bank: ProbeBank


@dataclass(kw_only=True, slots=True)
class Collector:
    """Gathers scored units and turns them into tables."""

    n_boot: int = 1000
    seed: int = 0
    _units: dict[tuple[str, str, str, str], Units] = field(
        default_factory=dict[tuple[str, str, str, str], Units]
    )
    _rows: list[dict[str, object]] = field(default_factory=list[dict[str, object]])
    _roc: list[pd.DataFrame] = field(default_factory=list[pd.DataFrame])
    _scores: list[pd.DataFrame] = field(default_factory=list[pd.DataFrame])

    def add(
        self,
        units: Units,
        *,
        indicator: str,
        scorer: str,
        unit: str,
        hook_name: str = "",
        keys: pd.DataFrame | None = None,
    ) -> None:
        """Take a scorer's units; with `keys` (SCORE_KEYS, a row a unit) the single scores are kept too."""
        self._units[indicator, unit, hook_name, scorer] = units
        self._rows.append(
            detection_row(
                units,
                indicator=indicator,
                scorer=scorer,
                unit=unit,
                hook_name=hook_name,
                n_boot=self.n_boot,
                seed=self.seed,
            )
        )
        self._roc.append(
            roc_rows(units, indicator=indicator, scorer=scorer, unit=unit, hook_name=hook_name)
        )
        if keys is not None:
            named = keys.assign(
                indicator=indicator,
                scorer=scorer,
                unit=unit,
                hook_name=hook_name,
                is_positive=units.is_positive,
                score=units.scores.astype(np.float32),
                fold=-1 if units.fold is None else units.fold,
            )
            self._scores.append(named)

    def finish(
        self, bank: ProbeBank, comparisons: Sequence[tuple[str, str]] = COMPARISONS
    ) -> Detection:
        """The tables of everything that was added."""
        roc = [rows for rows in self._roc if len(rows)]
        return Detection(
            table=detection_table(self._rows),
            roc=pd.concat(roc, ignore_index=True) if roc else self._roc[0],
            scores=pd.concat(self._scores, ignore_index=True),
            comparisons=self.compare(comparisons),
            bank=bank,
        )

    def compare(self, comparisons: Sequence[tuple[str, str]]) -> pd.DataFrame:
        """Differences of the pairs that scored the same units, of which there are enough; p_holm: over indicators."""
        rows: list[dict[str, object]] = []
        for (indicator, unit, hook_name, scorer), units in self._units.items():
            for first, second in comparisons:
                # A scorer of text has no hook point and stands beside the probes of every one.
                other = self._units.get((indicator, unit, hook_name, second))
                other = other or self._units.get((indicator, unit, "", second))
                if scorer != first or other is None or not _are_paired(units, other):
                    continue
                found = difference_of(
                    units, other, n_boot=self.n_boot, n_permutations=_SWAPS, seed=self.seed
                )
                names = (indicator, unit, hook_name, first, second)
                figures = (found.value, found.low, found.high, found.p_value, np.nan)
                rows.append(dict(zip(COMPARISON_COLUMNS, (*names, *figures), strict=True)))
        table = pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS))
        for _, family in table.groupby(["unit", "hook_name", "scorer", "baseline"]):
            table.loc[family.index, "p_holm"] = holm(family["p_value"].tolist())
        return table


def _are_paired(first: Units, second: Units) -> bool:
    same = np.array_equal(first.clusters, second.clusters) and np.array_equal(
        first.is_positive, second.is_positive
    )
    return same and int(first.is_positive.sum()) >= MIN_POSITIVES and first.n_pairs > 0
