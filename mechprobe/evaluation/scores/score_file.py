"""Read a file of scores: one row for each turn that a scorer read, with its label.

Columns: `scorer`, `score`, `turn`, `gt_misaligned`, and `transcript_id` or the three `dataset`, `variation`,
`repetition`. Optional: `layer`, `view`, `indicator` (or `indicator_scope`), `transcript_pos`, `excluded`, `gt_known`,
and `split`, `target_model`, `dataset`, `behavior`, by which the figures are broken down. What the columns mean is as
in the scores that the paper's authors published (arXiv 2606.24251).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from mechprobe.errors import DataError, LabelError

SERIES = ("scorer", "indicator", "layer", "view")
"""What tells one series of scores from another."""
BREAKDOWNS = ("behavior", "dataset", "target_model", "split")
"""Columns by which the figures of a series are broken down, where a file has them."""
COUNTS = ("n_rows", "n_excluded", "n_unlabelled", "n_not_scored")
"""What is counted of each series: all rows, and those left out, each for the first reason that applies."""
_NEEDED = ("scorer", "score", "turn", "gt_misaligned")
_BLOOM_ID = ("dataset", "variation", "repetition")
_DEFAULTS: Mapping[str, object] = {"indicator": "", "layer": -1, "view": "full"}
_FLAGS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ScoreFile:
    """The usable rows of a file, and what was left out."""

    rows: pd.DataFrame
    """Columns SERIES, those of BREAKDOWNS that are known, transcript (code), turn, score, is_positive, in_positive."""
    left_out: pd.DataFrame
    """Columns SERIES and COUNTS, a row for each series."""
    behavior_from: str
    """Where the behaviour is from: "column", "dataset" (the name of a Bloom folder), or ""."""

    @property
    def breakdowns(self) -> tuple[str, ...]:
        """The columns by which this file can be broken down."""
        return tuple(name for name in BREAKDOWNS if name in self.rows)


def read_scores(path: Path) -> ScoreFile:
    """Read a parquet or CSV file of scores.

    Turns of excluded transcripts, turns without a label and turns without a score (NaN) are left out, as the
    paper's authors do, and counted.

    Raises:
        DataError: the file is missing, empty or of another kind, lacks a column, has a score that is no
            number or infinite, or gives a turn two scores of one series.
        LabelError: a flag is neither true nor false, or the turns of a transcript differ in `transcript_pos`.
    """
    table = _named(_load(path), path)
    is_labelled = (
        _flags(table, "gt_known", default=True) & table["gt_misaligned"].notna().to_numpy()
    )
    excluded = _flags(table, "excluded", default=False)
    score = _numbers(table.loc[:, "score"], path)
    table = table.assign(
        score=score,
        transcript=_transcripts(table, path),
        is_positive=_flags(table, "gt_misaligned", default=False) & is_labelled,
    )
    _refuse_repeated(table, path)
    table["in_positive"] = _in_positive(table, is_labelled, path)
    table = table.assign(
        n_rows=1,
        n_excluded=excluded,
        n_unlabelled=~excluded & ~is_labelled,
        n_not_scored=~excluded & is_labelled & np.isnan(score),
    )
    is_used = ~excluded & is_labelled & np.isfinite(score)
    known = [name for name in BREAKDOWNS if name in table]
    kept = [*SERIES, *known, "transcript", "turn", "score", "is_positive", "in_positive"]
    return ScoreFile(
        rows=table.loc[is_used, kept].reset_index(drop=True),
        left_out=table.groupby(list(SERIES), as_index=False).agg(dict.fromkeys(COUNTS, "sum")),
        behavior_from=table.attrs["behavior_from"],
    )


def _load(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise DataError(f"there is no file {path}; give a parquet or CSV file of scores.")
    try:
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
        elif {".csv", ".tsv"} & set(path.suffixes[-2:]):
            table = pd.read_csv(path, sep="\t" if ".tsv" in path.suffixes else ",")
        else:
            raise DataError(f"{path.name} is neither .parquet nor .csv; convert it to one of them.")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if table.empty:
        raise DataError(f"{path.name} has no rows; it needs one for each turn and scorer.")
    return table


def _named(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The table with the columns SERIES and, where it can be told, `behavior`."""
    identity = ("transcript_id",) if "transcript_id" in table else _BLOOM_ID
    missing = [name for name in (*_NEEDED, *identity) if name not in table]
    if missing:
        raise DataError(
            f"{path.name} has no column {', '.join(missing)}; found {', '.join(map(str, table.columns))}; "
            f"wanted {', '.join(_NEEDED)} and transcript_id (or {', '.join(_BLOOM_ID)})."
        )
    table = table.rename(columns={"behaviour": "behavior"}).reset_index(drop=True)
    if "indicator" not in table and "indicator_scope" in table:
        table = table.rename(columns={"indicator_scope": "indicator"})
    for name, value in _DEFAULTS.items():
        table[name] = table[name].fillna(value) if name in table else value
    if pd.api.types.is_float_dtype(table["layer"].dtype):
        # A column with gaps comes back from CSV as 23.0.
        table["layer"] = table["layer"].astype(np.int64)
    source = "column" if "behavior" in table else ""
    if not source and {"dataset", "target_model"} <= set(table.columns):
        table["behavior"] = _behaviors(table)
        source = "dataset"
    for name in BREAKDOWNS:
        if name in table:
            table[name] = table[name].astype(object).where(table[name].notna(), "").astype(str)
    table.attrs["behavior_from"] = source
    return table


