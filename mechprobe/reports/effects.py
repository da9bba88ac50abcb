"""Causal effects beside their controls.

An effect is in natural gaps of the outcome: 1 moves a run all the way to the other behaviour. Each one is shown with
the effects of directions that should do nothing (random, shuffled labels) and of the other indicators' directions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mechprobe.reports.estimates import NAN, Estimate, estimate_of, to_float, to_text
from mechprobe.reports.rows import column_floats, column_text, records, rows_where

NO_CONTROL = "none"
OTHER_PREFIX = "other:"
CONTROL_QUANTILE = 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class Control:
    """What directions that should do nothing did, under the same operation."""

    name: str
    mean: float
    low: float
    high: float
    """The middle 90 % of the draws lies between `low` and `high`."""
    largest_usual: float
    """95th percentile of the draws' absolute effects: a real effect must be larger."""
    n_draws: int


@dataclass(frozen=True, kw_only=True, slots=True)
class EffectRow:
    """One effect with its controls."""

    direction: str
    operation: str
    outcome: str
    stratum: str
    strength: float
    position: str
    n: float
    effect: Estimate
    controls: tuple[Control, ...]
    flip_rate: float
    mass: float

    def control(self, name: str) -> Control | None:
        """The control of that name ("random", "shuffled", "other"), if it was run."""
        return next((control for control in self.controls if control.name == name), None)


def effect_rows(effects: pd.DataFrame, indicator: str) -> list[EffectRow]:
    """The indicator's own effects, each with its controls, in the table's order."""
    rows = records(with_defaults(rows_where(effects, indicator=indicator)))
    controls: dict[_Condition, list[dict[str, Any]]] = {}
    for row in rows:
        if row["control"] != NO_CONTROL:
            controls.setdefault(_condition(row), []).append(row)
    return [
        _effect_row(row, controls.get(_condition(row), []))
        for row in rows
        if row["control"] == NO_CONTROL
    ]


def with_defaults(effects: pd.DataFrame) -> pd.DataFrame:
    """The effects with their optional columns there and comparable."""
    defaults: dict[str, Any] = {"outcome": "", "stratum": "all", "strength": NAN, "position": ""}
    lacking = {name: value for name, value in defaults.items() if name not in effects.columns}
    filled = effects.assign(**lacking)
    return filled.assign(
        outcome=column_text(filled, "outcome"),
        stratum=column_text(filled, "stratum"),
        strength=column_floats(filled, "strength"),
        effect=column_floats(filled, "effect"),
    )


_Condition = tuple[str, str, str, str]


def _condition(row: Mapping[str, Any]) -> _Condition:
    """What an effect and its controls have in common: operation, outcome, runs and strength."""
    strength = f"{to_float(row['strength']):.6g}"
    return to_text(row["operation"]), row["outcome"], row["stratum"], strength


def _effect_row(row: Mapping[str, Any], controls: Sequence[Mapping[str, Any]]) -> EffectRow:
    return EffectRow(
        direction=to_text(row["direction"]),
        operation=to_text(row["operation"]),
        outcome=to_text(row["outcome"]),
        stratum=to_text(row["stratum"]),
        strength=to_float(row["strength"]),
        position=to_text(row["position"]),
        n=to_float(row["n"]),
        effect=estimate_of(row, "effect"),
        controls=tuple(_controls(controls)),
        flip_rate=to_float(row.get("flip_rate")),
        mass=to_float(row.get("mass")),
    )


def _controls(rows: Sequence[Mapping[str, Any]]) -> list[Control]:
    found: dict[str, list[float]] = {}
    for row in rows:
        name = to_text(row["control"])
        kind = "other" if name.startswith(OTHER_PREFIX) else name
        found.setdefault(kind, []).append(to_float(row["effect"]))
    return [summarise_control(kind, np.array(found[kind])) for kind in sorted(found)]


def summarise_control(name: str, effects: np.ndarray) -> Control:
    """Mean, middle 90 % and 95th percentile of the size of control draws."""
    known = effects[~np.isnan(effects)]
    if not len(known):
        known = np.array([NAN])
    low, high = np.quantile(known, [0.05, 0.95])
    return Control(
        name=name,
        mean=float(known.mean()),
        low=float(low),
        high=float(high),
        largest_usual=float(np.quantile(np.abs(known), CONTROL_QUANTILE)),
        n_draws=len(effects),
    )
