"""From outcomes of edited runs to the figures that a verdict rests on.

All indicators of a family are handled together, because Holm's correction needs every p-value of the family: the
primary one is {necessity, sufficiency} x indicators, and the mirror strata form a second one.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from mechprobe.causal.verdicts.statistics import (
    Equivalence,
    Interval,
    bootstrap_many,
    cluster_bootstrap,
    empirical_p,
    equivalence,
    sign_flip_p,
)
from mechprobe.causal.verdicts.strata import Baseline
from mechprobe.causal.verdicts.verdict import (
    STRATA,
    Evidence,
    Pool,
    Stratum,
    StratumEffect,
    Unrelated,
    VerdictRule,
)
from mechprobe.evaluation.differences import holm

FAMILIES: tuple[tuple[Stratum, ...], ...] = (
    ("necessity", "sufficiency"),
    ("release", "inhibition"),
)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DirectionReadings:
    """All outcomes of one direction on one indicator's cases."""

    indicator: str
    direction: str
    unedited: Baseline
    interchanged: Float[np.ndarray, "case"]
    patched: Float[np.ndarray, "case"]
    """The whole activation of the partner written in."""
    null: Float[np.ndarray, "draw case"]
    """The same interchange along random directions."""
    others: Float[np.ndarray, "other case"]
    """The same interchange along the other indicators' directions; may have no rows."""
    complement: Float[np.ndarray, "case"] | None
    """The whole activation of the partner except its coordinate along the direction; None: not run."""
    audit_effect: float
    audit_ceiling: float
    auroc: float
    moved: float
    rises: Mapping[Stratum, bool]
    unrelated: Unrelated | None = None
    illusion: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Effort:
    """How much resampling the figures get."""

    n_boot: int = 2000
    n_permutations: int = 5000
    seed: int = 0
    is_printed: bool = True
    """BCa intervals and every sign-flip test; else percentile intervals and only the tests that can matter."""


def family_evidence(
    family: Sequence[DirectionReadings], rule: VerdictRule, effort: Effort
) -> list[Evidence]:
    """The evidence for each member of a family of directions, one an indicator, corrected together."""
    effects = [_strata(readings, rule, effort) for readings in family]
    sizes: dict[Stratum, int] = {}
    for names in FAMILIES:
        keys: list[tuple[int, Stratum]] = [
            (i, name) for i, found in enumerate(effects) for name in names if name in found
        ]
        corrected = holm([effects[i][name].p_sign for i, name in keys])
        sizes |= dict.fromkeys(names, len(keys))
        for (i, name), p_holm in zip(keys, corrected, strict=True):
            effects[i][name] = replace(effects[i][name], p_holm=p_holm)
    size = max(1, sizes["necessity"])
    return [
        _evidence(readings, found, size, rule)
        for readings, found in zip(family, effects, strict=True)
    ]


def _strata(
    readings: DirectionReadings, rule: VerdictRule, effort: Effort
) -> dict[Stratum, StratumEffect]:
    if _faults(readings) or _gaps(readings):
        return {}
    counts = {name: int(mask.sum()) for name, mask in readings.unedited.masks().items()}
    return {
        name: _stratum_effect(readings, name, rule, effort)
        for name in STRATA
        if counts[name] >= rule.min_items
    }


def _stratum_effect(
    readings: DirectionReadings, name: Stratum, rule: VerdictRule, effort: Effort
) -> StratumEffect:
    unedited = readings.unedited
    values = unedited.moved(name, readings.interchanged[None])[0]
    clusters = unedited.clusters_of(name)
    null = unedited.moved(name, readings.null).mean(1)
    mean = float(values.mean())
    can_matter = effort.is_printed or mean >= rule.min_effect
    p_sign = (
        sign_flip_p(values, clusters, n_permutations=effort.n_permutations, seed=effort.seed)
        if can_matter
        else 1.0
    )
    whole = unedited.moved(name, readings.patched[None])[0]
    rest = (
        None if readings.complement is None else unedited.moved(name, readings.complement[None])[0]
    )
    return StratumEffect(
        n=len(values),
        n_clusters=len(set(clusters)),
        effect=_interval(values, clusters, effort),
        anti_share=float((values < 0).mean()),
        rest=math.nan if rest is None else float(rest.mean()),
        rest_zero=None
        if rest is None
        else equivalence(rest, clusters, margin=rule.mediation_margin),
        whole=float(whole.mean()),
        short_zero=None
        if rest is None
        else equivalence(whole - values, clusters, margin=rule.mediation_margin),
        flip_rate=float(unedited.flips(name, readings.interchanged[None]).mean()),
        p_sign=p_sign,
        p_holm=math.nan,
        p_random=empirical_p(mean, null),
        zero=equivalence(values, clusters, margin=rule.margin),
    )


