"""The first screen: one row an indicator, and the headline that counts them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from mechprobe.reports.effects import EffectRow, effect_rows
from mechprobe.reports.estimates import Estimate, estimate_of, to_float
from mechprobe.reports.names import IndicatorName
from mechprobe.reports.rows import distinct, records, rows_at, rows_where
from mechprobe.reports.tables import RunTables
from mechprobe.reports.verdicts import VerdictView, verdict_views
from mechprobe.reports.wording import VERDICT_WORDS, VerdictWord, interval, number

UNIT_ORDER = (
    "matched_pair",
    "hard_negative",
    "span",
    "sentence",
    "turn",
    "transcript",
    "mixed",
    "token",
)
FURTHER_UNITS = ("hard_negative", "turn", "transcript", "mixed")
"""Units that get columns of their own on the first screen of a study without interventions, else a sentence."""
DENSE = ("dense_logistic", "dense_diff_of_means", "diff_of_means")
SPARSE = ("sae_k_sparse", "sae_best_feature", "sae_single")
WORDS = ("tfidf_bigrams", "tfidf", "bag_of_words")
"""The stronger text baseline first."""
LENGTH = ("length",)
HARD_NEGATIVE = "hard_negative"
MATCHED_PAIR = "matched_pair"


@dataclass(frozen=True, kw_only=True, slots=True)
class Better:
    """Whether the dense probe beats the words, and how that was judged."""

    answer: str
    """"yes", "no" or "not shown"."""
    detail: str
    rank: float
    """Difference of AUROC, for sorting."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitScores:
    """AUROC of the four compared scorers at one unit, with the chance level."""

    unit: str
    dense: Estimate | None
    sparse: Estimate | None
    words: Estimate | None
    length: Estimate | None
    chance: float
    n_pos: float
    n_neg: float

    @property
    def is_detected(self) -> bool:
        """Whether the dense probe's whole interval lies above chance."""
        return is_above(self.dense, self.chance)

    @property
    def is_detected_sparse(self) -> bool:
        """Whether the SAE features' whole interval lies above chance."""
        return is_above(self.sparse, self.chance)


@dataclass(frozen=True, kw_only=True, slots=True)
class OverviewRow:
    """One indicator on the first screen."""

    name: IndicatorName
    scores: UnitScores
    further: tuple[UnitScores, ...]
    better: Better | None
    verdicts: tuple[VerdictView, ...]
    effects: tuple[EffectRow, ...]

    @property
    def verdict(self) -> VerdictView | None:
        """The verdict on the study's main direction."""
        return self.verdicts[0] if self.verdicts else None


@dataclass(frozen=True, kw_only=True, slots=True)
class VerdictCount:
    """How many indicators got a verdict."""

    word: VerdictWord
    n: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """The first screen's numbers."""

    rows: tuple[OverviewRow, ...]
    unit: str
    further_units: tuple[str, ...]
    has_look_alikes: bool
    """Whether the negatives of the first unit are hard negatives, all of them."""
    n_tested: int
    """Indicators that had examples enough for an AUROC."""
    n_detected: int
    n_detected_sparse: int | None
    n_better: int
    verdict_counts: tuple[VerdictCount, ...]
    n_right: int | None
    n_judged: int

    def median_of(self, scorer: str, unit: str = "") -> float | None:
        """Median AUROC over the indicators of "dense", "sparse", "words" or "length"; by default at the first unit."""
        known = self._known(scorer, unit or self.unit)
        return median(known) if known else None

    def lowest_of(self, scorer: str, unit: str = "") -> float | None:
        """Lowest AUROC over the indicators."""
        return min(self._known(scorer, unit or self.unit), default=None)

    def _known(self, scorer: str, unit: str) -> list[float]:
        scored = [found for row in self.rows for found in (row.scores, *row.further)]
        estimates = [getattr(found, scorer) for found in scored if found.unit == unit]
        return [estimate.value for estimate in estimates if estimate and estimate.is_known]

    @property
    def chance(self) -> float | None:
        """The chance level that all rows share at the first unit; None where they differ."""
        return self.chance_at(self.unit)

    def chance_at(self, unit: str) -> float | None:
        """The chance level that all rows share at a unit; None where they differ."""
        scored = [scores for row in self.rows for scores in (row.scores, *row.further)]
        levels = {
            round(scores.chance, 3) for scores in scored if scores.unit == unit and scores.dense
        }
        return levels.pop() if len(levels) == 1 else None


def is_above(estimate: Estimate | None, chance: float) -> bool:
    """Whether an estimate's lower bound (its value, where it has none) is above chance."""
    if estimate is None or not estimate.is_known:
        return False
    return (estimate.low if estimate.has_interval else estimate.value) > chance


