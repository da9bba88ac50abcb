"""`calibration.parquet` and `reliability.parquet`: how good the probabilities are that scores are turned into, out of fold.

The first has the errors of every indicator; the second the curves behind those of `misaligned`, bin by bin.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float64

from mechprobe.evaluation.detection import MIN_POSITIVES
from mechprobe.evaluation.turns.calibration_error import calibration_error, reliability_curve
from mechprobe.evaluation.turns.scored_turns import FITS, ScoredTurns, TurnFolds, calibrate

CALIBRATION_COLUMNS = (
    "indicator",
    "scorer",
    "hook_name",
    "view",
    "method",
    "refused",
    "ece",
    "ece_by_chance",
    "low",
    "high",
    "rms_debiased",
    "brier",
    "brier_of_rate",
    "n_bins",
    "n_pos",
    "n_neg",
)
RELIABILITY_COLUMNS = (
    "indicator",
    "scorer",
    "hook_name",
    "view",
    "method",
    "bin",
    "stated",
    "observed",
    "low",
    "high",
    "n",
)
"""Columns of `reliability.parquet`: mean probability and share of positives of each bin of equally many turns."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationRows:
    """Rows of the two tables."""

    errors: tuple[dict[str, object], ...]
    curves: tuple[dict[str, object], ...]


def calibration_rows(
    one: ScoredTurns, folds: TurnFolds, *, n_boot: int, seed: int
) -> CalibrationRows:
    """A row of errors for each column of the truth and each way to calibrate, unions left out; curves of `misaligned`."""
    errors: list[dict[str, object]] = []
    curves: list[dict[str, object]] = []
    labels = folds.truth.labels
    scores = one.scores[:, : labels.shape[1]]
    for method in FITS:
        probabilities = np.full(scores.shape, np.nan)
        refused = [""] * scores.shape[1]
        for part in folds.parts():
            found = calibrate(scores, labels, part.known, method)
            probabilities[part.test] = found.values[part.test]
            refused = [old or new for old, new in zip(refused, found.refused, strict=True)]
        for at, column in enumerate(folds.truth.columns):
            if np.isfinite(scores[:, at]).any():
                names = {"indicator": column, **one.names, "method": method}
                row = _row(probabilities[:, at], folds, at, refused[at], n_boot=n_boot, seed=seed)
                errors.append({**names, **row})
                if at == folds.single and not row["refused"]:
                    curve = _curve(probabilities[:, at], folds, at, n_boot=n_boot, seed=seed)
                    curves += [{**names, **point} for point in curve]
    return CalibrationRows(errors=tuple(errors), curves=tuple(curves))


def fused_calibration_rows(
    one: ScoredTurns, folds: TurnFolds, *, n_boot: int, seed: int
) -> CalibrationRows:
    """The rows of a fusion whose scores of `misaligned` are probabilities themselves."""
    at = folds.single
    names = {"indicator": folds.truth.columns[at], **one.names, "method": "none"}
    row = _row(one.scores[:, at], folds, at, "", n_boot=n_boot, seed=seed)
    curve = [] if row["refused"] else _curve(one.scores[:, at], folds, at, n_boot=n_boot, seed=seed)
    return CalibrationRows(
        errors=({**names, **row},), curves=tuple({**names, **point} for point in curve)
    )


def calibration_table(rows: Sequence[dict[str, object]]) -> pd.DataFrame:
    """The rows as a table of CALIBRATION_COLUMNS."""
    return pd.DataFrame(list(rows), columns=list(CALIBRATION_COLUMNS))


def reliability_table(rows: Sequence[dict[str, object]]) -> pd.DataFrame:
    """The rows as a table of RELIABILITY_COLUMNS."""
    return pd.DataFrame(list(rows), columns=list(RELIABILITY_COLUMNS))


def _curve(
    probabilities: Float64[np.ndarray, "turn"], folds: TurnFolds, at: int, *, n_boot: int, seed: int
) -> list[dict[str, object]]:
    label = folds.labels[:, at]
    used = (label >= 0) & np.isfinite(probabilities)
    found = reliability_curve(
        probabilities[used],
        label[used] == 1,
        folds.truth.turns["conversation"].to_numpy(dtype=np.int64)[used],
        n_boot=n_boot,
        seed=seed,
    )
    names = ("stated", "observed", "low", "high")
    return [
        {
            "bin": number,
            **{name: float(getattr(found, name)[number]) for name in names},
            "n": int(found.n_units[number]),
        }
        for number in range(len(found.n_units))
    ]


def _row(
    probabilities: Float64[np.ndarray, "turn"],
    folds: TurnFolds,
    at: int,
    refused: str,
    *,
    n_boot: int,
    seed: int,
) -> dict[str, object]:
    label = folds.labels[:, at]
    used = (label >= 0) & np.isfinite(probabilities)
    n_pos = int((label[used] == 1).sum())
    counts = {"n_pos": n_pos, "n_neg": int(used.sum()) - n_pos}
    if not refused and n_pos < MIN_POSITIVES:
        refused = f"{n_pos} positives are too few; it takes at least {MIN_POSITIVES}."
    if refused:
        return {"refused": refused, **counts}
    found = calibration_error(
        probabilities[used],
        label[used] == 1,
        folds.truth.turns["conversation"].to_numpy(dtype=np.int64)[used],
        n_boot=n_boot,
        seed=seed,
    )
    return {"refused": "", **asdict(found), **counts}
