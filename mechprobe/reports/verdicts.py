"""A verdict with the figures it rests on, each beside the control that it had to beat."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from mechprobe.reports.effects import Control, EffectRow, effect_rows
from mechprobe.reports.estimates import Estimate, estimate_of, to_bool, to_float, to_text
from mechprobe.reports.rows import column_text, records, rows_where
from mechprobe.reports.tables import CausalTables
from mechprobe.reports.wording import VerdictWord, verdict_word

FURTHER_FIGURES = ("q_holm", "p_random", "specificity", "ceiling", "auroc", "audit_effect")
SAME_FIGURE = 5e-3
"""An effect this near to a verdict's figure is the one it was taken from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EffectSide:
    """Necessity or sufficiency: the effect and the control that it must beat."""

    name: str
    effect: Estimate
    control: Control | None


@dataclass(frozen=True, kw_only=True, slots=True)
class VerdictView:
    """A verdict with the figures it rests on."""

    word: VerdictWord
    direction: str
    hook_name: str
    position: str
    necessity: EffectSide
    sufficiency: EffectSide
    p_value: float
    n: float
    role: str
    is_right: bool | None
    reason: str
    figures: dict[str, float] = field(default_factory=lambda: dict[str, float]())
    """Those of `FURTHER_FIGURES` that the row knows."""


def verdict_views(causal: CausalTables, indicator: str) -> list[VerdictView]:
    """All verdicts of an indicator, the study's main direction first."""
    rows = records(rows_where(causal.verdicts, indicator=indicator))
    main = main_direction(causal.verdicts)
    rows.sort(key=lambda row: to_text(row["direction"]) != main)
    effects = effect_rows(causal.effects, indicator)
    return [_verdict_view(row, effects) for row in rows]


def main_direction(verdicts: pd.DataFrame) -> str:
    """The kind of direction that the first verdict is about: the one the first screen shows."""
    return next(iter(column_text(verdicts, "direction")), "")


def _verdict_view(row: dict[str, Any], effects: Sequence[EffectRow]) -> VerdictView:
    figures = {name: to_float(row.get(name)) for name in FURTHER_FIGURES}
    return VerdictView(
        word=verdict_word(to_text(row["verdict"])),
        direction=to_text(row["direction"]),
        hook_name=to_text(row["hook_name"]),
        position=to_text(row.get("position")),
        necessity=_side("necessity", "N", row, effects),
        sufficiency=_side("sufficiency", "S", row, effects),
        p_value=to_float(row["p_value"]),
        n=to_float(row["n"]),
        role=to_text(row["role"]) or to_text(row.get("truth")),
        is_right=to_bool(row.get("right")),
        reason=to_text(row.get("reason")),
        figures={name: value for name, value in figures.items() if not math.isnan(value)},
    )


def _side(name: str, letter: str, row: dict[str, Any], effects: Sequence[EffectRow]) -> EffectSide:
    """The verdict's own figure; interval and control come from the effect that it was taken from."""
    own = estimate_of(row, name)
    source = _source(own.value, to_text(row["direction"]), letter, effects)
    if source is None:
        return EffectSide(name=name, effect=own, control=None)
    low = own.low if own.has_interval else source.effect.low
    high = own.high if own.has_interval else source.effect.high
    effect = Estimate(value=own.value, low=low, high=high)
    return EffectSide(name=name, effect=effect, control=source.control("random"))


def _source(
    value: float, direction: str, letter: str, effects: Sequence[EffectRow]
) -> EffectRow | None:
    near = [
        effect
        for effect in effects
        if effect.operation.startswith(letter)
        and effect.direction == direction
        and abs(effect.effect.value - value) < SAME_FIGURE
    ]
    return min(near, key=lambda effect: abs(effect.effect.value - value), default=None)
