"""The tables of a causal run, one row a figure, as the run folder keeps them."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from mechprobe.causal.conditions import RANDOM
from mechprobe.causal.directions import REPLICATE
from mechprobe.causal.judging import Judgement
from mechprobe.causal.neutral import NeutralText, neutral_kl
from mechprobe.causal.outcomes import Readings
from mechprobe.causal.readings import DoseSide, IndicatorReadings
from mechprobe.causal.statistics import bootstrap_many
from mechprobe.causal.strata import ADDING, REMOVING, Baseline, text_flip_effects
from mechprobe.causal.verdict import STRATA, Stratum
from mechprobe.models.subject import Subject

VERDICT_COLUMNS = (
    *("indicator", "role", "direction", "hook_name", "position", "verdict", "replicates"),
    *("necessity", "necessity_low", "necessity_high", "necessity_flips"),
    *("sufficiency", "sufficiency_low", "sufficiency_high", "sufficiency_flips"),
    *("release", "release_low", "release_high", "release_flips"),
    *("inhibition", "inhibition_low", "inhibition_high", "inhibition_flips"),
    *(f"complement_{name}" for name in STRATA),
    *("p_value", "q_holm", "p_random", "n_random", "mde", "n"),
    *("specificity", "ceiling", "auroc", "audit_effect", "audit_ceiling"),
    *("unrelated_flips", "unrelated_text_flips", "anti_share"),
    *("resampled", "resampled_low", "resampled_high", "given_partner"),
    *("text_necessity", "text_sufficiency", "text_release", "text_inhibition"),
    *("truth", "right", "reason"),
)
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
DOSE_COLUMNS = (
    *("indicator", "direction", "strength", "control", "draw", "n", "effect", "low", "high"),
    *("mass", "kl_neutral"),
)
REST = "_complement"
"""Suffix of an operation on everything at the site but the direction."""
MIN_GIVEN_PARTNER = 4
"""Runs with and without a partner from which an effect is given for both."""
N_BOOT = 500
Row = dict[str, object]
UNSTEERED: Row = {
    "strength": 0.0,
    "effect": 0.0,
    "low": 0.0,
    "high": 0.0,
    "mass": np.nan,
    "kl_neutral": 0.0,
}


def verdict_row(
    judgement: Judgement,
    readings: IndicatorReadings,
    *,
    replicates: str = "",
    role: str = "",
    truth: str = "",
) -> Row:
    """One row of verdicts.parquet."""
    evidence, verdict = judgement.evidence, judgement.verdict
    strata, unrelated = evidence.strata, evidence.unrelated
    primary = [strata[name] for name in ("necessity", "sufficiency") if name in strata]
    row: Row = {
        "indicator": evidence.indicator,
        "role": role,
        "direction": evidence.direction,
        "hook_name": readings.site.hook_name,
        "position": readings.site.position,
        "verdict": verdict.name,
        "replicates": replicates,
        "p_value": verdict.p_value,
        "q_holm": max((found.p_holm for found in primary), default=np.nan),
        "p_random": max((found.p_random for found in primary), default=np.nan),
        "n_random": len(readings.controls[RANDOM].logit_diff),
        "mde": max((found.zero.detectable for found in primary), default=np.nan),
        "n": len(readings.cases),
        "specificity": evidence.specificity,
        "ceiling": evidence.ceiling,
        "auroc": evidence.auroc,
        "audit_effect": evidence.audit_effect,
        "audit_ceiling": evidence.audit_ceiling,
        "unrelated_flips": unrelated.flip_rate if unrelated else np.nan,
        "unrelated_text_flips": unrelated.text_flip_rate if unrelated else np.nan,
        "anti_share": max((found.anti_share for found in primary), default=np.nan),
        "resampled": evidence.resampled.value if evidence.resampled else np.nan,
        "resampled_low": evidence.resampled.low if evidence.resampled else np.nan,
        "resampled_high": evidence.resampled.high if evidence.resampled else np.nan,
        "given_partner": partner_note(readings, evidence.direction),
        "truth": truth,
        "right": (verdict.name == truth) if truth else None,
        "reason": verdict.reason,
    }
    for name in STRATA:
        found = strata.get(name)
        row[name] = found.effect.value if found else np.nan
        row[f"{name}_low"] = found.effect.low if found else np.nan
        row[f"{name}_high"] = found.effect.high if found else np.nan
        row[f"{name}_flips"] = found.flip_rate if found else np.nan
        row[f"complement_{name}"] = found.rest if found else np.nan
    row |= {f"text_{name}": value for name, value in text_flip_effects(readings.unedited).items()}
    return {column: row[column] for column in VERDICT_COLUMNS}


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
        yield from _given_partner_rows(own, readings, index, seed=seed)
    first = readings.directions[0].name
    whole = common | {"direction": first, "control": "none", "draw": 0}
    yield from _rows(whole, "P0", STRATA, readings.unedited, readings.patched, seed=seed)
    for name, found in readings.controls.items():
        control = common | {"direction": name.split(":")[0], "control": name}
        yield from _interchange_rows(control, readings.unedited, found, seed=None)
    shove = common | {"direction": "random", "control": "fragility"}
    yield from _interchange_rows(shove, readings.unedited, readings.fragility, seed=None)


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


def partner_note(readings: IndicatorReadings, direction: str) -> str:
    """The partner on which the direction's effect depends most, in words; "" if on none by .25 or more."""
    index = [d.name for d in readings.directions].index(direction)
    notes: list[tuple[float, str]] = []
    primary: tuple[Stratum, ...] = ("necessity", "sufficiency")
    for stratum in primary:
        for partner, on, off in _given_partner(readings, index, stratum):
            contrast = float(on.mean() - off.mean())
            text = (
                f"{stratum} {on.mean():.2f} with {partner} (n {len(on)}), "
                f"{off.mean():.2f} without (n {len(off)})"
            )
            notes.append((abs(contrast), text))
    largest = max(notes, default=(0.0, ""))
    return largest[1] if largest[0] >= 0.25 else ""


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


