"""The files of a run that a report reads: what they are called, who writes them, which columns they need."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from mechprobe.errors import DataError

DETECTION = "detection.parquet"
ROC = "roc.parquet"
SCORES = "scores.parquet"
EXAMPLES = "examples.json"
DIFFERENCES = "differences.parquet"
FEATURES = "features.parquet"
FEATURE_EXAMPLES = "feature_examples.json"
SAE_QUALITY = "sae_quality.parquet"
VERDICTS = "verdicts.parquet"
EFFECTS = "effects.parquet"
DOSE = "dose.parquet"
SITES = "sites.parquet"
SELFTEST = "selftest.json"
PARTS = "parts.parquet"
HEADS = "heads.parquet"
GENERATIONS = "generations.parquet"
DAMAGE = "damage.parquet"
RATES = "rates.parquet"
EQUAL_DAMAGE = "equal_damage.parquet"
REMAINS = "remains.parquet"
UNTRAINED_MODELS = "untrained_models.parquet"
UNTRAINED_SAES = "untrained_saes.parquet"
GAINS = "gains.parquet"
GENERALISATION = "generalisation.parquet"
TRANSFER = "transfer.parquet"
FALSIFIERS = "falsifiers.parquet"
THRESHOLDS = "thresholds.parquet"
CALIBRATION = "calibration.parquet"
RELIABILITY = "reliability.parquet"
DRIVERS = "drivers.parquet"
DRIVER_CHECKS = "driver_checks.parquet"
BEST_FEATURES = "best_features.parquet"
DECOMPOSITION = "decomposition.parquet"
GEOMETRY = "geometry.json"

STAGE_OF: Mapping[str, str] = {
    DETECTION: "probe",
    ROC: "probe",
    SCORES: "probe",
    DIFFERENCES: "probe",
    GAINS: "probe",
    THRESHOLDS: "probe",
    CALIBRATION: "probe",
    RELIABILITY: "probe",
    DECOMPOSITION: "probe",
    GEOMETRY: "probe",
    EXAMPLES: "evaluate",
    FEATURES: "evaluate",
    FEATURE_EXAMPLES: "evaluate",
    DRIVERS: "explain",
    DRIVER_CHECKS: "explain",
    BEST_FEATURES: "explain",
    SAE_QUALITY: "sae",
    VERDICTS: "causal",
    EFFECTS: "causal",
    DOSE: "causal",
    REMAINS: "causal",
    SELFTEST: "causal",
    SITES: "sites",
    PARTS: "sites",
    HEADS: "sites",
    GENERATIONS: "steer",
    DAMAGE: "steer",
    RATES: "steer",
    EQUAL_DAMAGE: "steer",
    UNTRAINED_MODELS: "untrained",
    UNTRAINED_SAES: "untrained",
    GENERALISATION: "generalise",
    TRANSFER: "generalise",
    FALSIFIERS: "falsify",
}
"""File -> the stage of a study that writes it."""

COLUMNS_OF: Mapping[str, tuple[str, ...]] = {
    DETECTION: (
        *("indicator", "scorer", "unit", "split", "auroc", "auroc_low", "auroc_high"),
        *("chance", "n_pos", "n_neg"),
    ),
    ROC: ("indicator", "scorer", "unit", "fpr", "tpr"),
    DIFFERENCES: ("indicator", "scorer", "baseline", "unit", "difference", "low", "high"),
    FEATURES: ("indicator", "rank", "feature"),
    SAE_QUALITY: ("hook_name", "subset", "n_tokens", "l0", "explained_variance"),
    VERDICTS: (
        *("indicator", "role", "direction", "hook_name", "verdict"),
        *("necessity", "sufficiency", "p_value", "n"),
    ),
    EFFECTS: ("indicator", "direction", "operation", "control", "effect", "low", "high", "n"),
    DOSE: ("indicator", "direction", "strength", "control", "effect", "low", "high"),
    SITES: ("hook_name", "position", "indicator", "effect"),
    PARTS: ("part", "layer", "position", "outcome", "indicator", "effect"),
    HEADS: ("layer", "head", "position", "outcome", "indicator", "effect"),
    GENERATIONS: (
        *("indicator", "direction", "operation", "strength", "control", "pair_id", "prompt_tail"),
        *("unedited_text", "edited_text", "unedited_action", "edited_action", "change"),
    ),
    DAMAGE: ("indicator", "direction", "strength", "control", "n"),
    GAINS: (
        *("indicator", "unit", "scorer", "baseline", "comparison", "difference", "low", "high"),
        "q_holm",
    ),
    GENERALISATION: (
        *("key", "trained_on", "tested_on", "scorer", "indicator", "unit"),
        *("auroc", "low", "high", "chance", "n_pos", "n_neg", "too_few"),
    ),
    TRANSFER: (
        *("key", "cells", "scorer", "indicator", "unit", "auroc", "low", "high", "chance"),
        *("n_cells", "baseline", "difference", "difference_low", "difference_high"),
    ),
    THRESHOLDS: (
        *("indicator", "scorer", "view", "unit", "rule", "fpr_target", "n_neutral", "refused"),
        *("tpr", "tpr_low", "tpr_high", "fpr_test_neutral", "fpr_test_neutral_upper"),
    ),
    CALIBRATION: (
        *("indicator", "scorer", "view", "method", "refused", "ece", "low", "high"),
        *("brier", "brier_of_rate"),
    ),
    RELIABILITY: (
        *("indicator", "scorer", "view", "method", "bin", "stated", "observed", "low", "high", "n"),
    ),
    DRIVERS: (
        *("scorer", "hook_name", "indicator", "rank", "name", "share", "direction", "auroc"),
        *("n_positive", "n_negative"),
    ),
    DRIVER_CHECKS: ("scorer", "indicator", "n_effective", "agreement", "same_direction"),
    BEST_FEATURES: ("indicator", "feature", "auroc", "by_luck", "p_value", "p_holm", "n_pos"),
    DECOMPOSITION: (
        *("scorer", "view", "fusion", "grain", "n_probes", "unit", "fpr_target", "tpr"),
        *("auroc", "auroc_low", "auroc_high", "minus_fine", "minus_fine_low", "minus_fine_high"),
    ),
    FALSIFIERS: (
        *("indicator", "scorer", "falsifier", "variant", "figure", "low", "high", "control"),
        *("n_pos", "reading"),
    ),
}


def run_again(name: str) -> str:
    """What to do about a file that is missing or broken; a study writes anew whatever is not as it left it."""
    return f"run its study again (`mechprobe study`; the stage {STAGE_OF[name]!r} writes it)."


def read_table(folder: Path, name: str) -> pd.DataFrame:
    """Read one Parquet table and check its columns.

    Raises:
        DataError: it is missing, not Parquet, or lacks a column.
    """
    path = folder / name
    _must_exist(path)
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} is not a readable Parquet table ({error}); {run_again(name)}"
        ) from error
    if not len(table.columns) and name == SITES:
        # A study that names its site runs no sweep and leaves an empty table.
        return pd.DataFrame(columns=list(COLUMNS_OF[name]))
    lacking = [column for column in COLUMNS_OF.get(name, ()) if column not in table.columns]
    if lacking:
        raise DataError(
            f"{path} lacks the columns {', '.join(lacking)} (it has {', '.join(map(str, table.columns))}); "
            f"{run_again(name)}"
        )
    return table


def read_if_there(folder: Path, name: str) -> pd.DataFrame | None:
    """Read a table that a run may go without; None where it has none.

    Raises:
        DataError: it is there and malformed.
    """
    return read_table(folder, name) if (folder / name).is_file() else None


def read_json(folder: Path, name: str, kind: type) -> Any:
    """Read one JSON file whose top level is a `kind`.

    Raises:
        DataError: it is missing, not JSON, or of another shape.
    """
    path = folder / name
    _must_exist(path)
    again = run_again(name)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}); {again}") from error
    if not isinstance(value, kind):
        raise DataError(
            f"{path} holds a {type(value).__name__}, a {kind.__name__} was wanted; {again}"
        )
    return value


def _must_exist(path: Path) -> None:
    if not path.is_file():
        raise DataError(f"{path} is missing; {run_again(path.name)}")
