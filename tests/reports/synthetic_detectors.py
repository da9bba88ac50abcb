"""Made-up tables of what detectors are worth: AUROCs, gains, transfer, thresholds, calibration."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tests.reports.synthetic_causes import HOOKS, NAN
from tests.reports.synthetic_findings import (
    best_features,
    driver_checks,
    drivers,
    falsifiers,
    geometry,
    grains,
)

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
    pd.DataFrame(drivers()).to_parquet(folder / "drivers.parquet")
    pd.DataFrame(driver_checks()).to_parquet(folder / "driver_checks.parquet")
    pd.DataFrame(best_features(slugs)).to_parquet(folder / "best_features.parquet")
    pd.DataFrame(grains()).to_parquet(folder / "decomposition.parquet")
    pd.DataFrame(falsifiers(slugs)).to_parquet(folder / "falsifiers.parquet")
    (folder / "geometry.json").write_text(json.dumps(geometry(slugs, rng)))


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
