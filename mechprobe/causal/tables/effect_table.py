"""`effects.parquet`: a row for each operation, stratum, direction and control."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float

from mechprobe.causal.directions import REPLICATE
from mechprobe.causal.outcomes import Readings
from mechprobe.causal.readings import IndicatorReadings
from mechprobe.causal.tables.partners import given_partner_rows
from mechprobe.causal.tables.rows import N_BOOT, Row
from mechprobe.causal.verdicts.statistics import bootstrap_many
from mechprobe.causal.verdicts.strata import ADDING, REMOVING, Baseline
from mechprobe.causal.verdicts.verdict import STRATA, Stratum

EFFECT_COLUMNS = (
    *("indicator", "direction", "hook_name", "position", "outcome", "operation", "stratum"),
    *(
        "strength",
        "control",
        "draw",
        "n",
        "effect",
        "low",
        "high",
        "flip_rate",
        "mass",
        "anti_share",
    ),
)
REST = "_complement"
"""Suffix of an operation on everything at the site but the direction."""


def effect_rows(readings: IndicatorReadings, outcome: str, *, seed: int) -> Iterator[Row]:
    """All rows of effects.parquet of one indicator."""
    common: Row = {
        "indicator": readings.indicator,
        "hook_name": readings.site.hook_name,
        "position": readings.site.position,
        "outcome": outcome,
        "strength": np.nan,
    }
    for index, direction in enumerate(readings.directions):
        if REPLICATE in direction.name:
            continue
        own = common | {"direction": direction.name, "control": "none", "draw": 0}
        one = readings.interchanged.rows(index, index + 1)
        yield from _interchange_rows(own, readings.unedited, one, seed=seed)
        rest = readings.complement.rows(index, index + 1)
        yield from _rows(own, f"N1{REST}", REMOVING, readings.unedited, rest, seed=seed)
        yield from _rows(own, f"S1{REST}", ADDING, readings.unedited, rest, seed=seed)
        ablated = readings.mean_ablated.rows(index, index + 1)
        yield from _rows(own, "N2", REMOVING, readings.unedited, ablated, seed=seed)
        yield from _steering_rows(own, readings, direction.name, seed=seed)
        yield from given_partner_rows(own, readings, index, seed=seed)
    first = readings.directions[0].name
    whole = common | {"direction": first, "control": "none", "draw": 0}
    yield from _rows(whole, "P0", STRATA, readings.unedited, readings.patched, seed=seed)
    for name, found in readings.controls.items():
        control = common | {"direction": name.split(":")[0], "control": name}
        yield from _interchange_rows(control, readings.unedited, found, seed=None)
    shove = common | {"direction": "random", "control": "fragility"}
    yield from _interchange_rows(shove, readings.unedited, readings.fragility, seed=None)


def _interchange_rows(
    common: Row, unedited: Baseline, edited: Readings, *, seed: int | None
) -> Iterator[Row]:
    yield from _rows(common, "N1", REMOVING, unedited, edited, seed=seed)
    yield from _rows(common, "S1", ADDING, unedited, edited, seed=seed)


def _rows(
    common: Row,
    operation: str,
    strata: Sequence[Stratum],
    unedited: Baseline,
    edited: Readings,
    *,
    seed: int | None,
) -> Iterator[Row]:
    """A row for each stratum and draw, and for the strata pooled ("all")."""
    masks = unedited.masks()
    values = {name: unedited.moved(name, edited.logit_diff) for name in strata}
    pools: dict[str, Sequence[Stratum]] = {name: (name,) for name in strata}
    if operation != "P0":
        pools["all"] = strata
    for stratum, names in pools.items():
        # Pooled, the effect counts in the direction of the operation: down for removing, up for adding.
        signs = [_pool_sign(name, operation) if stratum == "all" else 1.0 for name in names]
        effects = np.concatenate(
            [sign * values[n] for sign, n in zip(signs, names, strict=True)], 1
        )
        flips = np.concatenate([unedited.flips(name, edited.logit_diff) for name in names], 1)
        mass = np.concatenate([edited.mass[:, masks[name]] for name in names], 1)
        clusters = [cluster for name in names for cluster in unedited.clusters_of(name)]
        if effects.shape[1]:
            yield from _summaries(
                common | {"operation": operation, "stratum": stratum},
                effects,
                flips,
                mass,
                clusters,
                seed,
            )


def _pool_sign(stratum: Stratum, operation: str) -> float:
    lowers = stratum in ("necessity", "inhibition")
    return 1.0 if lowers == operation.startswith("N") else -1.0


def _summaries(
    common: Row,
    effects: Float[np.ndarray, "draw case"],
    flips: Bool[np.ndarray, "draw case"],
    mass: Float[np.ndarray, "draw case"],
    clusters: Sequence[str],
    seed: int | None,
) -> Iterator[Row]:
    bounds = np.full((len(effects), 2), np.nan)
    if seed is not None:
        bounds = bootstrap_many(effects.T, clusters, n_boot=N_BOOT, seed=seed)
    for draw in range(len(effects)):
        yield (
            {"draw": draw}
            | common
            | {
                "n": effects.shape[1],
                "effect": float(effects[draw].mean()),
                "low": float(bounds[draw, 0]),
                "high": float(bounds[draw, 1]),
                "flip_rate": float(flips[draw].mean()),
                "mass": float(mass[draw].mean()),
                "anti_share": float((effects[draw] < 0).mean()),
            }
        )


def _steering_rows(
    own: Row, readings: IndicatorReadings, direction: str, *, seed: int
) -> Iterator[Row]:
    """S2: steering by one natural gap where the indicator is not held."""
    for side in readings.dose:
        if side.is_removing:
            continue
        at = side.strengths.index(1.0)
        some = readings.unedited.pick(np.array(side.cases))
        steered = side.by_direction[direction].rows(at, at + 1)
        yield from _rows(own | {"strength": 1.0}, "S2", ADDING, some, steered, seed=seed)
        for draw, found in enumerate(side.random):
            control = own | {"direction": "random", "control": "random", "draw": draw}
            strong = control | {"strength": 1.0}
            yield from _rows(strong, "S2", ADDING, some, found.rows(at, at + 1), seed=None)
