"""Train on one domain, test on each other: what a scorer knows that is not of its own training text.

The matrix has a row for each domain that is trained on, and one more for all the others together (leave one out).
Probes and text baselines go through the same folds, so that they differ in nothing but what they read; within a cell
only units that the same fit has scored are compared (see `units`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from tqdm import tqdm

from mechprobe.evaluation.bootstrap import auroc_interval, pair_auroc
from mechprobe.evaluation.folds import Fold
from mechprobe.evaluation.transfers.domains import Domains, folds_from, folds_without
from mechprobe.evaluation.units import Units, joined

ALL_OTHERS = "all_others"
"""`trained_on` of the row that leaves the tested domain out."""
FEWEST = 5
"""Positives, and negatives, below which a cell is "too few" and gets no number."""
GENERALISATION_COLUMNS = (
    "key",
    "trained_on",
    "tested_on",
    "scorer",
    "hook_name",
    "indicator",
    "unit",
    "auroc",
    "low",
    "high",
    "chance",
    "n_pos",
    "n_neg",
    "n_clusters",
    "too_few",
)

Scorer = tuple[str, str]
"""A scorer's name, and the hook point it reads at (empty if it reads text)."""
UnitsOf = Callable[[int, Float[np.ndarray, "item"], Bool[np.ndarray, "item"]], Mapping[str, Units]]
"""The units of some of the items under one column's labels: unit name -> scored, labelled units."""


@runtime_checkable
class ScoreFold(Protocol):
    """Fit every scorer on a fold's fit and select conversations, and score the items of its test conversations."""

    def __call__(self, fold: Fold) -> Mapping[Scorer, Float[np.ndarray, "item column"]]:
        """Scores of all items, NaN for those not tested and for columns that could not be fitted."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Cell:
    """One scorer of one indicator: fitted on a domain (or all others), tested on a domain."""

    trained_on: str
    tested_on: str
    scorer: Scorer
    indicator: str
    unit: str
    units: Units
    """With their folds; the clusters are conversations."""

    @property
    def n_pos(self) -> int:
        """Positives among the units."""
        return int(self.units.is_positive.sum())

    @property
    def n_neg(self) -> int:
        """Negatives among the units."""
        return len(self.units.is_positive) - self.n_pos

    @property
    def auroc(self) -> float:
        """Share of the pairs within folds that are ranked right; NaN where there is none."""
        return pair_auroc(self.units)

    @property
    def is_too_few(self) -> bool:
        """Whether a class has fewer than FEWEST units, or no fold has both."""
        return min(self.n_pos, self.n_neg) < FEWEST or bool(np.isnan(self.auroc))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Items:
    """What is scored: spans or turns, each of a conversation, with labels in several columns."""

    conversation: Int[np.ndarray, "item"]
    columns: tuple[str, ...]
    units_of: UnitsOf


def generalise(
    domains: Domains, items: Items, score: ScoreFold, *, n_folds: int = 5, seed: int = 0
) -> list[Cell]:
    """All cells: each domain against each (the diagonal by cross-validation), and all others against each.

    Raises:
        ConfigError: there are fewer than three folds.
    """
    cells: list[Cell] = []
    for name in tqdm(domains.names, desc=f"trained on one {domains.key}", disable=None):
        folds = folds_from(domains, name, n_folds, seed=seed)
        cells += _cells(domains, items, score, folds, trained_on=name, tested=domains.names)
    for name in tqdm(domains.names, desc=f"without one {domains.key}", disable=None):
        folds = folds_without(domains, name, n_folds, seed=seed)
        cells += _cells(domains, items, score, folds, trained_on=ALL_OTHERS, tested=(name,))
    return cells


def generalisation_table(
    cells: Sequence[Cell], key: str, *, n_boot: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """The cells as rows with transcript-bootstrap intervals; columns GENERALISATION_COLUMNS."""
    rows = [{"key": key, **_row(cell, n_boot=n_boot, seed=seed)} for cell in cells]
    return pd.DataFrame(rows, columns=list(GENERALISATION_COLUMNS))


def _cells(
    domains: Domains,
    items: Items,
    score: ScoreFold,
    folds: Sequence[Fold],
    *,
    trained_on: str,
    tested: Sequence[str],
) -> Iterator[Cell]:
    found = [(fold.test[items.conversation], score(fold)) for fold in folds]
    scorers = dict.fromkeys(scorer for _, of_fold in found for scorer in of_fold)
    for name in tested:
        inside = domains.within(name)[items.conversation]
        for scorer in scorers:
            scored = [
                (test & inside, of_fold[scorer]) for test, of_fold in found if scorer in of_fold
            ]
            for at, column in enumerate(items.columns):
                parts: dict[str, list[Units]] = {}
                for test, values in scored:
                    used = test & np.isfinite(values[:, at])
                    for unit, units in items.units_of(at, values[:, at], used).items():
                        parts.setdefault(unit, []).append(units)
                for unit, units in parts.items():
                    yield Cell(
                        trained_on=trained_on,
                        tested_on=name,
                        scorer=scorer,
                        indicator=column,
                        unit=unit,
                        units=joined(units),
                    )


def _row(cell: Cell, *, n_boot: int, seed: int) -> dict[str, object]:
    value = low = high = np.nan
    if not cell.is_too_few:
        interval = auroc_interval(cell.units, n_boot=n_boot, seed=seed)
        value, low, high = interval.value, interval.low, interval.high
    return {
        "trained_on": cell.trained_on,
        "tested_on": cell.tested_on,
        "scorer": cell.scorer[0],
        "hook_name": cell.scorer[1],
        "indicator": cell.indicator,
        "unit": cell.unit,
        "auroc": value,
        "low": low,
        "high": high,
        "chance": cell.units.chance,
        "n_pos": cell.n_pos,
        "n_neg": cell.n_neg,
        "n_clusters": len(np.unique(cell.units.clusters)),
        "too_few": cell.is_too_few,
    }
