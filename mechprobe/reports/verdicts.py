"""A verdict with the figures it rests on, each beside the control that it had to beat."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from mechprobe.reports.effects import Control, EffectRow
from mechprobe.reports.estimates import NAN, Estimate, estimate_of, to_bool, to_float, to_text
from mechprobe.reports.rows import column_text, records, rows_where
from mechprobe.reports.wording import FIGURE_WORDS, VerdictWord, verdict_word

FURTHER_FIGURES = (
    *("q_holm", "p_random", "specificity", "ceiling", "auroc", "audit_effect", "illusion"),
    *FIGURE_WORDS,
)
"""Figures that a row may have besides its effects; one that it lacks is not shown."""
SAME_FIGURE = 5e-3
"""An effect this near to a verdict's figure is the one it was taken from."""


STRATUM_LETTERS = {"necessity": "N", "sufficiency": "S", "release": "N", "inhibition": "S"}
"""Strata in which runs have room to move, and the first letter of the operations that act there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EffectSide:
    """The effect in one stratum, the control that it must beat, and what the text itself does there."""

    name: str
    effect: Estimate
    control: Control | None
    flip_rate: float = NAN
    """Share of runs that change sides."""
    text: float = NAN
    """Effect of flipping the indicator in the text."""
    rest: float = NAN
    """Effect of everything but the direction (the complement)."""

    def mirrored(self) -> "EffectSide":
        """The same effect with its sign turned, for a bar that points the other way."""
        own = self.effect
        turned = Estimate(value=-own.value, low=-own.high, high=-own.low)
        return replace(self, effect=turned)


@dataclass(frozen=True, kw_only=True, slots=True)
class VerdictView:
    """A verdict with the figures it rests on."""

    word: VerdictWord
    direction: str
    hook_name: str
    position: str
    strata: tuple[EffectSide, ...]
    p_value: float
    n: float
    role: str
    truth: VerdictWord | None
    """The verdict that would be right, where the truth is known."""
    is_right: bool | None
    reason: str
    given_partner: str
    resampled: Estimate
    """Change of the misbehaviour rate when the text after the span is written anew."""
    figures: dict[str, float] = field(default_factory=lambda: dict[str, float]())
    """Those of `FURTHER_FIGURES` that the row knows."""

    @property
    def has_rest(self) -> bool:
        """Whether the complement was run."""
        return any(not math.isnan(side.rest) for side in self.strata)

    @property
    def necessity(self) -> EffectSide:
        """What taking the direction out does; of an inhibitor, the mirrored release."""
        return self._shown("necessity", "release")

    @property
    def sufficiency(self) -> EffectSide:
        """What putting the direction in does; of an inhibitor, the mirrored inhibition."""
        return self._shown("sufficiency", "inhibition")

    def _shown(self, name: str, mirror: str) -> EffectSide:
        sides = {side.name: side for side in self.strata}
        if self.word.slug == "inhibitor" and mirror in sides:
            return sides[mirror].mirrored()
        return sides[name]


def verdict_views(
    verdicts: pd.DataFrame, effects: Sequence[EffectRow], indicator: str
) -> list[VerdictView]:
    """All verdicts of an indicator with the controls among its effects, the study's main direction first."""
    rows = records(rows_where(verdicts, indicator=indicator))
    main = main_direction(verdicts)
    rows.sort(key=lambda row: to_text(row["direction"]) != main)
    return [_verdict_view(row, effects) for row in rows]


def main_direction(verdicts: pd.DataFrame) -> str:
    """The kind of direction that the first verdict is about: the one the first screen shows."""
    return next(iter(column_text(verdicts, "direction")), "")


def _verdict_view(row: dict[str, Any], effects: Sequence[EffectRow]) -> VerdictView:
    figures = {name: to_float(row.get(name)) for name in FURTHER_FIGURES}
    role, truth = to_text(row["role"]), to_text(row.get("truth"))
    return VerdictView(
        word=verdict_word(to_text(row["verdict"])),
        direction=to_text(row["direction"]),
        hook_name=to_text(row["hook_name"]),
        position=to_text(row.get("position")),
        strata=tuple(_side(name, row, effects) for name in STRATUM_LETTERS if name in row),
        p_value=to_float(row["p_value"]),
        n=to_float(row["n"]),
        role=role,
        truth=verdict_word(truth) if truth else None,
        is_right=to_bool(row.get("right")),
        reason=to_text(row.get("reason")),
        given_partner=to_text(row.get("given_partner")),
        resampled=estimate_of(row, "resampled"),
        figures={name: value for name, value in figures.items() if not math.isnan(value)},
    )


def _side(name: str, row: dict[str, Any], effects: Sequence[EffectRow]) -> EffectSide:
    """The verdict's own figure, with the control of the effect that it was taken from."""
    own = estimate_of(row, name)
    source = _source(name, own.value, to_text(row["direction"]), effects)
    if source is not None and not own.has_interval:
        own = Estimate(value=own.value, low=source.effect.low, high=source.effect.high)
    return EffectSide(
        name=name,
        effect=own,
        control=source.control("random") if source else None,
        flip_rate=to_float(row.get(f"{name}_flips", source.flip_rate if source else NAN)),
        text=to_float(row.get(f"text_{name}")),
        rest=to_float(row.get(f"complement_{name}")),
    )


def _source(
    stratum: str, value: float, direction: str, effects: Sequence[EffectRow]
) -> EffectRow | None:
    near = [
        effect
        for effect in effects
        if effect.operation.startswith(STRATUM_LETTERS[stratum])
        and effect.direction == direction
        and abs(effect.effect.value - value) < SAME_FIGURE
    ]
    return min(
        near,
        key=lambda effect: (effect.stratum != stratum, abs(effect.effect.value - value)),
        default=None,
    )
