"""What edits do to free text at a glance: rates beside random edits, effects at equal damage, and what remains readable."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mechprobe.reports.effects import NO_CONTROL
from mechprobe.reports.estimates import Estimate, estimate_of, to_float, to_text
from mechprobe.reports.rows import column_floats, distinct, records, rows_where

SAME_EDIT = ("where", "side", "operation")
"""Columns in which an edit along a random direction is like the one that it stands beside."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RateRow:
    """How often free text ends in the bad action, without an edit, with it, and along random directions."""

    where: str
    side: str
    operation: str
    strength: float
    unedited: float
    edited: Estimate
    random: float
    """Mean rate under the random edits of the same kind; NaN without any."""
    plan: Estimate
    """Change of the rate at which the thought itself is written; unknown where that cannot be read."""
    unreadable: float
    n: float


@dataclass(frozen=True, kw_only=True, slots=True)
class EqualDamageRow:
    """What a direction does when it costs neutral text as much as random ones do."""

    direction: str
    target_kl: float
    effect: Estimate
    largest_random: float
    n_random: int
    p_random: float
    is_reached: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class RemainsRow:
    """What a fresh probe reads of the indicator after a removal; chance is what it reads of shuffled labels."""

    removal: str
    reader: str
    auroc: Estimate
    chance: Estimate


def rate_rows(rates: pd.DataFrame | None, indicator: str) -> list[RateRow]:
    """The indicator's own edits, each beside the mean of the random ones of its kind."""
    if rates is None:
        return []
    mine = rows_where(rates, indicator=indicator)
    drawn = rows_where(mine, control="random")
    return [_rate_row(row, drawn) for row in records(rows_where(mine, control=NO_CONTROL))]


def _rate_row(row: Mapping[str, Any], drawn: pd.DataFrame) -> RateRow:
    alike = rows_where(drawn, **{name: row[name] for name in SAME_EDIT})
    pushed = np.sign(column_floats(alike, "amount")) == np.sign(to_float(row.get("amount")))
    values = column_floats(alike, "rate")[pushed]
    return RateRow(
        where=to_text(row["where"]),
        side=to_text(row["side"]),
        operation=to_text(row["operation"]),
        strength=to_float(row["strength"]),
        unedited=to_float(row["rate_unedited"]),
        edited=Estimate(
            value=to_float(row["rate"]), low=to_float(row["low"]), high=to_float(row["high"])
        ),
        random=float(np.mean(values)) if len(values) else float("nan"),
        plan=Estimate(
            value=to_float(row.get("plan_difference")),
            low=to_float(row.get("plan_difference_low")),
            high=to_float(row.get("plan_difference_high")),
        ),
        unreadable=to_float(row["unreadable"]),
        n=to_float(row["n"]),
    )


def equal_damage_rows(table: pd.DataFrame | None, indicator: str) -> list[EqualDamageRow]:
    """The indicator's directions at equal damage, each beside the largest effect of a random one."""
    if table is None:
        return []
    mine = rows_where(table, indicator=indicator)
    drawn = column_floats(rows_where(mine, control="random"), "effect")
    return [
        EqualDamageRow(
            direction=to_text(row["direction"]),
            target_kl=to_float(row["target_kl"]),
            effect=estimate_of(row, "effect"),
            largest_random=float(np.max(drawn)) if len(drawn) else float("nan"),
            n_random=len(drawn),
            p_random=to_float(row["p_random"]),
            is_reached=bool(row["is_reached"]),
        )
        for row in records(rows_where(mine, control=NO_CONTROL))
    ]


def remains_rows(table: pd.DataFrame | None, indicator: str) -> list[RemainsRow]:
    """What each reader finds after each removal, in the table's order."""
    if table is None or indicator not in distinct(table, "indicator"):
        return []
    return [
        RemainsRow(
            removal=to_text(row["removal"]),
            reader=to_text(row["reader"]),
            auroc=Estimate(
                value=to_float(row["auroc"]), low=to_float(row["low"]), high=to_float(row["high"])
            ),
            chance=Estimate(
                value=0.5, low=to_float(row["chance_low"]), high=to_float(row["chance_high"])
            ),
        )
        for row in records(rows_where(table, indicator=indicator))
    ]
