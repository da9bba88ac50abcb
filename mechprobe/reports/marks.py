"""Small inline SVG marks for table cells: AUROC with its interval, and effects beside their control.

They hold numbers only, no text of the run, and take their colours from the page's style sheet, so that they
follow its light and dark themes and print.
"""

import math

from markupsafe import Markup

from mechprobe.reports.estimates import Estimate
from mechprobe.reports.overview import UnitScores
from mechprobe.reports.verdicts import EffectSide

AUROC_LOW, AUROC_HIGH = 0.4, 1.0
FOREST_WIDTH, FOREST_HEIGHT, MARGIN = 112.0, 34.0, 5.0
LANES = (("dense", 6.0), ("sparse", 13.0), ("words", 20.0), ("length", 27.0))
EFFECT_LOW, EFFECT_HIGH = -1.25, 1.25
EFFECT_WIDTH, EFFECT_HEIGHT = 76.0, 18.0


def forest_mark(scores: UnitScores) -> Markup:
    """The AUROC of the compared scorers, one lane each, over a line at chance."""
    parts = [
        _line("chance", _auroc_x(scores.chance), 1.0, _auroc_x(scores.chance), FOREST_HEIGHT - 1.0)
    ]
    for name, y in LANES:
        estimate = getattr(scores, name)
        if estimate is not None and estimate.is_known:
            parts.extend(_lane(name, estimate, y))
    return _svg("forest", FOREST_WIDTH, FOREST_HEIGHT, parts)


def forest_axis() -> Markup:
    """The axis of the lanes, for the column's head."""
    ticks = [(0.5, ".5"), (0.75, ".75"), (1.0, "1")]
    parts = [
        f'<text x="{_auroc_x(value):.1f}" y="10" text-anchor="middle">{label}</text>'
        for value, label in ticks
    ]
    return _svg("axis", FOREST_WIDTH, 12.0, parts)


def _lane(name: str, estimate: Estimate, y: float) -> list[str]:
    parts: list[str] = []
    if estimate.has_interval:
        parts.append(
            _line(f"whisker {name}", _auroc_x(estimate.low), y, _auroc_x(estimate.high), y)
        )
    x = _auroc_x(estimate.value)
    if name == "dense":
        parts.append(f'<circle class="dot {name}" cx="{x:.1f}" cy="{y}" r="3.4"/>')
    elif name == "sparse":
        parts.append(
            f'<rect class="dot {name}" x="{x - 2.8:.1f}" y="{y - 2.8:.1f}" width="5.6" height="5.6"/>'
        )
    elif name == "words":
        parts.append(f'<path class="dot {name}" d="M{x:.1f} {y - 3.6:.1f}l3.6 6.4h-7.2z"/>')
    else:
        parts.append(f'<path class="stroke {name}" d="M{x:.1f} {y - 3.2:.1f}v6.4"/>')
    return parts


def effect_mark(side: EffectSide) -> Markup:
    """A bar from zero to the effect, its interval, and a band as wide as the random control."""
    zero, middle = _effect_x(0.0), EFFECT_HEIGHT / 2
    parts: list[str] = []
    if side.control is not None and not math.isnan(side.control.largest_usual):
        reach = side.control.largest_usual
        left, right = _effect_x(-reach), _effect_x(reach)
        parts.append(_rect("band", left, 1.0, max(right - left, 1.0), EFFECT_HEIGHT - 2))
    if side.effect.is_known:
        end = _effect_x(side.effect.value)
        sign = "positive" if side.effect.value >= 0 else "negative"
        parts.append(_rect(f"bar {sign}", min(zero, end), middle - 4, abs(end - zero), 8.0))
    if side.effect.has_interval:
        low, high = _effect_x(side.effect.low), _effect_x(side.effect.high)
        parts.append(_line("reach", low, middle, high, middle))
    parts.append(_line("zero", zero, 0.0, zero, EFFECT_HEIGHT))
    return _svg("effect", EFFECT_WIDTH, EFFECT_HEIGHT, parts)


def _auroc_x(value: float) -> float:
    return _place(value, AUROC_LOW, AUROC_HIGH, FOREST_WIDTH)


def _effect_x(value: float) -> float:
    return _place(value, EFFECT_LOW, EFFECT_HIGH, EFFECT_WIDTH)


def _place(value: float, low: float, high: float, width: float) -> float:
    inside = 0.0 if math.isnan(value) else (min(max(value, low), high) - low) / (high - low)
    return MARGIN + inside * (width - 2 * MARGIN)


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _rect(kind: str, x: float, y: float, width: float, height: float) -> str:
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'
    )


def _svg(kind: str, width: float, height: float, parts: list[str]) -> Markup:
    inside = "".join(parts)
    return Markup(
        f'<svg class="mark {kind}" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" aria-hidden="true">{inside}</svg>'
    )
