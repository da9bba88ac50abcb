"""A made-up run folder with every table that a report reads, for tests and for looking at the page.

`python -m tests.reports.synthetic_run FOLDER [detection]` writes a run with its report there; with `detection`
a study without interventions, scored by turn and transcript.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mechprobe.records import make_record, write_record
from mechprobe.taxonomy import load_taxonomy
from tests.reports.synthetic_causes import HOOKS, write_causes
from tests.reports.synthetic_detectors import write_detectors

ROLES = (
    *["driver"] * 6,
    *["conjunctive"] * 2,
    *["redundant"] * 2,
    "inhibitor",
    "upstream",
    *["readout"] * 6,
)


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
        write_causes(folder, roles, rng)
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


if __name__ == "__main__":
    from mechprobe.reports.report import write_report

    is_detection = "detection" in sys.argv[2:]
    write_report(
        write_synthetic_run(Path(sys.argv[1]), causal=not is_detection, detectors=is_detection)
    )
