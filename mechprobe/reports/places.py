"""Where the thoughts act: the sites that verdicts stand at, and maps of parts and of heads."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mechprobe.reports.causes import ALL, position_order
from mechprobe.reports.estimates import to_float, to_text
from mechprobe.reports.rows import column_floats, distinct, records, rows_where
from mechprobe.reports.tables import CausalTables
from mechprobe.reports.verdicts import main_direction
from mechprobe.reports.wording import PART_WORDS, POSITION_WORDS, plain

PARTS_UPWARDS = ("attention", "mlp", "residual")
"""The parts of a layer in the order in which they are computed."""
Q_LIMIT = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class UsedSite:
    """A site that verdicts stand at, and whose."""

    hook_name: str
    position: str
    indicators: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PlaceMap:
    """Mean effect of patching each place: rows from the first layer up, columns the positions."""

    kind: str
    """"part" or "head"."""
    outcome: str
    effect: pd.DataFrame
    is_shown: pd.DataFrame
    """Whether the effect differs from zero at q < .05; true where no test was made."""
    n_tests: int
    strongest: str


def used_sites(causal: CausalTables) -> list[UsedSite]:
    """The sites of the verdicts on the study's main direction, the most used first."""
    verdicts = rows_where(causal.verdicts, direction=main_direction(causal.verdicts))
    found: dict[tuple[str, str], list[str]] = {}
    for row in records(verdicts):
        place = to_text(row["hook_name"]), to_text(row.get("position"))
        found.setdefault(place, []).append(to_text(row["indicator"]))
    sites = [
        UsedSite(hook_name=hook, position=position, indicators=tuple(dict.fromkeys(names)))
        for (hook, position), names in found.items()
    ]
    return sorted(sites, key=lambda site: -len(site.indicators))


def marked(sites: list[UsedSite], indicator: str | None = None) -> dict[tuple[str, str], int]:
    """(Hook point, position) -> how many indicators have their verdict there, of all or of one."""
    return {
        (site.hook_name, site.position): len(site.indicators)
        for site in sites
        if indicator is None or indicator in site.indicators
    }


def place_maps(table: pd.DataFrame | None, kind: str, indicator: str = ALL) -> list[PlaceMap]:
    """One map for each outcome of `parts.parquet` or `heads.parquet`; empty where there is no table."""
    if table is None:
        return []
    rows = rows_where(table, indicator=indicator)
    maps = [
        _place_map(rows_where(rows, outcome=outcome), kind, outcome)
        for outcome in distinct(rows, "outcome")
    ]
    return [found for found in maps if not found.effect.isna().all(axis=None)]


def _place_map(rows: pd.DataFrame, kind: str, outcome: str) -> PlaceMap:
    cells: dict[tuple[str, str], tuple[float, float]] = {}
    order: dict[str, tuple[float, float]] = {}
    for row in records(rows):
        name, rank = _place_name(row, kind)
        order[name] = rank
        cells[name, to_text(row["position"])] = (
            to_float(row["effect"]),
            to_float(row.get("q_bh")),
        )
    names, positions = sorted(order, key=order.__getitem__), position_order(rows)
    nothing = (np.nan, np.nan)
    grid = [[cells.get((name, position), nothing) for position in positions] for name in names]
    effect = pd.DataFrame([[cell[0] for cell in row] for row in grid], names, positions)
    shown = pd.DataFrame(
        [[not cell[1] >= Q_LIMIT for cell in row] for row in grid], names, positions
    )
    known = {place: cell[0] for place, cell in cells.items() if not np.isnan(cell[0])}
    best = max(known, key=known.__getitem__, default=None)
    return PlaceMap(
        kind=kind,
        outcome=outcome,
        effect=effect,
        is_shown=shown,
        n_tests=int(np.isfinite(column_floats(rows, "q_bh")).sum()),
        strongest=f"{best[0]}, {POSITION_WORDS.get(best[1], best[1])}: {known[best]:.2f}"
        if best
        else "",
    )


def _place_name(row: Mapping[str, object], kind: str) -> tuple[str, tuple[float, float]]:
    """What a row of the map is called, and where it stands from the bottom up."""
    layer = int(to_float(row["layer"]))
    if kind == "head":
        head = int(to_float(row["head"]))
        return f"Layer {layer}, head {head}", (float(layer), float(head))
    part = to_text(row["part"])
    rank = PARTS_UPWARDS.index(part) if part in PARTS_UPWARDS else len(PARTS_UPWARDS)
    return f"Layer {layer}, {PART_WORDS.get(part, plain(part).lower())}", (
        float(layer),
        float(rank),
    )
