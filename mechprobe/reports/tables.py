"""What a run folder holds for its report, read and checked.

Detection tables must be there. The SAE tables and the causal tables may be absent, each group as a whole: half a
group means that a stage was cut off, and the error names the stage to run again.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mechprobe.errors import DataError
from mechprobe.reports.rows import column_text, distinct, rows_where

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
DECOMPOSITION = "decomposition.parquet"
GEOMETRY = "geometry.json"

STAGE_OF: Mapping[str, str] = {
    DETECTION: "evaluate",
    ROC: "evaluate",
    SCORES: "evaluate",
    EXAMPLES: "evaluate",
    DIFFERENCES: "evaluate",
    FEATURES: "evaluate",
    FEATURE_EXAMPLES: "evaluate",
    SAE_QUALITY: "sae",
    VERDICTS: "causal",
    EFFECTS: "causal",
    DOSE: "causal",
    SITES: "causal",
    SELFTEST: "causal",
    PARTS: "sites",
    HEADS: "sites",
    GENERATIONS: "steer",
    DAMAGE: "steer",
    GAINS: "evaluate",
    GENERALISATION: "generalise",
    TRANSFER: "generalise",
    FALSIFIERS: "falsify",
    THRESHOLDS: "evaluate",
    CALIBRATION: "evaluate",
    DECOMPOSITION: "evaluate",
    GEOMETRY: "evaluate",
}

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
    DECOMPOSITION: (
        *("scorer", "view", "fusion", "grain", "n_probes", "unit", "fpr_target", "tpr"),
        *("auroc", "auroc_low", "auroc_high", "minus_fine", "minus_fine_low", "minus_fine_high"),
    ),
    FALSIFIERS: (
        *("indicator", "scorer", "falsifier", "variant", "figure", "low", "high", "control"),
        *("n_pos", "reading"),
    ),
}

SAE_GROUP = (FEATURES, FEATURE_EXAMPLES, SAE_QUALITY)
CAUSAL_GROUP = (VERDICTS, EFFECTS, DOSE, SITES)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SaeTables:
    """What the SAE's features show."""

    features: pd.DataFrame
    examples: Mapping[str, Sequence[Mapping[str, Any]]]
    """Feature number, as text -> its strongest examples."""
    quality: pd.DataFrame


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CausalTables:
    """What the interventions show."""

    verdicts: pd.DataFrame
    effects: pd.DataFrame
    dose: pd.DataFrame
    sites: pd.DataFrame
    selftest: Mapping[str, Any] | None
    parts: pd.DataFrame | None
    heads: pd.DataFrame | None
    generations: pd.DataFrame | None
    damage: pd.DataFrame | None
    rates: pd.DataFrame | None
    equal_damage: pd.DataFrame | None
    remains: pd.DataFrame | None
    untrained_models: pd.DataFrame | None
    untrained_saes: pd.DataFrame | None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DetectorTables:
    """What is known of detectors beyond their AUROC; each is None where the run did not make it."""

    gains: pd.DataFrame | None
    """Paired differences of every scorer to every text baseline."""
    generalisation: pd.DataFrame | None
    """Trained on one domain, tested on another."""
    transfer: pd.DataFrame | None
    """Means over that matrix, beside the text baselines."""
    falsifiers: pd.DataFrame | None
    """What is left of a scorer when its words are injected, reworded or masked."""
    thresholds: pd.DataFrame | None
    """What scorers find at thresholds tuned on neutral text."""
    calibration: pd.DataFrame | None
    """How far calibrated scores are from what happens."""
    decomposition: pd.DataFrame | None
    """Many fine probes against a few coarse ones and one."""
    geometry: Mapping[str, Mapping[str, Any]] | None
    """Set of probes -> space -> cosines and what they come to."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RunTables:
    """All tables of a run that its report shows."""

    folder: Path
    detection: pd.DataFrame
    roc: pd.DataFrame
    examples: Sequence[Mapping[str, Any]]
    differences: pd.DataFrame | None
    """Paired differences of AUROC between a scorer and a baseline, where the run made them."""
    negative_kinds: Mapping[str, frozenset[str]]
    """Unit -> kinds of its negatives ("hard_negative", "other"); empty where scores were not kept."""
    detectors: DetectorTables
    sae: SaeTables | None
    causal: CausalTables | None


def read_tables(folder: Path) -> RunTables:
    """Read a run folder.

    Raises:
        DataError: the folder or a needed table is missing, empty or malformed; it names the stage to run.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; give the folder of a run, such as runs/organism.")
    detection = read_table(folder, DETECTION)
    if detection.empty:
        raise DataError(f"{folder / DETECTION} has no rows; run `mechprobe evaluate` again.")
    has_sae = _has_group(folder, SAE_GROUP)
    has_causal = _has_group(folder, CAUSAL_GROUP)
    return RunTables(
        folder=folder,
        detection=detection,
        roc=read_table(folder, ROC),
        examples=read_json(folder, EXAMPLES, list),
        differences=read_if_there(folder, DIFFERENCES),
        negative_kinds=_negative_kinds(folder),
        detectors=_read_detectors(folder),
        sae=_read_sae(folder) if has_sae else None,
        causal=_read_causal(folder) if has_causal else None,
    )


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
            f"{path} is not a readable Parquet table ({error}); delete it and run "
            f"`mechprobe {STAGE_OF[name]}` again."
        ) from error
    if not len(table.columns) and name == SITES:
        # A study that names its site runs no sweep and leaves an empty table.
        return pd.DataFrame(columns=list(COLUMNS_OF[name]))
    lacking = [column for column in COLUMNS_OF.get(name, ()) if column not in table.columns]
    if lacking:
        raise DataError(
            f"{path} lacks the columns {', '.join(lacking)} (it has {', '.join(map(str, table.columns))}); "
            f"run `mechprobe {STAGE_OF[name]}` again."
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
    again = f"delete it and run `mechprobe {STAGE_OF[name]}` again."
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
        raise DataError(f"{path} is missing; `mechprobe {STAGE_OF[path.name]}` writes it.")


def _has_group(folder: Path, group: tuple[str, ...]) -> bool:
    present = [name for name in group if (folder / name).is_file()]
    absent = [name for name in group if name not in present]
    if present and absent:
        raise DataError(
            f"{folder / absent[0]} is missing although {present[0]} is there; "
            f"`mechprobe {STAGE_OF[absent[0]]}` writes it."
        )
    return bool(present)


def _read_sae(folder: Path) -> SaeTables:
    return SaeTables(
        features=read_table(folder, FEATURES),
        examples=read_json(folder, FEATURE_EXAMPLES, dict),
        quality=read_table(folder, SAE_QUALITY),
    )


def _read_detectors(folder: Path) -> DetectorTables:
    has_geometry = (folder / GEOMETRY).is_file()
    return DetectorTables(
        gains=read_if_there(folder, GAINS),
        generalisation=read_if_there(folder, GENERALISATION),
        transfer=read_if_there(folder, TRANSFER),
        falsifiers=read_if_there(folder, FALSIFIERS),
        thresholds=read_if_there(folder, THRESHOLDS),
        calibration=read_if_there(folder, CALIBRATION),
        decomposition=read_if_there(folder, DECOMPOSITION),
        geometry=read_json(folder, GEOMETRY, dict) if has_geometry else None,
    )


def _read_causal(folder: Path) -> CausalTables:
    has_selftest = (folder / SELFTEST).is_file()
    return CausalTables(
        verdicts=read_table(folder, VERDICTS),
        effects=read_table(folder, EFFECTS),
        dose=read_table(folder, DOSE),
        sites=read_table(folder, SITES),
        selftest=read_json(folder, SELFTEST, dict) if has_selftest else None,
        parts=read_if_there(folder, PARTS),
        heads=read_if_there(folder, HEADS),
        generations=read_if_there(folder, GENERATIONS),
        damage=read_if_there(folder, DAMAGE),
        rates=read_if_there(folder, RATES),
        equal_damage=read_if_there(folder, EQUAL_DAMAGE),
        remains=read_if_there(folder, REMAINS),
        untrained_models=read_if_there(folder, UNTRAINED_MODELS),
        untrained_saes=read_if_there(folder, UNTRAINED_SAES),
    )


def _negative_kinds(folder: Path) -> dict[str, frozenset[str]]:
    path = folder / SCORES
    if not path.is_file():
        return {}
    scores = pd.read_parquet(path, columns=["unit", "is_positive", "kind"])
    negatives = rows_where(scores, is_positive=False).drop_duplicates()
    return {
        unit: frozenset(column_text(rows_where(negatives, unit=unit), "kind"))
        for unit in distinct(negatives, "unit")
    }
