"""Out-of-fold scores of turns: of one scorer, at one hook point, in one view of the turn."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Int8

from mechprobe.errors import LabelError
from mechprobe.evaluation.turns.turn_units import TurnTruth
from mechprobe.probes.scoring.aggregation import View
from mechprobe.probes.scoring.calibration import Calibration, fit_isotonic, fit_platt

FITS = {"platt": fit_platt, "isotonic": fit_isotonic}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ScoredTurns:
    """Every turn scored by detectors that were fitted on other scenarios; NaN where nothing was scored."""

    scorer: str
    hook_name: str
    view: View
    scores: Float64[np.ndarray, "turn column"]
    """Columns of the truth, then the unions; standardised within their fold (see `folds.negatives_of`)."""
    raw: Float64[np.ndarray, "turn column"] | None = None
    """The same on the probes' own scale; None for what is no probe."""

    @property
    def names(self) -> dict[str, str]:
        """What tables call it."""
        return {"scorer": self.scorer, "hook_name": self.hook_name, "view": self.view}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FoldPart:
    """What is known when one fold is tested."""

    known: Bool[np.ndarray, "turn"]
    """Turns of the other folds: calibrations and fusions learn from those that have labels."""
    test: Bool[np.ndarray, "turn"]
    """Turns that the fold's detectors have scored."""
    neutral: Bool[np.ndarray, "turn"]
    """Turns that thresholds are tuned on."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TurnFolds:
    """The turns with what they really hold, and the fold in which each is tested."""

    truth: TurnTruth
    fold: Int[np.ndarray, "turn"]
    unions: Mapping[str, tuple[str, ...]]
    """Behaviour -> its indicators: columns of the scores after those of the truth."""

    tuning: Bool[np.ndarray, "turn"] | None = None
    """Turns of a neutral set of its own, a copy for each fold, without labels (see `neutral_turns`). None: there is
    no such set, and thresholds are tuned on the neutral turns of other folds."""

    def parts(self) -> Iterator[FoldPart]:
        """Each fold in turn."""
        for number in np.unique(self.fold):
            test = self.fold == number
            apart = self.truth.neutral & ~test if self.tuning is None else self.tuning & test
            yield FoldPart(known=~test, test=test, neutral=apart)

    @property
    def labels(self) -> Int8[np.ndarray, "turn column"]:
        """1 has it, 0 has it not, -1 unknown; unions have what any of their indicators has."""
        known = self.truth.labels
        columns = [known]
        for members in self.unions.values():
            of_members = known[:, self.columns_of(members)]
            unknown = (of_members < 0).any(axis=1)
            union = np.where(unknown, -1, 0).astype(np.int8)
            columns.append(np.where((of_members == 1).any(axis=1), 1, union)[:, None])
        return np.concatenate(columns, axis=1).astype(np.int8)

    @property
    def fine(self) -> Int[np.ndarray, "indicator"]:
        """Columns of the indicators."""
        return np.arange(len(self.truth.columns) - 1)

    @property
    def coarse(self) -> Int[np.ndarray, "union"]:
        """Columns of the unions."""
        return len(self.truth.columns) + np.arange(len(self.unions))

    @property
    def single(self) -> int:
        """The column that asks for any indicator."""
        return len(self.truth.columns) - 1

    def columns_of(self, members: Sequence[str]) -> list[int]:
        """Columns of some indicators."""
        return [self.truth.columns.index(name) for name in members]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Probabilities:
    """Calibrated scores."""

    values: Float64[np.ndarray, "turn column"]
    """NaN where there is no score or no calibration."""
    refused: tuple[str, ...]
    """Why a column has no calibration; empty where it has one."""


def calibrate(
    scores: Float[np.ndarray, "turn column"],
    labels: Int8[np.ndarray, "turn column"],
    known: Bool[np.ndarray, "turn"],
    method: str = "platt",
) -> Probabilities:
    """Probabilities of all turns by calibrations of each column that were fitted on some of them."""
    values = np.full(scores.shape, np.nan)
    refused: list[str] = []
    for at in range(scores.shape[1]):
        used = known & (labels[:, at] >= 0) & np.isfinite(scores[:, at])
        try:
            found: Calibration = FITS[method](scores[used, at], labels[used, at] == 1)
        except LabelError as error:
            refused.append(str(error))
            continue
        refused.append("")
        values[:, at] = found.apply(scores[:, at])
    return Probabilities(values=values, refused=tuple(refused))
