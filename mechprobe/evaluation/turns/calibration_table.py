"""`calibration.parquet`: how good the probabilities are that scores are turned into, out of fold."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd
from jaxtyping import Float64

from mechprobe.evaluation.detection import MIN_POSITIVES
from mechprobe.evaluation.turns.calibration_error import calibration_error
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


def calibration_rows(
    one: ScoredTurns, folds: TurnFolds, *, n_boot: int, seed: int
) -> Iterator[dict[str, object]]:
    """A row for each column of the truth and each way to calibrate; unions are left out."""
    labels = folds.truth.labels
    scores = one.scores[:, : labels.shape[1]]
    for method in FITS:
        probabilities = np.full(scores.shape, np.nan)
        refused = [""] * scores.shape[1]
        for known, test in folds.parts():
            found = calibrate(scores, labels, known, method)
            probabilities[test] = found.values[test]
            refused = [old or new for old, new in zip(refused, found.refused, strict=True)]
        for at, column in enumerate(folds.truth.columns):
            if np.isfinite(scores[:, at]).any():
                names = {"indicator": column, **one.names, "method": method}
                row = _row(probabilities[:, at], folds, at, refused[at], n_boot=n_boot, seed=seed)
                yield {**names, **row}


def fused_calibration_row(
    one: ScoredTurns, folds: TurnFolds, *, n_boot: int, seed: int
) -> dict[str, object]:
    """The row of a fusion whose scores of `misaligned` are probabilities themselves."""
    at = folds.single
    names = {"indicator": folds.truth.columns[at], **one.names, "method": "none"}
    return {**names, **_row(one.scores[:, at], folds, at, "", n_boot=n_boot, seed=seed)}


def calibration_table(rows: Sequence[dict[str, object]]) -> pd.DataFrame:
    """The rows as a table of CALIBRATION_COLUMNS."""
    return pd.DataFrame(list(rows), columns=list(CALIBRATION_COLUMNS))


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
