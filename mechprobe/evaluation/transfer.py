"""What a generalisation matrix comes to: mean AUROC within, across and without the domain, and over words.

The mean over cells has an interval of its own. Transcripts of one domain are drawn once for all cells that are
tested on it and for every scorer, so that differences between scorers are paired.
"""

from collections.abc import Mapping, Sequence
from zlib import crc32

import numpy as np
import pandas as pd
from jaxtyping import Float

from mechprobe.evaluation.bootstrap import bootstrap_aurocs
from mechprobe.evaluation.generalisation import ALL_OTHERS, Cell, Scorer
from mechprobe.evaluation.metrics import auroc

WITHIN, ACROSS, LEFT_OUT = "within", "across", "left_out"
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

Place = tuple[str, str]
"""Trained on, tested on."""


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
    for (kind, indicator, unit), of_scorer in _grouped(cells).items():
        drawn = {
            scorer: {place: _draws(cell, n_boot, seed) for place, cell in here.items()}
            for scorer, here in of_scorer.items()
        }
        for scorer, here in of_scorer.items():
            base = {"key": key, "cells": kind, "scorer": scorer[0], "hook_name": scorer[1]}
            base |= {"indicator": indicator, "unit": unit, **_mean(here, drawn[scorer], level)}
            others = [name for name in baselines if (name, "") in of_scorer and name != scorer[0]]
            for name in others or [""]:
                found = _difference(of_scorer, drawn, scorer, (name, ""), level) if name else {}
                rows.append({**base, "baseline": name, **found})
    return pd.DataFrame(rows, columns=list(TRANSFER_COLUMNS))


def _grouped(
    cells: Sequence[Cell],
) -> dict[tuple[str, str, str], dict[Scorer, dict[Place, Cell]]]:
    """The cells with numbers, by kind, indicator and unit, then by scorer."""
    groups: dict[tuple[str, str, str], dict[Scorer, dict[Place, Cell]]] = {}
    for cell in cells:
        if not cell.is_too_few:
            group = groups.setdefault((kind_of(cell), cell.indicator, cell.unit), {})
            group.setdefault(cell.scorer, {})[cell.trained_on, cell.tested_on] = cell
    return groups


def _draws(cell: Cell, n_boot: int, seed: int) -> Float[np.ndarray, "draw"]:
    """AUROCs of the cell's resamples; the draws depend on what is tested on alone."""
    return bootstrap_aurocs(cell.units, n_boot=n_boot, seed=seed + crc32(cell.tested_on.encode()))


def _mean(
    cells: Mapping[Place, Cell], drawn: Mapping[Place, np.ndarray], level: float
) -> dict[str, object]:
    values = [auroc(cell.units.scores, cell.units.is_positive) for cell in cells.values()]
    low, high = _bounds(list(drawn.values()), level)
    return {
        "auroc": float(np.mean(values)),
        "low": low,
        "high": high,
        "chance": float(np.mean([cell.units.chance for cell in cells.values()])),
        "n_cells": len(cells),
    }


def _difference(
    of_scorer: Mapping[Scorer, Mapping[Place, Cell]],
    drawn: Mapping[Scorer, Mapping[Place, np.ndarray]],
    first: Scorer,
    second: Scorer,
    level: float,
) -> dict[str, object]:
    ours, theirs = of_scorer[first], of_scorer[second]
    both = [at for at in ours if at in theirs and _are_paired(ours[at], theirs[at])]
    if not both:
        return {}
    values = [
        auroc(ours[at].units.scores, ours[at].units.is_positive)
        - auroc(theirs[at].units.scores, theirs[at].units.is_positive)
        for at in both
    ]
    low, high = _bounds([drawn[first][at] - drawn[second][at] for at in both], level)
    return {"difference": float(np.mean(values)), "difference_low": low, "difference_high": high}


def _are_paired(first: Cell, second: Cell) -> bool:
    return np.array_equal(first.units.clusters, second.units.clusters) and np.array_equal(
        first.units.is_positive, second.units.is_positive
    )


def _bounds(draws: Sequence[np.ndarray], level: float) -> tuple[float, float]:
    """Percentiles of the mean over cells; draws in which a cell lacks a class are left out."""
    means = np.mean(np.stack(draws), axis=0)
    kept = means[np.isfinite(means)]
    if not len(kept):
        return float("nan"), float("nan")
    low, high = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
