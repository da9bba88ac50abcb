"""`dose.parquet`: the outcome and the damage by strength of steering."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from mechprobe.causal.directions import REPLICATE
from mechprobe.causal.outcomes import Readings
from mechprobe.causal.readings import DoseSide, IndicatorReadings
from mechprobe.causal.tables.rows import N_BOOT, Row
from mechprobe.causal.verdicts.statistics import bootstrap_many
from mechprobe.causal.writing.neutral import NeutralText, neutral_kl
from mechprobe.models.subject import Subject

DOSE_COLUMNS = (
    *("indicator", "direction", "strength", "control", "draw", "n", "effect", "low", "high"),
    *("mass", "kl_neutral"),
)
UNSTEERED: Row = {
    "strength": 0.0,
    "effect": 0.0,
    "low": 0.0,
    "high": 0.0,
    "mass": np.nan,
    "kl_neutral": 0.0,
}


def dose_rows(
    readings: IndicatorReadings,
    subject: Subject,
    neutral: NeutralText | None,
    *,
    seed: int,
) -> Iterator[Row]:
    """All rows of dose.parquet of one indicator: change of the outcome in natural gaps, + = towards misbehaviour.

    Below strength 0 the runs hold the indicator, above 0 they do not.
    """
    for direction in readings.directions:
        if REPLICATE in direction.name:
            continue
        own: Row = {"direction": direction.name, "control": "none", "draw": 0}
        yield {"indicator": readings.indicator, **own, **UNSTEERED}
        for side in readings.dose:
            damage = np.full(len(side.strengths), np.nan)
            if neutral is not None:
                amounts = [strength * direction.gap for strength in side.strengths]
                damage = neutral_kl(
                    subject, neutral, readings.site.hook_name, direction.vector, amounts
                )
            found = side.by_direction[direction.name]
            yield from _dose_rows(own, readings, side, found, damage, seed)
    for draw in range(min((len(side.random) for side in readings.dose), default=0)):
        control: Row = {"direction": "random", "control": "random", "draw": draw}
        yield {"indicator": readings.indicator, **control, **UNSTEERED}
        for side in readings.dose:
            unknown = np.full(len(side.strengths), np.nan)
            yield from _dose_rows(control, readings, side, side.random[draw], unknown, seed)


def _dose_rows(
    common: Row,
    readings: IndicatorReadings,
    side: DoseSide,
    found: Readings,
    damage: Float[np.ndarray, "dose"],
    seed: int,
) -> Iterator[Row]:
    unedited = readings.unedited.pick(np.array(side.cases))
    effects = (found.logit_diff - unedited.base) / unedited.scale
    bounds = bootstrap_many(effects.T, unedited.clusters, n_boot=N_BOOT, seed=seed)
    for at, strength in enumerate(side.strengths):
        yield (
            {"indicator": readings.indicator}
            | common
            | {
                "strength": strength,
                "n": len(side.cases),
                "effect": float(effects[at].mean()),
                "low": float(bounds[at, 0]),
                "high": float(bounds[at, 1]),
                "mass": float(found.mass[at].mean()),
                "kl_neutral": float(damage[at]),
            }
        )
