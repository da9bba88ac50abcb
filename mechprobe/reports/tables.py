"""What a run folder holds for its report, read and checked.

Detection tables must be there. The SAE tables and the causal tables may be absent, each group as a whole: half a
group means that a stage was cut off, and the error names the stage to run again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mechprobe.errors import DataError
from mechprobe.reports.rows import column_text, distinct, rows_where
from mechprobe.reports.run_files import (
    BEST_FEATURES,
    CALIBRATION,
    DAMAGE,
    DECOMPOSITION,
    DETECTION,
    DIFFERENCES,
    DOSE,
    DRIVER_CHECKS,
    DRIVERS,
    EFFECTS,
    EQUAL_DAMAGE,
    EXAMPLES,
    FALSIFIERS,
    FEATURE_EXAMPLES,
    FEATURES,
    GAINS,
    GENERALISATION,
    GENERATIONS,
    GEOMETRY,
    HEADS,
    PARTS,
    RATES,
    RELIABILITY,
    REMAINS,
    ROC,
    SAE_QUALITY,
    SCORES,
    SELFTEST,
    SITES,
    THRESHOLDS,
    TRANSFER,
    UNTRAINED_MODELS,
    UNTRAINED_SAES,
    VERDICTS,
    read_if_there,
    read_json,
    read_table,
    run_again,
)

SAE_GROUP = (FEATURES, FEATURE_EXAMPLES, SAE_QUALITY)
CAUSAL_GROUP = (VERDICTS, EFFECTS, DOSE, SITES)
FURTHER_CAUSAL = (
    *(PARTS, HEADS, GENERATIONS, DAMAGE, RATES, EQUAL_DAMAGE, REMAINS),
    *(UNTRAINED_MODELS, UNTRAINED_SAES),
)
DETECTOR_TABLES = (
    *(GAINS, GENERALISATION, TRANSFER, FALSIFIERS),
    *(THRESHOLDS, CALIBRATION, RELIABILITY, DECOMPOSITION),
    *(DRIVERS, DRIVER_CHECKS, BEST_FEATURES),
)


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
    reliability: pd.DataFrame | None
    """The same bin by bin."""
    drivers: pd.DataFrame | None
    """The words and features that move scores."""
    driver_checks: pd.DataFrame | None
    """Whether these tell by themselves what they are used for."""
    best_features: pd.DataFrame | None
    """The best single features, beside what luck finds."""
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
        raise DataError(f"{folder / DETECTION} has no rows; {run_again(DETECTION)}")
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


def _has_group(folder: Path, group: tuple[str, ...]) -> bool:
    present = [name for name in group if (folder / name).is_file()]
    absent = [name for name in group if name not in present]
    if present and absent:
        raise DataError(
            f"{folder / absent[0]} is missing although {present[0]} is there; {run_again(absent[0])}"
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
        geometry=read_json(folder, GEOMETRY, dict) if has_geometry else None,
        **_optional(folder, DETECTOR_TABLES),
    )


def _read_causal(folder: Path) -> CausalTables:
    has_selftest = (folder / SELFTEST).is_file()
    return CausalTables(
        verdicts=read_table(folder, VERDICTS),
        effects=read_table(folder, EFFECTS),
        dose=read_table(folder, DOSE),
        sites=read_table(folder, SITES),
        selftest=read_json(folder, SELFTEST, dict) if has_selftest else None,
        **_optional(folder, FURTHER_CAUSAL),
    )


def _optional(folder: Path, names: Sequence[str]) -> dict[str, pd.DataFrame | None]:
    """Tables that a run may go without, each under the field of its file's name."""
    return {name.removesuffix(".parquet"): read_if_there(folder, name) for name in names}


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