def overview(tables: RunTables, names: Sequence[IndicatorName]) -> Overview:
    """Shape the first screen from the tables, in the order of `names`."""
    detection = held_out(tables.detection)
    units = units_of(detection)
    rows = tuple(_row(tables, detection, name, units) for name in names)
    tallied = Counter(row.verdict.word.slug for row in rows if row.verdict)
    judged = [
        row.verdict.is_right for row in rows if row.verdict and row.verdict.is_right is not None
    ]
    has_sparse = any(row.scores.sparse for row in rows)
    return Overview(
        rows=rows,
        unit=units[0],
        further_units=() if tables.causal else _further(units),
        has_look_alikes=units[0] in (HARD_NEGATIVE, MATCHED_PAIR)
        or tables.negative_kinds.get(units[0]) == frozenset({HARD_NEGATIVE}),
        n_tested=sum(bool(row.scores.dense and row.scores.dense.is_known) for row in rows),
        n_detected=sum(row.scores.is_detected for row in rows),
        n_detected_sparse=sum(row.scores.is_detected_sparse for row in rows)
        if has_sparse
        else None,
        n_better=sum(bool(row.better and row.better.answer == "yes") for row in rows),
        verdict_counts=tuple(
            VerdictCount(word=word, n=tallied[word.slug])
            for word in VERDICT_WORDS
            if tallied[word.slug]
        ),
        n_right=sum(judged) if judged else None,
        n_judged=len(judged),
    )


def held_out(detection: pd.DataFrame) -> pd.DataFrame:
    """The rows of the test split; all rows where no split has that name."""
    test = rows_where(detection, split="test")
    return test if len(test) else detection


def units_of(detection: pd.DataFrame) -> list[str]:
    """The units that were scored, the one that the first screen shows first."""
    found = distinct(detection, "unit")
    return sorted(
        found, key=lambda unit: UNIT_ORDER.index(unit) if unit in UNIT_ORDER else len(UNIT_ORDER)
    )


def _row(
    tables: RunTables, detection: pd.DataFrame, name: IndicatorName, units: Sequence[str]
) -> OverviewRow:
    of_indicator = rows_where(detection, indicator=name.slug)
    scores = [unit_scores(rows_where(of_indicator, unit=unit), unit) for unit in units]
    causal = tables.causal
    effects = effect_rows(causal.effects, name.slug) if causal else []
    verdicts = verdict_views(causal.verdicts, effects, name.slug) if causal else []
    return OverviewRow(
        name=name,
        scores=scores[0],
        further=tuple(found for found in scores if found.unit in _further(units)),
        better=better_than_words(scores[0], _difference(tables.differences, name.slug, units[0])),
        verdicts=tuple(verdicts),
        effects=tuple(effects),
    )


def _further(units: Sequence[str]) -> tuple[str, ...]:
    return tuple(unit for unit in units[1:] if unit in FURTHER_UNITS)


def unit_scores(rows: pd.DataFrame, unit: str) -> UnitScores:
    """The four compared scorers of one indicator at one unit."""
    chosen = {scorer: _first(rows, scorers) for scorer, scorers in _COMPARED.items()}
    base = next((row for row in chosen.values() if row), {})
    return UnitScores(
        unit=unit,
        **{name: estimate_of(row, "auroc") if row else None for name, row in chosen.items()},
        chance=to_float(base.get("chance", 0.5)),
        n_pos=to_float(base.get("n_pos")),
        n_neg=to_float(base.get("n_neg")),
    )


_COMPARED: Mapping[str, tuple[str, ...]] = {
    "dense": DENSE,
    "sparse": SPARSE,
    "words": WORDS,
    "length": LENGTH,
}


def _first(rows: pd.DataFrame, scorers: Sequence[str]) -> dict[str, Any] | None:
    """The first row of the first scorer that was run; the evaluate stage lists the chosen site first."""
    for scorer in scorers:
        found = records(rows_where(rows, scorer=scorer))
        if found:
            return found[0]
    return None


def _difference(differences: pd.DataFrame | None, indicator: str, unit: str) -> Estimate | None:
    if differences is None:
        return None
    rows = rows_where(differences, indicator=indicator, unit=unit)
    compared = rows["scorer"].isin(DENSE) & rows["baseline"].isin(WORDS)
    rows = rows_at(rows, np.asarray(compared, dtype=bool))
    found = records(rows)
    return estimate_of(found[0], "difference") if found else None


def better_than_words(scores: UnitScores, difference: Estimate | None) -> Better | None:
    """Judge by the interval of the paired difference; without one, by whether the intervals overlap."""
    dense, words = scores.dense, scores.words
    if dense is None or words is None or not (dense.is_known and words.is_known):
        return None
    if difference is not None and difference.has_interval:
        low, high, value = difference.low, difference.high, difference.value
        detail = f"{_signed(value)} ({interval(low, high)})"
    else:
        low, high, value = dense.low - words.high, dense.high - words.low, dense.value - words.value
        apart = low > 0 or high < 0
        detail = f"{_signed(value)}, {'apart' if apart else 'overlap'}"
    answer = "yes" if low > 0 else "no" if high < 0 else "not shown"
    return Better(answer=answer, detail=detail, rank=value)


def _signed(value: float) -> str:
    return f"+{number(value)}" if value > 0 else number(value)
