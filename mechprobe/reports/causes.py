"""Where the cause is: the site sweep as maps, the SAE's quality, and the self test as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mechprobe.errors import DataError
from mechprobe.reports.estimates import to_float, to_text
from mechprobe.reports.rows import column_floats, column_text, distinct, records, rows_where
from mechprobe.reports.run_files import SELFTEST
from mechprobe.reports.wording import (
    CONTROL_WORDS,
    POSITION_WORDS,
    VERDICT_WORDS,
    plain,
    verdict_word,
)

ALL = "all"
"""Indicator of the rows that average over the indicators."""
CEILING = 0.25
"""Below this share of the full effect no verdict is given at a site."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SiteMap:
    """Mean effect of patching the full vector, by hook point (first layer first) and position."""

    outcome: str
    effect: pd.DataFrame
    n_indicators: int
    best_hook: str
    best_position: str
    best_effect: float


def site_maps(sites: pd.DataFrame, indicator: str | None = None) -> list[SiteMap]:
    """One map for each outcome: of one indicator, or the mean over all of them."""
    has_mean = ALL in column_text(sites, "indicator")
    name = ALL if indicator is None and has_mean else indicator
    rows = sites if name is None else rows_where(sites, indicator=name)
    n_indicators = len([found for found in distinct(sites, "indicator") if found != ALL])
    if "outcome" not in rows.columns:
        rows = rows.assign(outcome="")
    maps = [
        _site_map(rows_where(rows, outcome=outcome), outcome, n_indicators)
        for outcome in distinct(rows, "outcome")
    ]
    return [found for found in maps if found is not None]


def _site_map(rows: pd.DataFrame, outcome: str, n_indicators: int) -> SiteMap | None:
    hooks, positions = _hook_order(rows), position_order(rows)
    cells = zip(rows["hook_name"], rows["position"], column_floats(rows, "effect"), strict=True)
    found: dict[tuple[str, str], list[float]] = {}
    for hook, position, effect in cells:
        if not np.isnan(effect):
            found.setdefault((str(hook), str(position)), []).append(float(effect))
    if not found:
        return None
    mean = {place: sum(effects) / len(effects) for place, effects in found.items()}
    best = max(mean, key=mean.__getitem__)
    grid = [[mean.get((hook, position), np.nan) for position in positions] for hook in hooks]
    return SiteMap(
        outcome=outcome,
        effect=pd.DataFrame(grid, index=hooks, columns=positions),
        n_indicators=n_indicators,
        best_hook=best[0],
        best_position=POSITION_WORDS.get(best[1], best[1]),
        best_effect=mean[best],
    )


def position_order(rows: pd.DataFrame) -> list[str]:
    """The positions of a map, those that are known first and in the order of the text."""
    found = distinct(rows, "position")
    known = [name for name in POSITION_WORDS if name in found]
    return known + [name for name in found if name not in known]


def _hook_order(rows: pd.DataFrame) -> list[str]:
    """Hook points from the first layer up, in the table's order within a layer."""
    if "layer" in rows.columns:
        rows = rows.sort_values(by="layer", kind="stable")
    return distinct(rows, "hook_name")


@dataclass(frozen=True, kw_only=True, slots=True)
class QualityRow:
    """How well the SAE holds one part of the text."""

    hook_name: str
    kind: str
    subset: str
    n_tokens: float
    l0: float
    explained_variance: float
    dead_share: float
    dense_share: float


def quality_rows(quality: pd.DataFrame) -> list[QualityRow]:
    """The SAE quality table with its subsets ("role:assistant") split in kind and name."""
    shaped: list[QualityRow] = []
    for row in records(quality):
        kind, _, subset = to_text(row["subset"]).rpartition(":")
        shaped.append(
            QualityRow(
                hook_name=to_text(row["hook_name"]),
                kind=plain(kind) or "All tokens",
                subset=plain(subset) if kind else "",
                n_tokens=to_float(row["n_tokens"]),
                l0=to_float(row["l0"]),
                explained_variance=to_float(row["explained_variance"]),
                dead_share=to_float(row.get("dead_share")),
                dense_share=to_float(row.get("dense_share")),
            )
        )
    return shaped


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfusionCell:
    """How many indicators of one truth got a verdict."""

    verdict: str
    n: int
    is_right: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class SelfTest:
    """The toolkit's own verdicts scored against known roles, and against directions that mean nothing."""

    verdicts: tuple[str, ...]
    confusion: Mapping[str, tuple[ConfusionCell, ...]]
    """The verdict that would be right -> a cell for each of `verdicts`."""
    right: int
    of: int
    false_driver_random: str
    false_driver_shuffled: str
    false_drivers: Mapping[str, str]
    """Every control that was judged, by its name in words -> how many were called driver."""


def self_test(found: Mapping[str, Any]) -> SelfTest:
    """Shape `selftest.json`.

    Raises:
        DataError: a field is missing.
    """
    needed = ("confusion", "right", "of", "false_driver_random", "false_driver_shuffled")
    lacking = [name for name in needed if name not in found]
    if lacking:
        raise DataError(f"{SELFTEST} lacks {', '.join(lacking)}; run `mechprobe causal` again.")
    confusion: Mapping[str, Mapping[str, int]] = found["confusion"]
    given = {*confusion} | {verdict for row in confusion.values() for verdict in row}
    verdicts = [word.slug for word in VERDICT_WORDS if word.slug in given]
    verdicts += sorted(given.difference(verdicts))
    truths = [word.slug for word in VERDICT_WORDS if word.slug in confusion]
    truths += [truth for truth in confusion if truth not in truths]
    return SelfTest(
        verdicts=tuple(verdicts),
        confusion={
            verdict_word(truth).word: _confusion_row(truth, confusion[truth], verdicts)
            for truth in truths
        },
        right=int(found["right"]),
        of=int(found["of"]),
        false_driver_random=rate_words(found["false_driver_random"]),
        false_driver_shuffled=rate_words(found["false_driver_shuffled"]),
        false_drivers={
            CONTROL_WORDS.get(name, plain(name)): rate_words(rate)
            for key, rate in found.items()
            for name in [key.removeprefix("false_driver_")]
            if name != key
        },
    )


def _confusion_row(
    truth: str, row: Mapping[str, int], verdicts: Sequence[str]
) -> tuple[ConfusionCell, ...]:
    return tuple(
        ConfusionCell(verdict=verdict, n=int(row.get(verdict, 0)), is_right=verdict == truth)
        for verdict in verdicts
    )


def rate_words(rate: Any) -> str:
    """A rate as "0 of 100", from "0/100", [0, 100] or {"n": 0, "of": 100}; a bare share keeps its number."""
    if isinstance(rate, str) and "/" in rate:
        n, of = rate.split("/", 1)
        return f"{n.strip()} of {of.strip()}"
    if isinstance(rate, Sequence) and not isinstance(rate, str) and len(rate) == 2:
        return f"{rate[0]} of {rate[1]}"
    if isinstance(rate, Mapping) and "of" in rate:
        n = next((rate[name] for name in ("n", "drivers", "count") if name in rate), None)
        return f"{n} of {rate['of']}"
    return f"{100 * rate:.1f} %" if isinstance(rate, int | float) else str(rate)
