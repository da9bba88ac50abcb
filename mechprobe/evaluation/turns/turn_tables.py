"""From out-of-fold scores to the tables of a study: ranking, views, thresholds, calibration, grain."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Float64

from mechprobe.evaluation.results import Collector, Detection
from mechprobe.evaluation.turns.calibration_table import (
    CalibrationRows,
    calibration_rows,
    calibration_table,
    fused_calibration_rows,
    reliability_table,
)
from mechprobe.evaluation.turns.decomposition import decomposition_rows, decomposition_table
from mechprobe.evaluation.turns.operating_points import or_rows, threshold_rows, threshold_table
from mechprobe.evaluation.turns.scored_turns import ScoredTurns, TurnFolds
from mechprobe.evaluation.turns.turn_config import TurnDetectionConfig
from mechprobe.evaluation.turns.turn_fusion import fuse
from mechprobe.evaluation.turns.turn_units import report_turns
from mechprobe.probes.bank import ProbeBank
from mechprobe.probes.probe_set import ProbeSet
from mechprobe.probes.scoring.aggregation import View
from mechprobe.probes.scoring.thresholds import ThresholdRule


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TurnStudy:
    """A detection study with what it says beyond the ranking of full turns."""

    detection: Detection
    """Of the full text."""
    views: pd.DataFrame
    """`views.parquet`: the detection table of the other views, with a column `view`."""
    thresholds: pd.DataFrame
    """`thresholds.parquet`: columns THRESHOLD_COLUMNS."""
    calibration: pd.DataFrame
    """`calibration.parquet`: columns CALIBRATION_COLUMNS."""
    reliability: pd.DataFrame
    """`reliability.parquet`: columns RELIABILITY_COLUMNS."""
    decomposition: pd.DataFrame
    """`decomposition.parquet`: columns DECOMPOSITION_COLUMNS; empty without unions."""


class TurnTables:
    """Takes scorer after scorer and makes the tables of a study."""

    def __init__(self, folds: TurnFolds, config: TurnDetectionConfig) -> None:
        self.sets: list[ProbeSet] = []
        self._folds, self._config = folds, config
        self._collectors = {
            view: Collector(n_boot=config.n_boot, seed=config.seed) for view in config.views
        }
        self._filled: set[View] = set()
        self._rows: dict[str, list[dict[str, object]]] = {
            name: [] for name in ("thresholds", "calibration", "reliability", "decomposition")
        }

    def add(self, one: ScoredTurns) -> None:
        """A scorer in one view: how it ranks, where its thresholds lie, how well it is calibrated."""
        n_columns = len(self._folds.truth.columns)
        self._report(one, one.scores[:, :n_columns])
        for column in range(n_columns):
            self._add_thresholds(one, column)
        self._add_calibration(calibration_rows(one, self._folds, **self._draws))

    def add_probe(self, one: ScoredTurns) -> None:
        """A scorer that is a probe for each indicator: its fusions too, and fine against coarse."""
        config, folds = self._config, self._folds
        self.add(one)
        for fusion in config.fusions:
            fused = self._misaligned(
                f"{one.scorer}_{fusion}", one, fuse(fusion, one, folds, folds.fine)
            )
            self._report(fused, fused.scores)
            self._add_thresholds(fused, folds.single)
            if fusion == "noisy_or" and np.isfinite(fused.scores).any():
                self._add_calibration(fused_calibration_rows(fused, folds, **self._draws))
        self._rows["thresholds"] += or_rows(
            one, folds, folds.fine, targets=config.fpr_targets, rule=self._or_rule
        )
        if folds.unions:
            self._rows["decomposition"] += decomposition_rows(
                one, folds, targets=config.fpr_targets, **self._draws
            )

    def add_judge(self, judge: str, values: Float64[np.ndarray, "turn"]) -> None:
        """Somebody's scores of `misaligned`, of the full text."""
        one = ScoredTurns(scorer=judge, hook_name="", view="full", scores=values[:, None])
        judged = self._misaligned(judge, one, values)
        self._report(judged, judged.scores)
        self._add_thresholds(judged, self._folds.single)

    def finish(self) -> TurnStudy:
        """The tables of everything that was added."""
        views = [
            self._collectors[view].finish(ProbeBank(sets=()), ()).table.assign(view=view)
            for view in self._config.views
            if view != "full" and view in self._filled
        ]
        detection = self._collectors["full"].finish(ProbeBank(sets=tuple(self.sets)))
        empty = detection.table.iloc[:0].assign(view="")
        return TurnStudy(
            detection=detection,
            views=pd.concat(views, ignore_index=True) if views else empty,
            thresholds=threshold_table(self._rows["thresholds"]),
            calibration=calibration_table(self._rows["calibration"]),
            reliability=reliability_table(self._rows["reliability"]),
            decomposition=decomposition_table(self._rows["decomposition"]),
        )

    @property
    def _draws(self) -> dict[str, int]:
        return {"n_boot": self._config.n_boot, "seed": self._config.seed}

    @property
    def _or_rule(self) -> ThresholdRule:
        """An OR has no certified thresholds; its bound is measured."""
        rule = self._config.threshold_rule
        return "conformal" if rule == "certified" else rule

    def _report(self, one: ScoredTurns, scores: Float64[np.ndarray, "turn column"]) -> None:
        truth = self._folds.truth
        if (np.isfinite(scores) & (truth.labels >= 0)).any():
            self._filled.add(one.view)
        collector = self._collectors[one.view]
        report_turns(
            collector, one.scorer, truth, scores, fold=self._folds.fold, hook_name=one.hook_name
        )

    def _add_calibration(self, rows: CalibrationRows) -> None:
        self._rows["calibration"] += rows.errors
        self._rows["reliability"] += rows.curves

    def _add_thresholds(self, one: ScoredTurns, column: int) -> None:
        if np.isfinite(one.scores[:, column]).any():
            self._rows["thresholds"] += threshold_rows(
                one,
                self._folds,
                column,
                targets=self._config.fpr_targets,
                rule=self._config.threshold_rule,
            )

    def _misaligned(
        self, scorer: str, one: ScoredTurns, values: Float64[np.ndarray, "turn"]
    ) -> ScoredTurns:
        """Scores of `misaligned` alone."""
        scores = np.full(self._folds.truth.labels.shape, np.nan)
        scores[:, self._folds.single] = values
        return replace(one, scorer=scorer, scores=scores, raw=None)
