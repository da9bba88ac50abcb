"""`verdicts.parquet`: a row for each verdict, with every figure that it rests on."""

import numpy as np

from mechprobe.causal.checks.conditions import RANDOM
from mechprobe.causal.readings import IndicatorReadings
from mechprobe.causal.tables.partners import partner_note
from mechprobe.causal.tables.rows import Row
from mechprobe.causal.verdicts.judging import Judgement
from mechprobe.causal.verdicts.strata import text_flip_effects
from mechprobe.causal.verdicts.verdict import STRATA

VERDICT_COLUMNS = (
    *("indicator", "role", "direction", "hook_name", "position", "verdict", "replicates"),
    *("necessity", "necessity_low", "necessity_high", "necessity_flips"),
    *("sufficiency", "sufficiency_low", "sufficiency_high", "sufficiency_flips"),
    *("release", "release_low", "release_high", "release_flips"),
    *("inhibition", "inhibition_low", "inhibition_high", "inhibition_flips"),
    *(f"complement_{name}" for name in STRATA),
    *(f"whole_{name}" for name in STRATA),
    *("p_value", "q_holm", "p_random", "n_random", "mde", "n"),
    *("specificity", "ceiling", "auroc", "audit_effect", "audit_ceiling"),
    *("unrelated_flips", "unrelated_text_flips", "anti_share"),
    *("off_manifold", "kept_plane", "kept_patch", "illusion"),
    *("remains_auroc", "remains_low", "remains_dims"),
    *("resampled", "resampled_low", "resampled_high", "given_partner"),
    *("text_necessity", "text_sufficiency", "text_release", "text_inhibition"),
    *("truth", "right", "reason"),
)


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
    checks = readings.checks[evidence.direction]
    remains = readings.remains
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
        "off_manifold": checks.off_manifold,
        "kept_plane": checks.kept_plane,
        "kept_patch": checks.kept_patch,
        "illusion": checks.illusion_suspected,
        "remains_auroc": remains.after[0].linear.value if remains else np.nan,
        "remains_low": remains.after[0].linear.low if remains else np.nan,
        "remains_dims": remains.dims_to_chance or np.nan if remains else np.nan,
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
        row[f"whole_{name}"] = found.whole if found else np.nan
    row |= {f"text_{name}": value for name, value in text_flip_effects(readings.unedited).items()}
    return {column: row[column] for column in VERDICT_COLUMNS}
