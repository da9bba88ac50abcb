"""Made-up tables of a run's interventions: verdicts, effects, doses, sites, texts, damage."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

HOOKS = ("blocks.0.hook_out", "blocks.1.hook_out", "blocks.2.hook_out")
POSITIONS = ("span_first", "span_last", "span_all", "after_span", "decision")
STRENGTHS = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 4.0)


@dataclass(frozen=True)
class Truth:
    """What an indicator of a role does: the right verdict, and its effect in each stratum (NaN: too few runs)."""

    verdict: str
    necessity: float
    sufficiency: float
    release: float = 0.0
    inhibition: float = 0.0


NAN = float("nan")
TRUTHS = {
    "driver": Truth("driver", 0.93, 0.88, NAN, NAN),
    "conjunctive": Truth("necessary_only", 0.84, 0.12, 0.03, 0.02),
    "redundant": Truth("sufficient_only", 0.14, 0.81, NAN, 0.04),
    "inhibitor": Truth("inhibitor", NAN, 0.02, 0.72, 0.83),
    "upstream": Truth("text_mediated", 0.02, 0.01),
    "readout": Truth("readout_only", 0.01, 0.02),
}
STRATA = ("necessity", "release", "sufficiency", "inhibition")


def write_causes(folder: Path, roles: dict[str, str], rng: np.random.Generator) -> None:
    slugs = list(roles)
    verdicts: list[dict[str, Any]] = []
    effects: list[dict[str, Any]] = []
    dose: list[dict[str, Any]] = []
    sites: list[dict[str, Any]] = []
    for at, (slug, role) in enumerate(roles.items()):
        truth = TRUTHS[role]
        found = {name: getattr(truth, name) + 0.03 * rng.standard_normal() for name in STRATA}
        name = truth.verdict if at != 7 else "undetermined"
        verdicts.append(_verdict(slug, role, name, truth, found))
        effects.extend(_effects(slug, slugs, found, rng))
        dose.extend(_dose(slug, found["sufficiency"], rng))
        sites.extend(_sites(slug, role))
    sites.extend(_sites("all", "driver"))
    pd.DataFrame(verdicts).to_parquet(folder / "verdicts.parquet")
    pd.DataFrame(effects).to_parquet(folder / "effects.parquet")
    pd.DataFrame(dose).to_parquet(folder / "dose.parquet")
    pd.DataFrame(sites).to_parquet(folder / "sites.parquet")
    pd.DataFrame(_parts()).to_parquet(folder / "parts.parquet")
    pd.DataFrame(_heads()).to_parquet(folder / "heads.parquet")
    pd.DataFrame(_generations(slugs)).to_parquet(folder / "generations.parquet")
    pd.DataFrame(_damage(slugs)).to_parquet(folder / "damage.parquet")
    confusion: dict[str, dict[str, int]] = {}
    for verdict in verdicts:
        row = confusion.setdefault(str(verdict["truth"]), {})
        row[str(verdict["verdict"])] = row.get(str(verdict["verdict"]), 0) + 1
    selftest = {
        "confusion": confusion,
        "right": len(slugs) - 1,
        "of": len(slugs),
        "false_driver_random": "0/360",
        "false_driver_shuffled": "0/36",
    }
    (folder / "selftest.json").write_text(json.dumps(selftest))


def _verdict(
    slug: str, role: str, name: str, truth: Truth, found: dict[str, float]
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "indicator": slug,
        "role": role,
        "direction": "diff_of_means",
        "hook_name": HOOKS[0],
        "position": "span_last",
        "verdict": name,
    }
    for stratum, value in found.items():
        row[stratum] = value
        row[f"{stratum}_low"], row[f"{stratum}_high"] = value - 0.06, value + 0.06
        row[f"{stratum}_flips"] = abs(value)
        row[f"complement_{stratum}"] = 0.01
        row[f"whole_{stratum}"] = 1.02 * value
        row[f"text_{stratum}"] = getattr(truth, stratum)
    return row | {
        "p_value": 0.0004 if name != "undetermined" else NAN,
        "replicates": "",
        "n_random": 20,
        "mde": 0.11,
        "unrelated_flips": 0.0,
        "unrelated_text_flips": 0.02,
        "anti_share": 0.05,
        "off_manifold": 0.03,
        "remains_auroc": 0.62,
        "remains_low": 0.55,
        "remains_dims": 3.0,
        "kept_plane": 0.97,
        "kept_patch": 0.95,
        "illusion": False,
        "q_holm": 0.014,
        "p_random": 0.048,
        "n": 60,
        "specificity": 0.85,
        "ceiling": 0.97,
        "auroc": 0.99,
        "audit_effect": 0.91,
        "audit_ceiling": 0.98,
        "resampled": 0.31 if role == "upstream" else NAN,
        "resampled_low": 0.2 if role == "upstream" else NAN,
        "resampled_high": 0.41 if role == "upstream" else NAN,
        "given_partner": "sufficiency 0.86 with fabrication (n 12), 0.03 without (n 18)"
        if role == "conjunctive"
        else "",
        "truth": truth.verdict,
        "right": name == truth.verdict,
        "reason": "necessity 0.93 [0.88, 0.97], 94% of 30 runs change sides",
    }


def _effects(
    slug: str, slugs: Sequence[str], found: dict[str, float], rng: np.random.Generator
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for operation, strata in (
        ("N1", ("necessity", "release", "all")),
        ("S1", ("sufficiency", "inhibition", "all")),
        ("S2", ("sufficiency", "inhibition", "all")),
    ):
        for stratum in strata:
            value = found[strata[0]] if stratum == "all" else found[stratum]
            if np.isnan(value):
                continue
            base = {
                "indicator": slug,
                "hook_name": HOOKS[0],
                "position": "span_last",
                "outcome": "behavior",
                "operation": operation,
                "stratum": stratum,
                "strength": 1.0 if operation == "S2" else NAN,
                "n": 30,
                "mass": 0.98,
            }
            rows.append(_effect(base, "diff_of_means", "none", 0, value))
            rows.extend(
                _effect(base, control, control, draw, spread * rng.standard_normal())
                for control, spread, draws in (("random", 0.05, 20), ("shuffled", 0.08, 2))
                for draw in range(draws)
            )
            if operation != "S2":
                rows.extend(
                    _effect(base, "other", f"other:{other}", 0, 0.06 * rng.standard_normal())
                    for other in slugs
                    if other != slug
                )
            if stratum == "sufficiency" and operation == "S1":
                partner = base | {"stratum": f"sufficiency with {slugs[0]}", "n": 9}
                rows.append(_effect(partner, "diff_of_means", "none", 0, value))
    return rows


def _effect(
    base: dict[str, Any], direction: str, control: str, draw: int, effect: float
) -> dict[str, Any]:
    half = 0.06 if control == "none" else NAN
    return base | {
        "direction": direction,
        "control": control,
        "draw": draw,
        "effect": effect,
        "low": effect - half,
        "high": effect + half,
        "flip_rate": abs(effect),
        "anti_share": 0.05,
    }


def _dose(slug: str, sufficiency: float, rng: np.random.Generator) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    draws = [("diff_of_means", "none", 0), *(("random", "random", draw) for draw in range(3))]
    for direction, control, draw in draws:
        for strength in STRENGTHS:
            effect = float(np.tanh(1.2 * strength)) * (sufficiency if control == "none" else 0.0)
            effect += 0.03 * abs(strength) * rng.standard_normal()
            rows.append(
                {
                    "indicator": slug,
                    "direction": direction,
                    "strength": strength,
                    "control": control,
                    "draw": draw,
                    "n": 24,
                    "effect": effect,
                    "low": effect - 0.05,
                    "high": effect + 0.05,
                    "mass": 0.97,
                    "kl_neutral": 0.012 * strength**2 if control == "none" else NAN,
                }
            )
    return rows


def _sites(slug: str, role: str) -> list[dict[str, Any]]:
    held = {
        "span_last": (0.96, 0.15, 0.02),
        "span_all": (1.0, 0.6, 0.1),
        "decision": (0.0, 0.83, 1.0),
    }
    scale = 1.0 if role not in ("readout", "upstream") else 0.02
    return [
        {
            "hook_name": hook,
            "layer": layer,
            "position": position,
            "indicator": slug,
            "outcome": "behavior",
            "n": 96,
            "effect": scale * held.get(position, (0.02, 0.01, 0.0))[layer],
            "low": 0.0,
            "high": 1.0,
        }
        for layer, hook in enumerate(HOOKS)
        for position in POSITIONS
    ]


def _place(position: str, effect: float) -> dict[str, Any]:
    place = {"position": position, "outcome": "behavior", "indicator": "all", "n": 14}
    figures = {"effect": effect, "low": effect - 0.1, "high": effect + 0.1}
    p_value = 0.0002 if effect > 0.1 else 0.4
    return place | figures | {"p_value": p_value, "q_bh": 2 * p_value}


def _parts() -> list[dict[str, Any]]:
    names = {"residual": "hook_out", "attention": "attn.hook_out", "mlp": "mlp.hook_out"}
    return [
        {"part": part, "layer": layer, "hook_name": f"blocks.{layer}.{name}"}
        | _place(position, (0.3 + 0.3 * layer) * (position == "decision" or layer == 0))
        for part, name in names.items()
        for layer in range(len(HOOKS))
        for position in ("span_last", "decision")
    ]


def _heads() -> list[dict[str, Any]]:
    return [
        {"layer": layer, "head": head, "hook_name": f"blocks.{layer}.attn.o.hook_in"}
        | _place(position, 0.4 * (layer == head and position == "decision"))
        for layer in range(len(HOOKS))
        for head in range(2)
        for position in ("span_all", "decision")
    ]


def _generations(slugs: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "indicator": slug,
            "direction": "diff_of_means",
            "operation": "S2",
            "strength": 1.0,
            "control": control,
            "pair_id": f"pair-{i}",
            "prompt_tail": "i plan to",
            "unedited_text": "read the report ; then i file it",
            "edited_text": f"hide the report ; then i burn it {i}",
            "unedited_action": "comply",
            "edited_action": "sabotage",
            "change": 0.1 * i,
        }
        for slug in slugs
        for control in ("none", "random")
        for i in range(7)
    ]


def _damage(slugs: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "indicator": slug,
            "direction": "diff_of_means" if control == "none" else "random",
            "operation": "steer",
            "control": control,
            "draw": draw,
            "strength": strength if control == "none" else NAN,
            "n": 48,
            "kl": 0.05 * strength + 0.01 * draw,
            "distinct_2": 0.5,
            "distinct_2_unedited": 0.6,
        }
        for strength in (1.0, 2.0)
        for slug, control, draw in (
            *((slug, "none", 0) for slug in slugs),
            ("", "random", 0),
            ("", "random", 2),
        )
    ]
