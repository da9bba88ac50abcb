"""Fit on some folds and score the turns of others: probes of every kind, and baselines at tokens.

All scores are standardised within their fold by the same rule: the mean and spread of the negatives that chose
strengths, scored by the very detector that scores the fold. So folds share a scale as far as a linear map of each
can give them one, which thresholds and fusions need; rankings do not rely on it, since they compare within folds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from tqdm import tqdm

from mechprobe.baselines.shuffled import SHUFFLED_LABELS
from mechprobe.baselines.tokens import TokenBaseline
from mechprobe.evaluation.folds import (
    Calibrated,
    TokenSource,
    fit_fold,
    fit_scorers,
    score_views,
)
from mechprobe.evaluation.turns.conversations import Conversations
from mechprobe.evaluation.turns.scored_turns import ScoredTurns
from mechprobe.evaluation.turns.scorer_names import sort_names
from mechprobe.evaluation.turns.turn_config import TurnDetectionConfig
from mechprobe.evaluation.turns.unit_scoring import fit_unit_probes, score_unit_views
from mechprobe.probes.probe_set import ProbeSet
from mechprobe.probes.scoring.aggregation import View, ViewPoolings


def probe_scores(
    given: Conversations, source: TokenSource, config: TurnDetectionConfig
) -> tuple[list[ProbeSet], list[ScoredTurns]]:
    """The probes of the first fold, and the out-of-fold scores of all: every estimator in every view."""
    names = sort_names(config.estimators)
    neutral = given.neutral and given.neutral.given.sources[source.hook_name]
    book = _ScoreBook(given, source.hook_name)
    sets: list[ProbeSet] = []
    for number, fold in enumerate(
        tqdm(given.folds, desc=f"folds at {source.hook_name}", disable=None)
    ):
        of_rows = list(
            fit_fold(fold, given.labelled, source, names.rows, rule=config.labels, seed=config.seed)
        )
        labels = given.turns.labels
        of_units = list(
            fit_unit_probes(
                fold,
                given.plan.views["full"],
                labels,
                given.labelled.indicators,
                source,
                names.units,
                config,
            )
        )
        fitted = [*of_rows, *of_units]
        sets = sets or [_asked(one, given) for one in fitted if not _is_shuffled(one)]

        def score(plan: ViewPoolings, source: TokenSource) -> list[dict[View, np.ndarray]]:
            return [
                *score_views(of_rows, plan, source, config.pooling),  # noqa: B023
                *score_unit_views(of_units, plan, source),  # noqa: B023
            ]

        book.write(number, fitted, score(given.plan.take(fold.test), source))
        if given.neutral and neutral:
            book.write_neutral(number, fitted, score(given.neutral.plan, neutral))
    return sets, book.scored()


def token_scores(
    given: Conversations,
    baselines: Sequence[TokenBaseline],
    config: TurnDetectionConfig,
    neutral: Sequence[TokenBaseline] = (),
) -> list[ScoredTurns]:
    """Out-of-fold scores of baselines at tokens: labelled, fitted and pooled as probes are.

    Args:
        neutral: the same baselines over the neutral set's store.
    """
    found: list[ScoredTurns] = []
    for at, baseline in enumerate(baselines):
        book = _ScoreBook(given, "")
        scorers = {baseline.name: baseline.estimator}
        source = TokenSource(hook_name="", acts=_rows_of(baseline), features=_rows_of(baseline))
        for number, fold in enumerate(given.folds):
            fitted = list(
                fit_scorers(
                    fold, given.labelled, source, scorers, rule=config.labels, seed=config.seed
                )
            )
            plan = given.plan.take(fold.test)
            book.write(number, fitted, score_views(fitted, plan, source, config.pooling))
            if given.neutral:
                rows = _rows_of(neutral[at])
                apart = TokenSource(hook_name="", acts=rows, features=rows)
                scored = score_views(fitted, given.neutral.plan, apart, config.pooling)
                book.write_neutral(number, fitted, scored)
        found += [replace(one, raw=None) for one in book.scored()]
    return found


def _rows_of(baseline: TokenBaseline) -> Callable[[np.ndarray], Any]:
    return baseline.rows


class _ScoreBook:
    """Collects the scores of all folds, scorer by scorer and view by view."""

    def __init__(self, given: Conversations, hook_name: str) -> None:
        self._given, self._hook_name = given, hook_name
        self._found: dict[tuple[str, View], tuple[np.ndarray, np.ndarray]] = {}

    def write(
        self,
        number: int,
        fitted: Sequence[Calibrated],
        scored: Sequence[Mapping[View, np.ndarray]],
    ) -> None:
        """Scores of the turns that a fold tests."""
        test = self._given.folds[number].test
        for one, views in zip(fitted, scored, strict=True):
            for view, values in views.items():
                self._put(one, view, self._given.rows_of(view, test), values)

    def write_neutral(
        self,
        number: int,
        fitted: Sequence[Calibrated],
        scored: Sequence[Mapping[View, np.ndarray]],
    ) -> None:
        """Scores of the neutral set by a fold's detectors."""
        neutral = self._given.neutral
        assert neutral is not None
        for one, views in zip(fitted, scored, strict=True):
            for view, values in views.items():
                rows = self._given.neutral_rows(number)[neutral.rows_of(view)]
                self._put(one, view, rows, values)

    def scored(self) -> list[ScoredTurns]:
        """Everything that was written."""
        return [
            ScoredTurns(scorer=scorer, hook_name=self._hook_name, view=view, scores=scores, raw=raw)
            for (scorer, view), (scores, raw) in self._found.items()
        ]

    def _put(self, one: Calibrated, view: View, rows: np.ndarray, values: np.ndarray) -> None:
        shape = (self._given.n_rows, len(self._given.labelled.indicators))
        empty = (np.full(shape, np.nan), np.full(shape, np.nan))
        scores, raw = self._found.setdefault((one.probes.scorer, view), empty)
        place = np.ix_(rows, one.columns)
        scores[place] = values
        raw[place] = values * one.std + one.mean


def _is_shuffled(one: Calibrated) -> bool:
    return one.probes.scorer == SHUFFLED_LABELS


def _asked(one: Calibrated, given: Conversations) -> ProbeSet:
    """The probes of the indicators and of `misaligned`; those of unions serve one comparison only."""
    n_kept = int((one.columns < len(given.turns.truth.columns)).sum())
    return replace(
        one.probes,
        indicators=one.probes.indicators[:n_kept],
        probes=one.probes.probes[:n_kept],
    )
