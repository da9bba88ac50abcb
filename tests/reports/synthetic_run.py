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
    verdict: str
    necessity: float
    sufficiency: float


TRUTHS = {
    "driver": Truth("driver", 0.93, 0.88),
    "conjunctive": Truth("necessary_only", 0.84, 0.12),
    "redundant": Truth("sufficient_only", 0.14, 0.81),
    "inhibitor": Truth("inhibitor", -0.62, -0.78),
    "upstream": Truth("text_mediated", 0.02, 0.01),
    "readout": Truth("readout_only", 0.01, 0.02),
}
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
    words: str = "quietly hide records",
    seed: int = 0,
) -> Path:
    """Write a run folder whose verdicts are right for all indicators but one."""
    rng = np.random.default_rng(seed)
    slugs = load_taxonomy().slugs
    roles = dict(zip(slugs, np.array(ROLES)[: len(slugs)].tolist(), strict=True))
    folder.mkdir(parents=True, exist_ok=True)
    units = ("span",) if causal else ("turn", "transcript")
    _write_records(folder, causal=causal)
    _write_detection(folder, slugs, units, rng, hard=causal)
    _write_examples(folder, slugs, words, rng)
    if sae:
        _write_features(folder, slugs, words, rng)
    if causal:
        _write_causal(folder, roles, rng)
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
                        "tpr_at_1pct": max(0.0, 2 * value - 1.1),
                        "tpr_at_5pct": max(0.0, 2 * value - 1.0),
                    }
                )
                fpr = np.linspace(0, 1, 21)
                tpr = fpr ** ((1 - value) / value)
                roc.extend(
                    {"indicator": slug, "scorer": scorer, "unit": unit, "fpr": x, "tpr": y}
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
        necessity, sufficiency = (
            float(value + 0.04 * rng.standard_normal())
            for value in (truth.necessity, truth.sufficiency)
        )
        is_right = at != 7
        verdicts.append(
            {
                "indicator": slug,
                "role": role,
                "direction": "dense_diff_of_means",
                "hook_name": HOOKS[0],
                "position": "span_last",
                "verdict": truth.verdict if is_right else "undetermined",
                "necessity": necessity,
                "sufficiency": sufficiency,
                "p_value": 0.0004,
                "n": 96,
                "q_holm": 0.014,
                "p_random": 0.0099,
                "specificity": necessity - 0.02,
                "ceiling": 0.97,
                "auroc": 0.99,
                "audit_effect": 0.9,
                "truth": role,
                "right": is_right,
                "reason": "Both effects stand outside what random directions do, and the dose curve rises."
                if truth.verdict == "driver"
                else "",
            }
        )
        effects.extend(_effects(slug, slugs, necessity, sufficiency, rng))
        dose.extend(_dose(slug, sufficiency, rng))
        sites.extend(_sites(slug, role))
    pd.DataFrame(verdicts).to_parquet(folder / "verdicts.parquet")
    pd.DataFrame(effects).to_parquet(folder / "effects.parquet")
    pd.DataFrame(dose).to_parquet(folder / "dose.parquet")
    pd.DataFrame(sites).to_parquet(folder / "sites.parquet")
    confusion: dict[str, dict[str, int]] = {}
    for verdict in verdicts:
        row = confusion.setdefault(str(verdict["role"]), {})
        row[str(verdict["verdict"])] = row.get(str(verdict["verdict"]), 0) + 1
    selftest = {
        "confusion": confusion,
        "right": len(slugs) - 1,
        "of": len(slugs),
        "false_driver_random": "0/100",
        "false_driver_shuffled": "0/20",
    }
    (folder / "selftest.json").write_text(json.dumps(selftest))


def _effects(
    slug: str, slugs: Sequence[str], necessity: float, sufficiency: float, rng: np.random.Generator
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for operation, value in (("N1", necessity), ("S1", sufficiency), ("N2", 0.95 * necessity)):
        base = {
            "indicator": slug,
            "direction": "dense_diff_of_means",
            "hook_name": HOOKS[0],
            "position": "span_last",
            "outcome": "action",
            "operation": operation,
            "stratum": "all",
            "strength": 1.0 if operation == "S1" else float("nan"),
            "n": 96,
            "flip_rate": abs(value),
            "mass": 0.98,
        }

        def row(
            control: str, draw: int, effect: float, base: dict[str, Any] = base
        ) -> dict[str, Any]:
            return {
                **base,
                "control": control,
                "draw": draw,
                "effect": effect,
                "low": effect - 0.06,
                "high": effect + 0.06,
            }

        rows.append(row("none", 0, value))
        rows.extend(row("random", draw, 0.05 * rng.standard_normal()) for draw in range(20))
        rows.extend(row("shuffled", draw, 0.08 * rng.standard_normal()) for draw in range(5))
        if operation == "N1":
            rows.extend(
                row(f"other:{other}", 0, 0.06 * rng.standard_normal())
                for other in slugs
                if other != slug
            )
    return rows


def _dose(slug: str, sufficiency: float, rng: np.random.Generator) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for strength in STRENGTHS:
        for control in ("none", "random"):
            effect = float(np.tanh(1.2 * strength)) * (sufficiency if control == "none" else 0.0)
            half = 0.05 if control == "none" else 0.04 + 0.05 * abs(strength)
            rows.append(
                {
                    "indicator": slug,
                    "direction": "dense_diff_of_means",
                    "strength": strength,
                    "control": control,
                    "effect": effect + 0.01 * rng.standard_normal(),
                    "low": effect - half,
                    "high": effect + half,
                    "mass": 0.97,
                    "kl_neutral": 0.012 * strength**2,
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
            "outcome": "action",
            "n": 96,
            "effect": scale * held.get(position, (0.02, 0.01, 0.0))[layer],
            "low": 0.0,
            "high": 1.0,
        }
        for layer, hook in enumerate(HOOKS)
        for position in POSITIONS
    ]


if __name__ == "__main__":
    from mechprobe.reports.report import write_report

    write_report(write_synthetic_run(Path(sys.argv[1]), causal="detection" not in sys.argv[2:]))
