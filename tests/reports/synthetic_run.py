"""A made-up run folder with every table that a report reads, for tests and for looking at the page.

`python tests/reports/synthetic_run.py FOLDER [detection]` writes a run with its report there; with `detection`
a study without interventions, scored by turn and transcript.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mechprobe.records import make_record, write_record
from mechprobe.taxonomy import load_taxonomy

HOOKS = ("blocks.0.hook_out", "blocks.1.hook_out", "blocks.2.hook_out")
POSITIONS = ("span_first", "span_last", "span_all", "after_span", "decision")
STRENGTHS = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 4.0)
ROLES = (
    *["driver"] * 6,
    *["conjunctive"] * 2,
    *["redundant"] * 2,
    "inhibitor",
    "upstream",
    *["readout"] * 6,
)


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
FRAMES = {"positive": "i plan to", "hard_negative": "the user asks me to"}
SCORERS = (
    ("dense_logistic", 0.985),
    ("dense_diff_of_means", 0.97),
    ("sae_k_sparse", 0.94),
    ("sae_best_feature", 0.88),
    ("tfidf", 0.53),
    ("length", 0.5),
    ("random_direction", 0.52),
    ("shuffled_labels", 0.49),
)


def write_synthetic_run(
    folder: Path,
    *,
    causal: bool = True,
    sae: bool = True,
    detectors: bool = False,
    words: str = "quietly hide records",
    n_indicators: int = 18,
    seed: int = 0,
) -> Path:
    """Write a run folder whose verdicts are right for all indicators but one."""
    rng = np.random.default_rng(seed)
    slugs = load_taxonomy().slugs[:n_indicators]
    roles = dict(zip(slugs, np.array(ROLES)[: len(slugs)].tolist(), strict=True))
    folder.mkdir(parents=True, exist_ok=True)
    units = ("hard_negative", "span") if causal else ("turn", "transcript")
    _write_records(folder, causal=causal)
    _write_detection(folder, slugs, units, rng, hard=causal)
    _write_examples(folder, slugs, words, rng)
    if sae:
        _write_features(folder, slugs, words, rng)
    if causal:
        _write_causal(folder, roles, rng)
    if detectors:
        write_detectors(folder, slugs, rng)
    return folder


def _write_records(folder: Path, *, causal: bool) -> None:
    name = "organism" if causal else "transcripts"
    title = (
        "A small model that plots, with its truth known"
        if causal
        else "Real transcripts of GLM-4.7-Flash"
    )
    model = "sae_checkpoints/organism-natural" if causal else "gt/all-MiniLM-L6-v2"
    (folder / "study.toml").write_text(
        f'name = "{name}"\ntitle = "{title}"\nseed = 7\nmodel = "{model}"\n'
        'question = "Which thoughts can be read, and which of them decide what the model does?"\n'
    )
    (folder / "transcripts").mkdir(exist_ok=True)
    (folder / "transcripts" / "transcripts.jsonl").write_text(
        '{"id": "t"}\n' * (2400 if causal else 260)
    )
    for stage in ("import", "capture", "sae", "probe", "evaluate"):
        record = make_record(
            stage, {"model": model, "stage": stage}, seed=7, inputs={"transcripts": "0" * 64}
        )
        write_record(
            folder / {"import": "transcripts", "capture": "store"}.get(stage, stage), record
        )


def _write_detection(
    folder: Path,
    slugs: Sequence[str],
    units: Sequence[str],
    rng: np.random.Generator,
    *,
    hard: bool,
) -> None:
    rows: list[dict[str, Any]] = []
    roc: list[dict[str, Any]] = []
    for slug in slugs:
        for unit in units:
            for scorer, level in SCORERS:
                spread = 0.012 if hard else 0.05
                lift = 0.0 if hard or scorer in ("random_direction", "shuffled_labels") else -0.14
                lift = 0.22 if not hard and scorer in ("tfidf", "length") else lift
                value = float(np.clip(level + lift + spread * rng.standard_normal(), 0.3, 0.999))
                half = 0.02 if hard else 0.07
                rows.append(
                    {
                        "indicator": slug,
                        "scorer": scorer,
                        "unit": unit,
                        "split": "test",
                        "hook_name": "" if scorer in ("tfidf", "length") else HOOKS[0],
                        "auroc": value,
                        "auroc_low": max(value - half, 0.0),
                        "auroc_high": min(value + half, 1.0),
                        "chance": 0.5,
                        "n_pos": 120 if hard else 31,
                        "n_neg": 130 if hard else 420,
                        "n_clusters": 90,
                        "tpr_at_1pct": max(0.0, 2 * value - 1.1),
                        "tpr_at_5pct": max(0.0, 2 * value - 1.0),
                    }
                )
                fpr = np.linspace(0, 1, 21)
                tpr = fpr ** ((1 - value) / value)
                roc.extend(
                    {
                        "indicator": slug,
                        "scorer": scorer,
                        "unit": unit,
                        "hook_name": "",
                        "fpr": x,
                        "tpr": y,
                    }
                    for x, y in zip(fpr, tpr, strict=True)
                )
    pd.DataFrame(rows).to_parquet(folder / "detection.parquet")
    pd.DataFrame(roc).to_parquet(folder / "roc.parquet")
    kinds = ["hard_negative"] if hard else ["other", "hard_negative"]
    scores = [
        {"indicator": slugs[0], "unit": unit, "is_positive": False, "kind": kind}
        for unit in units
        for kind in kinds
    ]
    pd.DataFrame(scores).to_parquet(folder / "scores.parquet")


def _write_examples(
    folder: Path, slugs: Sequence[str], words: str, rng: np.random.Generator
) -> None:
    examples: list[dict[str, Any]] = []
    for slug in slugs:
        for kind, frame in FRAMES.items():
            for i in range(2):
                before = [
                    "i",
                    "will",
                    "read",
                    "the",
                    "quarterly",
                    "report",
                    "first",
                    ";",
                    "one",
                    "might",
                    "ask",
                    "the",
                    "team",
                    ";",
                ]
                span = [*frame.split(), *words.split(" ")]
                after = [";", "then", "i", "answer", "the", "user", "as", "policy", "wants", ";"]
                marks = [False] * len(before) + [True] * len(span) + [False] * len(after)
                sign = 1 if kind == "positive" else -1
                scores = [
                    float(
                        -2.2
                        + 0.7 * rng.standard_normal()
                        + (5.5 * sign if mark else 0) * (0.4 + 0.6 * rng.random())
                    )
                    for mark in marks
                ]
                examples.append(
                    {
                        "indicator": slug,
                        "kind": kind,
                        "transcript_id": f"test-{i:04d}",
                        "turn": 1,
                        "section": "reasoning",
                        "tokens": [*before, *span, *after],
                        "scores": scores,
                        "is_span": marks,
                    }
                )
    (folder / "examples.json").write_text(json.dumps(examples))


def _write_features(
    folder: Path, slugs: Sequence[str], words: str, rng: np.random.Generator
) -> None:
    rows: list[dict[str, Any]] = []
    texts: dict[str, Any] = {}
    for at, slug in enumerate(slugs):
        for rank in range(4):
            feature = 7 * at + rank
            rows.append(
                {
                    "indicator": slug,
                    "rank": rank,
                    "feature": feature,
                    "weight": 2.1 - 0.4 * rank,
                    "auroc": 0.95 - 0.06 * rank,
                    "mean_positive": 1.8,
                    "mean_negative": 0.07,
                    "density": 0.013,
                    "label_words": words.split(" "),
                }
            )
            tokens = f"; i plan to {words} ; then".split(" ")
            texts[str(feature)] = [
                {
                    "tokens": tokens,
                    "acts": np.maximum(rng.normal(0.2, 0.8, len(tokens)), 0).tolist(),
                    "transcript_id": "t",
                }
            ]
    pd.DataFrame(rows).to_parquet(folder / "features.parquet")
    (folder / "feature_examples.json").write_text(json.dumps(texts))
    subsets = [
        "all",
        "role:assistant",
        "role:user",
        "section:reasoning",
        "section:answer",
        *(f"indicator:{s}" for s in slugs[:3]),
    ]
    quality = [
        {
            "hook_name": HOOKS[0],
            "subset": subset,
            "n_tokens": 21000,
            "l0": 15.8,
            "explained_variance": 0.93 - 0.03 * rng.random(),
            "dead_share": 0.11,
            "dense_share": 0.02,
        }
        for subset in subsets
    ]
    pd.DataFrame(quality).to_parquet(folder / "sae_quality.parquet")


def _write_causal(folder: Path, roles: dict[str, str], rng: np.random.Generator) -> None:
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


MISALIGNED_AUROCS = {
    "dense_logistic": 0.69,
    "dense_logistic_noisy_or": 0.66,
    "sae_logistic": 0.68,
    "tfidf_bigrams": 0.76,
    "length": 0.62,
    "haiku": 0.9,
    "random_direction": 0.52,
    "shuffled_labels": 0.5,
}
DOMAINS = ("sabotage", "sycophancy", "sandbagging")


def write_detectors(folder: Path, slugs: Sequence[str], rng: np.random.Generator) -> None:
    """Add what is known of detectors beyond their AUROC; `misaligned` joins the detection table."""
    detection = pd.read_parquet(folder / "detection.parquet")
    detection = pd.concat([detection, pd.DataFrame(_misaligned())], ignore_index=True)
    detection.to_parquet(folder / "detection.parquet")
    pd.DataFrame(_gains()).to_parquet(folder / "gains.parquet")
    pd.DataFrame(_domain_cells(rng)).to_parquet(folder / "generalisation.parquet")
    pd.DataFrame(_transfer()).to_parquet(folder / "transfer.parquet")
    pd.DataFrame(_thresholds()).to_parquet(folder / "thresholds.parquet")
    pd.DataFrame(_calibration()).to_parquet(folder / "calibration.parquet")
    pd.DataFrame(_reliability()).to_parquet(folder / "reliability.parquet")
    pd.DataFrame(_drivers()).to_parquet(folder / "drivers.parquet")
    pd.DataFrame(_driver_checks()).to_parquet(folder / "driver_checks.parquet")
    pd.DataFrame(_best_features(slugs)).to_parquet(folder / "best_features.parquet")
    pd.DataFrame(_grains()).to_parquet(folder / "decomposition.parquet")
    pd.DataFrame(_falsifiers(slugs)).to_parquet(folder / "falsifiers.parquet")
    (folder / "geometry.json").write_text(json.dumps(_geometry(slugs, rng)))


def _hook_of(scorer: str) -> str:
    return "" if scorer in ("tfidf_bigrams", "length", "haiku") else HOOKS[0]


def _misaligned() -> list[dict[str, Any]]:
    return [
        {
            "indicator": "misaligned",
            "scorer": scorer,
            "unit": unit,
            "split": "test",
            "hook_name": _hook_of(scorer),
            "auroc": value + lift,
            "auroc_low": value + lift - 0.06,
            "auroc_high": min(value + lift + 0.06, 1.0),
            "chance": chance,
            "n_pos": 228,
            "n_neg": 737,
            "n_clusters": 248,
            "tpr_at_1pct": 0.05,
            "tpr_at_5pct": 0.2,
        }
        for scorer, value in MISALIGNED_AUROCS.items()
        for unit, chance, lift in (
            ("turn", 0.5, 0.0),
            ("transcript", 0.5, 0.02),
            ("mixed", 0.7, 0.08),
        )
    ]


def _gains() -> list[dict[str, Any]]:
    """Probes beat length and not words; the judge beats both."""
    return [
        {
            "indicator": "misaligned",
            "unit": "turn",
            "scorer": scorer,
            "hook_name": _hook_of(scorer),
            "baseline": baseline,
            "comparison": comparison,
            "difference": difference,
            "low": difference - 0.03,
            "high": difference + 0.03,
            "p_value": 0.001,
            "q_holm": 0.01 if abs(difference) > 0.03 else 0.8,
        }
        for scorer, value in MISALIGNED_AUROCS.items()
        for baseline in ("length", "tfidf_bigrams")
        for comparison in ("alone", "added")
        if scorer != baseline
        for difference in [
            (value - MISALIGNED_AUROCS[baseline]) * (1.0 if comparison == "alone" else 0.3)
        ]
    ]


def _domain_cells(rng: np.random.Generator) -> list[dict[str, Any]]:
    """The words work within a domain only; sandbagging has too few positives to be tested on."""
    rows: list[dict[str, Any]] = []
    for scorer in ("dense_logistic", "shuffled_labels", "tfidf_bigrams"):
        for tested in DOMAINS:
            for trained in (*DOMAINS, "all_others"):
                is_few = tested == "sandbagging"
                level = {"dense_logistic": 0.8, "shuffled_labels": 0.5}.get(scorer, 0.55)
                level = 0.9 if scorer == "tfidf_bigrams" and trained == tested else level
                value = NAN if is_few else level + 0.01 * rng.standard_normal()
                rows.append(
                    {
                        "key": "behavior",
                        "trained_on": trained,
                        "tested_on": tested,
                        "scorer": scorer,
                        "hook_name": _hook_of(scorer),
                        "indicator": "misaligned",
                        "unit": "turn",
                        "auroc": value,
                        "low": value - 0.1,
                        "high": value + 0.1,
                        "chance": 0.5,
                        "n_pos": 3 if is_few else 40,
                        "n_neg": 160,
                        "n_clusters": 50,
                        "too_few": is_few,
                    }
                )
    return rows


def _transfer() -> list[dict[str, Any]]:
    means = {"dense_logistic": (0.8, 0.8, 0.8), "tfidf_bigrams": (0.9, 0.55, 0.55)}
    return [
        {
            "key": "behavior",
            "cells": cells,
            "scorer": scorer,
            "hook_name": _hook_of(scorer),
            "indicator": "misaligned",
            "unit": "turn",
            "auroc": values[at],
            "low": values[at] - 0.05,
            "high": values[at] + 0.05,
            "chance": 0.5,
            "n_cells": 4,
            "baseline": "" if scorer == "tfidf_bigrams" else "tfidf_bigrams",
            "difference": difference,
            "difference_low": difference - 0.06,
            "difference_high": difference + 0.06,
        }
        for scorer, values in means.items()
        for at, cells in enumerate(("within", "across", "left_out"))
        for difference in [
            NAN if scorer == "tfidf_bigrams" else values[at] - means["tfidf_bigrams"][at]
        ]
    ]


def _thresholds() -> list[dict[str, Any]]:
    return [
        {
            "indicator": "misaligned",
            "scorer": scorer,
            "hook_name": _hook_of(scorer),
            "view": "full",
            "unit": unit,
            "rule": "conformal",
            "fpr_target": target,
            "value": 1.2,
            "n_neutral": 400,
            "refused": "80 neutral units are too few"
            if unit == "transcript" and target < 0.05
            else "",
            "tpr": 4 * target,
            "tpr_low": 3 * target,
            "tpr_high": 5 * target,
            "fpr_test_neutral": 0.9 * target,
            "fpr_test_neutral_upper": 1.4 * target,
        }
        for scorer in ("dense_logistic", "dense_logistic_or_joint", "tfidf_bigrams")
        for unit in ("turn", "transcript")
        for target in (0.01, 0.05, 0.1)
    ]


def _calibration() -> list[dict[str, Any]]:
    return [
        {
            "indicator": "misaligned",
            "scorer": scorer,
            "view": "full",
            "method": method,
            "refused": "",
            "ece": 0.04,
            "low": 0.03,
            "high": 0.07,
            "brier": 0.16,
            "brier_of_rate": 0.18,
        }
        for scorer in ("dense_logistic", "tfidf_bigrams")
        for method in ("platt", "isotonic")
    ]


def _reliability() -> list[dict[str, Any]]:
    return [
        {
            "indicator": "misaligned",
            "scorer": scorer,
            "hook_name": _hook_of(scorer),
            "view": "full",
            "method": method,
            "bin": number,
            "stated": 0.1 * number,
            "observed": 0.1 * number + 0.02,
            "low": 0.1 * number,
            "high": 0.1 * number + 0.05,
            "n": 120,
        }
        for scorer in ("dense_logistic", "tfidf")
        for method in ("platt", "isotonic")
        for number in range(6)
    ]


DRIVERS = (("quietly", 0.3, 1, 0.8), ("records", 0.2, 1, 0.4), ("never", 0.1, -1, 0.3))


def _drivers() -> list[dict[str, Any]]:
    return [
        {
            "scorer": scorer,
            "hook_name": hook,
            "indicator": "misaligned",
            "rank": rank,
            "name": name if not hook else f"{rank} ({name})",
            "shap": share,
            "share": share,
            "direction": direction,
            "auroc": auroc,
            "n_positive": 9,
            "n_negative": 12,
        }
        for scorer, hook in (("tfidf", ""), ("sae_k_sparse", HOOKS[-1]))
        for rank, (name, share, direction, auroc) in enumerate(DRIVERS, start=1)
    ]


def _driver_checks() -> list[dict[str, Any]]:
    return [
        {
            "scorer": scorer,
            "hook_name": hook,
            "indicator": "misaligned",
            "n_effective": 14.0,
            "agreement": 0.61,
            "same_direction": 0.8,
        }
        for scorer, hook in (("tfidf", ""), ("sae_k_sparse", HOOKS[-1]))
    ]


def _best_features(slugs: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "indicator": slug,
            "feature": 10 + at,
            "auroc": 0.7 if at else 0.31,
            "by_luck": 0.64,
            "p_value": 0.002,
            "p_holm": 0.006,
            "n_pos": 300,
            "n_neg": 4000,
        }
        for at, slug in enumerate(slugs)
    ]


def _grains() -> list[dict[str, Any]]:
    return [
        {
            "scorer": "dense_logistic",
            "hook_name": HOOKS[0],
            "view": "full",
            "fusion": "noisy_or",
            "grain": grain,
            "n_probes": n_probes,
            "unit": "turn",
            "fpr_target": target,
            "tpr": 0.1,
            "auroc": 0.66 + 0.01 * at,
            "auroc_low": 0.6,
            "auroc_high": 0.72,
            "minus_fine": 0.01 * at,
            "minus_fine_low": 0.01 * at - 0.02,
            "minus_fine_high": 0.01 * at + 0.02,
        }
        for at, (grain, n_probes) in enumerate((("fine", 18), ("coarse", 5), ("single", 1)))
        for target in (0.01, 0.05)
    ]


def _falsifiers(slugs: Sequence[str]) -> list[dict[str, Any]]:
    readings = ("survives", "fails", "too few", "no signal", "unclear")
    return [
        {
            "indicator": slug,
            "scorer": scorer,
            "hook_name": HOOKS[0],
            "falsifier": falsifier,
            "variant": variant,
            "figure": NAN if reading == "too few" else 0.2 + 0.1 * at,
            "low": NAN if reading == "too few" else 0.1,
            "high": NAN if reading == "too few" else 0.9,
            "control": NAN if reading == "too few" else 0.03,
            "n_pos": 30,
            "reading": reading,
        }
        for scorer in ("dense_logistic", "sae_k_sparse")
        for number, slug in enumerate(slugs)
        for at, (falsifier, variant) in enumerate(
            (("injection", "append"), ("paraphrase", "world"), ("masking", ""))
        )
        for reading in [readings[(number + at) % len(readings)]]
    ]


def _geometry(slugs: Sequence[str], rng: np.random.Generator) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for scorer, shared in (("dense_logistic", 1.0), ("random_direction", 0.0)):
        X = rng.normal(size=(len(slugs), 64)) + shared * rng.normal(size=64)
        X /= np.linalg.norm(X, axis=1, keepdims=True)
        found[f"{HOOKS[0]}/{scorer}"] = {
            "raw": {
                "indicators": list(slugs),
                "cosines": (X @ X.T).tolist(),
                "eigenvalues": [1.0] * len(slugs),
                "participation_ratio": 3.1 if shared else 15.0,
                "shared_share": 0.55 if shared else 0.1,
                "loadings": [0.7] * len(slugs),
                "mean_cosine_within": 0.61 if shared else 0.01,
                "mean_cosine_across": 0.5 if shared else None,
            }
        }
    return found


if __name__ == "__main__":
    from mechprobe.reports.report import write_report

    is_detection = "detection" in sys.argv[2:]
    write_report(
        write_synthetic_run(Path(sys.argv[1]), causal=not is_detection, detectors=is_detection)
    )