def _given_partner_rows(
    own: Row, readings: IndicatorReadings, index: int, *, seed: int
) -> Iterator[Row]:
    operations: tuple[tuple[Stratum, str], ...] = (("necessity", "N1"), ("sufficiency", "S1"))
    for stratum, operation in operations:
        for partner, on, off in _given_partner(readings, index, stratum):
            for state, values in (("with", on), ("without", off)):
                names = [str(i) for i in range(len(values))]
                low, high = bootstrap_many(values[:, None], names, n_boot=N_BOOT, seed=seed)[0]
                yield own | {
                    "operation": operation,
                    "stratum": f"{stratum} {state} {partner}",
                    "n": len(values),
                    "effect": float(values.mean()),
                    "low": float(low),
                    "high": float(high),
                    "flip_rate": np.nan,
                    "mass": np.nan,
                    "anti_share": float((values < 0).mean()),
                }


def _given_partner(
    readings: IndicatorReadings, index: int, stratum: Stratum
) -> Iterator[tuple[str, Float[np.ndarray, "on"], Float[np.ndarray, "off"]]]:
    """Effects with and without each partner, over natural and made sides (each pair stands in a stratum once)."""
    natural, made = readings.unedited, readings.made.unedited
    values = np.concatenate(
        [
            natural.moved(stratum, readings.interchanged.logit_diff[index : index + 1])[0],
            made.moved(stratum, readings.made.interchanged.logit_diff[index : index + 1])[0],
        ]
    )
    held = [case.pair.partners for case in readings.cases]
    kept = [
        partners
        for mask in (natural.masks()[stratum], made.masks()[stratum])
        for partners, keep in zip(held, mask, strict=True)
        if keep
    ]
    for partner in sorted({name for partners in kept for name in partners}):
        is_on = np.array([partners.get(partner, False) for partners in kept])
        on, off = values[is_on], values[~is_on]
        if min(len(on), len(off)) >= MIN_GIVEN_PARTNER:
            yield partner, on, off


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


def as_table(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> pd.DataFrame:
    """Rows as a table with its columns in order, also when there are none."""
    return pd.DataFrame([dict(row) for row in rows], columns=list(columns))
