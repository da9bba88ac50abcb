"""The figures of one series of turn scores: three AUROCs, their chance levels, rates, and why there are none."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mechprobe.evaluation.bootstrap import auroc_interval
from mechprobe.evaluation.delong import delong_auroc
from mechprobe.evaluation.detection import MIN_POSITIVES
from mechprobe.evaluation.metrics import auroc, quantile_point, tpr_at_fpr
from mechprobe.evaluation.partial import partial_auroc
from mechprobe.evaluation.rates import mixed_tpr_chance, tpr_intervals
from mechprobe.evaluation.relaxed import prior_fire_at_fpr, transcript_relaxed_units
from mechprobe.evaluation.units import (
    Turns,
    Units,
    mixed_chance_across,
    mixed_units,
    transcript_chance,
    transcript_units,
    turn_units,
)

FPR_TARGETS = (0.01, 0.05, 0.1)
PARTIAL_FPR = 0.1
UNITS = ("mixed", "turn", "transcript")
_RATE_KEYS = ("threshold", "fpr", "tpr", "low", "high", "chance")

Figures = dict[str, object]


@dataclass(frozen=True, kw_only=True, slots=True)
class Resampling:
    """How intervals are drawn."""

    n_boot: int = 1000
    """Draws of whole transcripts."""
    seed: int = 0


def turns_of(rows: pd.DataFrame) -> Turns:
    """The turns of some rows of a score file."""
    return Turns(
        transcript=rows["transcript"].to_numpy(dtype=np.int64),
        is_positive=rows["is_positive"].to_numpy(dtype=bool),
        in_positive=rows["in_positive"].to_numpy(dtype=bool),
    )


def units_of(rows: pd.DataFrame) -> dict[str, Units]:
    """The three kinds of units of some rows, by name."""
    scores, turns = rows["score"].to_numpy(dtype=np.float64), turns_of(rows)
    return {
        "mixed": mixed_units(scores, turns),
        "turn": turn_units(scores, turns),
        "transcript": transcript_units(scores, turns),
    }


def why_no_figure(units: Units) -> str:
    """What forbids a figure: "one class only", "too few", "all scores equal", or "" if nothing does."""
    n_pos = int(units.is_positive.sum())
    if n_pos in (0, len(units.is_positive)):
        return "one class only"
    if n_pos < MIN_POSITIVES:
        return "too few"
    return "all scores equal" if np.ptp(units.scores) == 0 else ""


def figures_of(rows: pd.DataFrame, resampling: Resampling) -> Figures:
    """Every figure of a series' rows; None where there is none, for the reason that `status` gives."""
    found = units_of(rows)
    mixed, turn, transcript = (found[name] for name in UNITS)
    status = why_no_figure(mixed)
    figures: Figures = {
        "status": status or "ok",
        "n_pos": int(mixed.is_positive.sum()),
        "n_neg": int((~mixed.is_positive).sum()),
        "n_transcripts": len(transcript.scores),
        "n_neg_transcripts": int((~transcript.is_positive).sum()),
        "n_turns": len(turn.scores),
        "n_pos_turns": int(turn.is_positive.sum()),
    }
    for name, units in found.items():
        figures |= _aurocs(name, units, resampling)
    turns = turns_of(rows)
    figures["mixed_chance_across"] = _or_none(mixed_chance_across(turns))
    figures["transcript_chance_of_turns"] = _or_none(transcript_chance(turns))
    for target in FPR_TARGETS:
        figures[f"tpr@{target}"] = None if status else _authors_point(mixed, target)
    figures["tpr_at_fpr"] = {
        name: _held_rates(name, units, turns, resampling) for name, units in found.items()
    }
    figures["turn_partial_auroc"] = _partial(turn)
    figures["relaxed"] = _relaxed(rows, turns, resampling)
    return figures


def _aurocs(name: str, units: Units, resampling: Resampling) -> Figures:
    status = why_no_figure(units)
    figures: Figures = {f"{name}_status": status or "ok", f"{name}_chance": _or_none(units.chance)}
    keys = (f"{name}_auroc", f"{name}_auroc_low", f"{name}_auroc_high", f"{name}_auroc_se")
    if status:
        return figures | dict.fromkeys(keys)
    interval = auroc_interval(units, n_boot=resampling.n_boot, seed=resampling.seed)
    error = _or_none(delong_auroc(units).standard_error)
    return figures | dict(
        zip(keys, (interval.value, interval.low, interval.high, error), strict=True)
    )


def _authors_point(units: Units, target: float) -> Mapping[str, float]:
    """The authors' tabulated point, under the names of their own table."""
    point = quantile_point(units.scores, units.is_positive, target)
    return {"thr": point.threshold, "fpr": point.fpr, "tpr": point.tpr}


def _held_rates(name: str, units: Units, turns: Turns, resampling: Resampling) -> list[Figures]:
    """Rates at each target; without figures where a single negative is already more than the target."""
    status = why_no_figure(units)
    n_neg = int((~units.is_positive).sum())
    resolved = [] if status else [target for target in FPR_TARGETS if n_neg * target >= 1]
    intervals = (
        tpr_intervals(units, resolved, n_boot=resampling.n_boot, seed=resampling.seed)
        if resolved
        else []
    )
    rates: list[Figures] = []
    for target, interval in zip(resolved, intervals, strict=True):
        point = tpr_at_fpr(units.scores, units.is_positive, target)
        chance = mixed_tpr_chance(turns, point.fpr) if name == "mixed" else point.fpr
        values = (point.threshold, point.fpr, point.tpr, interval.low, interval.high, chance)
        rates.append(
            {"target": target, "status": "ok", **dict(zip(_RATE_KEYS, values, strict=True))}
        )
    unresolved: list[Figures] = [
        {"target": target, "status": status or "too few negatives", **dict.fromkeys(_RATE_KEYS)}
        for target in FPR_TARGETS
        if target not in resolved
    ]
    return unresolved + rates


def _partial(units: Units) -> Figures:
    if why_no_figure(units):
        return {"max_fpr": PARTIAL_FPR, "area": None, "standardised": None}
    found = partial_auroc(units.scores, units.is_positive, PARTIAL_FPR)
    return {"max_fpr": PARTIAL_FPR, "area": found.area, "standardised": found.standardised}


def _relaxed(rows: pd.DataFrame, turns: Turns, resampling: Resampling) -> Figures:
    """Figures on the turns with a sure label; None where those have one class only."""
    scores = rows["score"].to_numpy(dtype=np.float64)
    units = transcript_relaxed_units(scores, turns)
    n_neg = int((~units.is_positive).sum())
    figures: Figures = {"n_pos": int(units.is_positive.sum()), "n_neg": n_neg}
    if why_no_figure(units):
        return figures | {"turn_auroc": None, "prior_fire": None}
    number = pd.factorize(rows["turn"], sort=True)[0].astype(np.int64)
    points: list[Figures] = []
    for target in FPR_TARGETS:
        if n_neg * target < 1:
            continue
        point = prior_fire_at_fpr(scores, turns, number, target)
        points.append(
            {
                "target": target,
                "threshold": point.threshold,
                "fpr": point.fpr,
                "tpr": _or_none(point.tpr),
                "n_pos": point.n_pos,
                "n_excused": point.n_excused,
            }
        )
    interval = auroc_interval(units, n_boot=resampling.n_boot, seed=resampling.seed)
    return figures | {
        "turn_auroc": auroc(units.scores, units.is_positive),
        "turn_auroc_low": interval.low,
        "turn_auroc_high": interval.high,
        "turn_chance": units.chance,
        "prior_fire": points,
    }


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None