def _behaviors(table: pd.DataFrame) -> list[str]:
    """The behaviour that a Bloom folder is named after: its name less the model and `_benign`."""
    return [
        dataset.removesuffix("_" + re.sub(r"[^a-z0-9]+", "_", model.lower())).removesuffix(
            "_benign"
        )
        for dataset, model in zip(
            table["dataset"].astype(str), table["target_model"].astype(str), strict=True
        )
    ]


def _numbers(values: pd.Series, path: Path) -> Float[np.ndarray, "row"]:
    try:
        score = np.asarray(values.astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan))
    except (TypeError, ValueError) as error:
        raise DataError(f"{path.name} has a score that is no number: {error}") from error
    n_infinite = int(np.isinf(score).sum())
    if n_infinite:
        raise DataError(
            f"{path.name} has {n_infinite} infinite scores; write a finite number, or nothing for a turn that "
            "was not scored."
        )
    return score


def _flags(table: pd.DataFrame, name: str, *, default: bool) -> Bool[np.ndarray, "row"]:
    """A column of true and false, however it is written; `default` where it is missing or empty."""
    if name not in table:
        return np.full(len(table), default)
    known = table[name].notna().to_numpy()
    text = [str(value).lower() for value in table[name]]
    wrong = [value for value, here in zip(text, known, strict=True) if here and value not in _FLAGS]
    if wrong:
        raise LabelError(
            f"column {name} has {len(wrong)} values such as {wrong[0]!r}; write true or false (1 or 0)."
        )
    return np.array([_FLAGS.get(value, default) for value in text])


def _transcripts(table: pd.DataFrame, path: Path) -> np.ndarray:
    """A code for each transcript; equal ids of two models or data sets are two transcripts."""
    own = ["transcript_id"] if "transcript_id" in table else ["variation", "repetition"]
    names = [name for name in ("split", "target_model", "dataset") if name in table] + own
    n_nameless = int(table[[*own, "turn"]].isna().to_numpy().any(axis=1).sum())
    if n_nameless:
        raise DataError(
            f"{path.name} has {n_nameless} rows without {', '.join([*own, 'turn'])}; every row needs them."
        )
    return table.groupby(names, sort=True, dropna=False).ngroup().to_numpy(dtype=np.int64)


def _refuse_repeated(table: pd.DataFrame, path: Path) -> None:
    repeated = table[table.duplicated([*SERIES, "transcript", "turn"])]
    if len(repeated):
        names = [name for name in (*SERIES, "transcript_id", *_BLOOM_ID, "turn") if name in table]
        example = ", ".join(f"{name} {repeated.iloc[0][name]}" for name in names)
        raise DataError(
            f"{path.name} scores {len(repeated)} turns more than once (for instance {example}); give each "
            "turn of a transcript one score of each scorer, layer and view, and each transcript its own id."
        )


def _in_positive(
    table: pd.DataFrame, is_labelled: Bool[np.ndarray, "row"], path: Path
) -> Bool[np.ndarray, "row"]:
    """Whether a row's transcript is positive; without a column, whether any of its turns is."""
    whole = table.groupby(["indicator", "transcript"]).ngroup().to_numpy()
    if "transcript_pos" not in table:
        positive = np.unique(whole[table["is_positive"].to_numpy(dtype=bool)])
        return np.isin(whole, positive)
    flags = _flags(table, "transcript_pos", default=False)
    torn = np.intersect1d(whole[flags & is_labelled], whole[~flags & is_labelled])
    if len(torn):
        raise LabelError(
            f"{path.name} has {len(torn)} transcripts that are positive in some rows and not in others; "
            "transcript_pos is one label for the whole transcript."
        )
    return flags
