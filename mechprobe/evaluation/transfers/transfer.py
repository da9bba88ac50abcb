"""What a generalisation matrix comes to: mean AUROC within, across and without the domain, and over words.

The mean over cells has an interval of its own. The transcripts of a domain are drawn once for all that is tested
on it, whatever the scorer and the indicator, and those of other domains apart from them; so differences between
scorers are paired, and cells that share their transcripts are not taken for independent.
"""

from collections.abc import Mapping, Sequence
from zlib import crc32

import numpy as np
import pandas as pd
from jaxtyping import Float

from mechprobe.evaluation.bootstrap import cluster_draws, resampled_aurocs
from mechprobe.evaluation.transfers.generalisation import ALL_OTHERS, Cell, Scorer

WITHIN, ACROSS, LEFT_OUT = "within", "across", "left_out"
EVERY_INDICATOR = "all"
"""`indicator` of the means over all indicators, where there are several."""
TRANSFER_COLUMNS = (
    "key",
    "cells",
    "scorer",
    "hook_name",
    "indicator",
    "unit",
    "auroc",
    "low",
    "high",
    "chance",
    "n_cells",
    "baseline",
    "difference",
    "difference_low",
    "difference_high",
)

Place = tuple[str, str, str]
"""Trained on, tested on, indicator."""
Kind = tuple[str, str, str]
"""Which cells, indicator, unit."""


def kind_of(cell: Cell) -> str:
    """Whether a cell is on the diagonal, off it, or in the row of all others."""
    if cell.trained_on == ALL_OTHERS:
        return LEFT_OUT
    return WITHIN if cell.trained_on == cell.tested_on else ACROSS


def transfer_table(
    cells: Sequence[Cell],
    key: str,
    baselines: Sequence[str],
    *,
    n_boot: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> pd.DataFrame:
    """Mean AUROC of each scorer over the cells of a kind, and its paired difference to each baseline.

    Only cells with numbers count; a difference is over the cells that both scorers have, on the same units.

    Args:
        baselines: scorers of text; a scorer gets one row for each, and one row where there is none.
    """
    rows: list[dict[str, object]] = []
    known = [cell for cell in cells if not cell.is_too_few]
    draws = _draws(known, n_boot, seed)
    for (kind, indicator, unit), of_scorer in _grouped(known).items():
        for scorer, here in of_scorer.items():
            row: dict[str, object] = {"key": key, "cells": kind, "scorer": scorer[0]}
            row |= {"hook_name": scorer[1], "indicator": indicator, "unit": unit}
            row |= _mean(list(here.values()), draws, level)
            others = [name for name in baselines if (name, "") in of_scorer and name != scorer[0]]
            for name in others or [""]:
                theirs = of_scorer.get((name, ""), {})
                found = _difference(here, theirs, draws, level)
                rows.append({**row, "baseline": name, **found})
    return pd.DataFrame(rows, columns=list(TRANSFER_COLUMNS))


def _grouped(cells: Sequence[Cell]) -> dict[Kind, dict[Scorer, dict[Place, Cell]]]:
    """Cells by kind, indicator and unit, then by scorer; where there are several indicators, all together too."""
    several = len({cell.indicator for cell in cells}) > 1
    groups: dict[Kind, dict[Scorer, dict[Place, Cell]]] = {}
    for name in ([EVERY_INDICATOR] if several else []) + [""]:
        for cell in cells:
            group = groups.setdefault((kind_of(cell), name or cell.indicator, cell.unit), {})
            place = cell.trained_on, cell.tested_on, cell.indicator
            group.setdefault(cell.scorer, {})[place] = cell
    return groups


def _draws(
    cells: Sequence[Cell], n_boot: int, seed: int
) -> Mapping[int, Float[np.ndarray, "draw"]]:
    """AUROCs of each cell's resamples, by the cell's identity."""
    codes: dict[str, np.ndarray] = {}
    for name in {cell.tested_on for cell in cells}:
        of_domain = [cell.units.clusters for cell in cells if cell.tested_on == name]
        codes[name] = np.unique(np.concatenate(of_domain))
    drawn: dict[int, np.ndarray] = {}
    for cell in cells:
        here = codes[cell.tested_on]
        counts = cluster_draws(len(here), n_boot, seed + crc32(cell.tested_on.encode()))
        cluster = np.searchsorted(here, cell.units.clusters)
        drawn[id(cell)] = resampled_aurocs(cell.units, cluster, counts)
    return drawn


def _mean(
    cells: Sequence[Cell], draws: Mapping[int, np.ndarray], level: float
) -> dict[str, object]:
    low, high = _bounds([draws[id(cell)] for cell in cells], level)
    return {
        "auroc": float(np.mean([cell.auroc for cell in cells])),
        "low": low,
        "high": high,
        "chance": float(np.mean([cell.units.chance for cell in cells])),
        "n_cells": len(cells),
    }


def _difference(
    ours: Mapping[Place, Cell],
    theirs: Mapping[Place, Cell],
    draws: Mapping[int, np.ndarray],
    level: float,
) -> dict[str, object]:
    both = [(ours[at], theirs[at]) for at in ours if at in theirs]
    both = [(first, second) for first, second in both if _are_paired(first, second)]
    if not both:
        return {}
    values = [first.auroc - second.auroc for first, second in both]
    low, high = _bounds([draws[id(first)] - draws[id(second)] for first, second in both], level)
    return {"difference": float(np.mean(values)), "difference_low": low, "difference_high": high}


def _are_paired(first: Cell, second: Cell) -> bool:
    return all(
        np.array_equal(getattr(first.units, name), getattr(second.units, name))
        for name in ("clusters", "is_positive", "fold")
    )


def _bounds(draws: Sequence[np.ndarray], level: float) -> tuple[float, float]:
    """Percentiles of the mean over cells; a cell is left out of the draws in which it lacks a class."""
    stacked = np.stack(draws)
    is_known = np.isfinite(stacked)
    n_known = is_known.sum(axis=0)
    means = np.where(is_known, stacked, 0.0).sum(axis=0)[n_known > 0] / n_known[n_known > 0]
    if not len(means):
        return float("nan"), float("nan")
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
