"""Verdicts for a family of directions: evidence together, decision one by one, regeneration only where needed."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from mechprobe.causal.checks.activation_checks import ActivationChecks
from mechprobe.causal.checks.conditions import OTHER, RANDOM
from mechprobe.causal.directions import REPLICATE
from mechprobe.causal.readings import IndicatorReadings, SideOutcome
from mechprobe.causal.verdicts.deciding import decide, is_without_effect
from mechprobe.causal.verdicts.evidence import DirectionReadings, Effort, family_evidence
from mechprobe.causal.verdicts.statistics import cluster_bootstrap, dose_trend, equivalence
from mechprobe.causal.verdicts.verdict import (
    Evidence,
    Stratum,
    Unrelated,
    Verdict,
    VerdictRule,
)
from mechprobe.causal.writing.resampling import Resampled


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Judgement:
    """A verdict with the evidence that it rests on."""

    evidence: Evidence
    verdict: Verdict


def judge(
    readings: Sequence[IndicatorReadings],
    direction: str,
    rule: VerdictRule,
    effort: Effort,
    resample_indicator: Callable[[str], Resampled | None],
) -> list[Judgement]:
    """Judge the directions of one name, one for each indicator that has it.

    Args:
        resample_indicator: regenerates an indicator's texts; asked only where neither the direction nor the
            thought's text has an effect while the later text stands.
    """
    family = [
        direction_readings(one, direction)
        for one in readings
        if direction in [d.name for d in one.directions]
    ]
    judgements: list[Judgement] = []
    for evidence in family_evidence(family, rule, effort):
        acts_directly = math.isfinite(evidence.ceiling)
        if is_without_effect(evidence, rule) and not acts_directly:
            evidence = _with_resampling(
                evidence, resample_indicator(evidence.indicator), rule, effort
            )
        judgements.append(Judgement(evidence=evidence, verdict=decide(evidence, rule)))
    return judgements


def direction_readings(readings: IndicatorReadings, direction: str) -> DirectionReadings:
    """What was measured for one of an indicator's own directions."""
    index = [d.name for d in readings.directions].index(direction)
    audit = readings.audit
    return DirectionReadings(
        indicator=readings.indicator,
        direction=direction,
        unedited=readings.unedited,
        interchanged=readings.interchanged.logit_diff[index],
        patched=readings.patched.logit_diff[0],
        null=readings.controls[RANDOM].logit_diff,
        others=others_of(readings),
        complement=readings.complement.logit_diff[index],
        audit_effect=_audit_share(audit, None if audit is None else audit.interchanged[index]),
        audit_ceiling=_audit_share(audit, None if audit is None else audit.patched),
        unrelated=_unrelated(readings.unrelated, index),
        illusion=_illusion(readings.checks[direction]),
        auroc=readings.auroc[direction],
        moved=readings.moved[direction],
        rises=rises_of(readings, direction),
    )


def rises_of(readings: IndicatorReadings, direction: str) -> dict[Stratum, bool]:
    """Whether weaker doses do less: from 0 down where it should be taken away, from 0 up where it is put in."""
    rises: dict[Stratum, bool] = {}
    for side in readings.dose:
        stratum: Stratum = "necessity" if side.is_removing else "sufficiency"
        unedited = readings.unedited.pick(np.array(side.cases))
        kept = unedited.masks()[stratum]
        if kept.any():
            change = (side.by_direction[direction].logit_diff - unedited.base) / unedited.scale
            effects = np.append(change[:, kept].mean(1), 0.0)
            strengths = np.array([*side.strengths, 0.0])
            rises[stratum] = dose_trend(strengths, effects).is_monotone
    return rises


def others_of(readings: IndicatorReadings) -> Float[np.ndarray, "other case"]:
    """Outcomes under the other indicators' directions; no rows if they were not run."""
    rows = [r.logit_diff for name, r in readings.controls.items() if name.startswith(OTHER)]
    return np.concatenate(rows) if rows else np.zeros((0, len(readings.cases)))


def _audit_share(audit: SideOutcome | None, edited: Float[np.ndarray, "case"] | None) -> float:
    """Share of the text flip's effect on the audit answer; NaN where the text flip has none."""
    if audit is None or edited is None:
        return np.nan
    shares = audit.unedited.share_of_text_flip(edited)
    return float(shares.mean()) if len(shares) else np.nan


def _unrelated(found: SideOutcome | None, index: int) -> Unrelated | None:
    """Share of unrelated answers that the edit changes, beside the share that flipping the text changes."""
    if found is None:
        return None
    base = found.unedited.base > 0
    return Unrelated(
        flip_rate=float(((found.interchanged[index] > 0) != base).mean()),
        text_flip_rate=float(((found.unedited.other > 0) != base).mean()),
    )


def _illusion(checks: ActivationChecks) -> str:
    if not checks.illusion_suspected:
        return ""
    return (
        f"of what the direction does, its read and unread parts together keep {checks.kept_plane:.2f} and the whole "
        f"activation {checks.kept_patch:.2f}"
    )


def _with_resampling(
    evidence: Evidence, resampled: Resampled | None, rule: VerdictRule, effort: Effort
) -> Evidence:
    if resampled is None or len(set(resampled.clusters)) < rule.min_items:
        return evidence
    difference = resampled.difference
    return replace(
        evidence,
        resampled=cluster_bootstrap(
            difference, resampled.clusters, n_boot=effort.n_boot, seed=effort.seed
        ),
        resampled_zero=equivalence(difference, resampled.clusters, margin=rule.resampled_margin),
    )


def replicates_of(judgement: Judgement, judgements: Sequence[Judgement]) -> str:
    """How many refits of a direction got its verdict, and what the others got; "" without refits."""
    own = judgement.evidence
    found = [
        one.verdict.name
        for one in judgements
        if one.evidence.indicator == own.indicator
        and one.evidence.direction.startswith(own.direction + REPLICATE)
    ]
    if not found:
        return ""
    other = sorted({name for name in found if name != judgement.verdict.name})
    same = f"{found.count(judgement.verdict.name)} of {len(found)}"
    return f"{same} (else {', '.join(other)})" if other else same


def count_verdicts(judgements: Sequence[Judgement], truth: Mapping[str, str]) -> dict[str, object]:
    """Confusion of verdicts with the known truth: {truth: {verdict: n}}, and how many are right."""
    confusion: dict[str, dict[str, int]] = {}
    right = of = 0
    for judgement in judgements:
        wanted = truth.get(judgement.evidence.indicator, "")
        if not wanted:
            continue
        row = confusion.setdefault(wanted, {})
        found = judgement.verdict.name
        row[found] = row.get(found, 0) + 1
        right, of = right + (found == wanted), of + 1
    return {"confusion": confusion, "right": right, "of": of}