def _interval(
    values: Float[np.ndarray, "case"], clusters: Sequence[str], effort: Effort
) -> Interval:
    if effort.is_printed:
        return cluster_bootstrap(values, clusters, n_boot=effort.n_boot, seed=effort.seed)
    low, high = bootstrap_many(
        values[:, None], clusters, n_boot=max(200, effort.n_boot // 10), seed=effort.seed
    )[0]
    return Interval(value=float(values.mean()), low=float(low), high=float(high))


def _evidence(
    readings: DirectionReadings,
    found: dict[Stratum, StratumEffect],
    family_size: int,
    rule: VerdictRule,
) -> Evidence:
    unedited = readings.unedited
    faults, gaps = _faults(readings), _gaps(readings)
    usable = not faults and not gaps
    shares = unedited.share_of_text_flip(readings.patched) if usable else np.zeros(0)
    return Evidence(
        indicator=readings.indicator,
        direction=readings.direction,
        strata=found,
        pooled_zero={} if not usable else _pooled_zero(readings, rule),
        n_items={name: int(mask.sum()) for name, mask in unedited.masks().items()},
        ceiling=float(shares.mean()) if len(shares) >= rule.min_items else math.nan,
        ceiling_effects={
            name: float(unedited.moved(name, readings.patched[None]).mean()) for name in found
        },
        audit_ceiling=readings.audit_ceiling,
        audit_effect=readings.audit_effect,
        auroc=readings.auroc,
        moved=readings.moved,
        specificity=_specificity(readings, found),
        rises=readings.rises,
        unrelated=readings.unrelated,
        illusion=readings.illusion,
        family_size=family_size,
        faults=faults,
        gaps=gaps,
    )


def _pooled_zero(readings: DirectionReadings, rule: VerdictRule) -> dict[Pool, Equivalence]:
    """Equivalence to zero of the outcome's change, over all runs of each natural side that has enough."""
    unedited = readings.unedited
    change = (readings.interchanged - unedited.base) / unedited.scale
    clusters = np.array(unedited.clusters)
    sides: dict[Pool, np.ndarray] = {
        "removing": unedited.is_positive,
        "adding": ~unedited.is_positive,
    }
    return {
        name: equivalence(change[mask], clusters[mask].tolist(), margin=rule.margin)
        for name, mask in sides.items()
        if mask.sum() >= rule.min_items
    }


def _specificity(readings: DirectionReadings, found: dict[Stratum, StratumEffect]) -> float:
    """In the stratum where the direction does most: its effect minus the mean of the other indicators'."""
    if not found or not len(readings.others):
        return math.nan
    largest = max(found, key=lambda name: found[name].effect.value)
    others = readings.unedited.moved(largest, readings.others)
    return found[largest].effect.value - float(others.mean())


def _faults(readings: DirectionReadings) -> tuple[str, ...]:
    runs = np.concatenate(
        [
            readings.unedited.base,
            readings.unedited.other,
            readings.interchanged,
            readings.patched,
            *([] if readings.complement is None else [readings.complement]),
        ]
    )
    broken = int((~np.isfinite(runs)).sum())
    if not broken:
        return ()
    return (f"{broken} of {len(runs)} runs have logits that are not numbers",)


def _gaps(readings: DirectionReadings) -> tuple[str, ...]:
    if math.isfinite(readings.unedited.scale):
        return ()
    return (
        "the outcome is constant: all natural runs fall on the same side, so nothing can move it",
    )
