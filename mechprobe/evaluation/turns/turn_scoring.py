"""Fit on some folds and score the turns of others: probes of every kind, and the baselines that read text.

All scores are standardised within their fold by the same rule: the mean and spread of the negatives that chose
strengths, scored by the very detector that scores the fold. So folds share a scale as far as a linear map of each
can give them one, which thresholds and fusions need; rankings do not rely on it, since they compare within folds.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool
from tqdm import tqdm

from mechprobe.baselines.fold import Baseline, BaselineFold
from mechprobe.baselines.passages import (
    LabelledTexts,
    Passages,
    places_of_turns,
    stacked,
    tokens_of_turns,
)
from mechprobe.baselines.shuffled import SHUFFLED_LABELS
from mechprobe.baselines.text import score_baselines
from mechprobe.baselines.tokens import TokenBaseline
from mechprobe.evaluation.folds import (
    Calibrated,
    Fold,
    TokenSource,
    fit_fold,
    fit_scorers,
    negatives_of,
    score_views,
)
from mechprobe.evaluation.turns.neutral_turns import NeutralTurns, with_neutral
from mechprobe.evaluation.turns.scored_turns import ScoredTurns, TurnFolds
from mechprobe.evaluation.turns.scorer_names import sort_names
from mechprobe.evaluation.turns.turn_config import TurnDetectionConfig
from mechprobe.evaluation.turns.turn_units import turn_texts
from mechprobe.evaluation.turns.unit_scoring import fit_unit_probes, score_unit_views
from mechprobe.probes.labels.examples import LabelledTokens
from mechprobe.probes.probe_set import ProbeSet
from mechprobe.probes.scoring.aggregation import VIEWS, View, ViewPoolings
from mechprobe.transcripts.transcript import SECTIONS, Section, Transcript


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Conversations:
    """What a study scores, prepared once for all scorers."""

    tokens: pd.DataFrame
    transcripts: Sequence[Transcript]
    labelled: LabelledTokens
    plan: ViewPoolings
    folds: Sequence[Fold]
    turns: TurnFolds
    """The tested turns."""
    neutral: NeutralTurns | None = None

    @property
    def n_tested(self) -> int:
        """Turns that are tested."""
        return len(self.turns.fold)

    @property
    def all_turns(self) -> TurnFolds:
        """The tested turns and those of the neutral set, as scores have them."""
        if self.neutral is None:
            return self.turns
        return with_neutral(self.turns, self.neutral, len(self.folds))

    @property
    def n_rows(self) -> int:
        """Rows of the scores: tested turns, then the neutral set once for each fold."""
        return self.n_tested + (self.neutral.n_turns * len(self.folds) if self.neutral else 0)

    def neutral_rows(self, number: int) -> np.ndarray:
        """Where the neutral turns stand that a fold's detectors score."""
        n_each = self.neutral.n_turns if self.neutral else 0
        return self.n_tested + number * n_each + np.arange(n_each)

    def rows_of(self, view: View, chosen: Bool[np.ndarray, "conversation"]) -> np.ndarray:
        """Where the turns of some conversations that a view has stand among all turns, in the view's order."""
        every = _keys(self.turns.truth.turns)
        keys = _keys(self.plan.views[view].turns)
        return every.get_indexer(keys[chosen[keys.get_level_values(0)]])


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


def text_scores(
    given: Conversations, config: TurnDetectionConfig, made: Sequence[Baseline] = ()
) -> Iterator[ScoredTurns]:
    """Out-of-fold scores of every text baseline, fitted on the labelled turns of the fit conversations.

    In each view they read what the probes read: the sections of the view that were captured. Where a turn
    stands and how many tokens it has, they know for the full text only.

    Args:
        made: baselines beside the named ones.
    """
    truth = given.turns.truth
    conversation = truth.turns["conversation"].to_numpy()
    for view in config.views:
        passages = passages_of(given, view)
        apart = _neutral_passages(given, view)
        neutral = given.neutral.rows_of(view) if given.neutral else np.zeros(0, dtype=np.int64)
        seen = np.isin(np.arange(len(conversation)), given.rows_of(view, _everyone(given)))
        found: dict[str, np.ndarray] = {}
        for number, fold in enumerate(given.folds):
            test = np.flatnonzero(fold.test[conversation] & seen)
            has_label = seen & (truth.labels >= 0).any(axis=1)
            fit, select = (
                np.flatnonzero(part[conversation] & has_label) for part in (fold.fit, fold.select)
            )
            if not len(test) or not len(fit):
                continue
            # The select texts are scored too: a fold's scores are scaled by their negatives.
            asked = [passages.without_labels(np.concatenate([select, test]))]
            units = BaselineFold(
                passages.take(fit),
                passages.take(select),
                stacked([*asked, apart]) if apart else asked[0],
            )
            rows = np.concatenate([test, given.neutral_rows(number)[neutral]])
            for name, values in score_baselines(
                [*config.text_scorers, *made], units, seed=config.seed
            ).items():
                mean, std = negatives_of(values[: len(select)], truth.labels[select])
                scores = found.setdefault(
                    name, np.full((given.n_rows, truth.labels.shape[1]), np.nan)
                )
                scores[rows] = (values[len(select) :] - mean) / std
        for name, scores in found.items():
            yield ScoredTurns(scorer=name, hook_name="", view=view, scores=scores)


def passages_of(given: Conversations, view: View) -> LabelledTexts:
    """The tested turns as text baselines read them in a view, with their labels."""
    truth = given.turns.truth
    captured = set(given.tokens["section"].unique())
    sections: list[Section] = [one for one in SECTIONS if one in VIEWS[view] and one in captured]
    is_full = view == "full"
    return LabelledTexts(
        texts=turn_texts(given.transcripts, truth.turns, sections),
        labels=truth.labels,
        places=places_of_turns(given.tokens, truth.turns) if is_full else None,
        n_tokens=tokens_of_turns(given.tokens, truth.turns) if is_full else None,
    )


def _neutral_passages(given: Conversations, view: View) -> Passages | None:
    neutral = given.neutral
    if neutral is None:
        return None
    turns = neutral.plan.views[view].turns
    captured = set(given.tokens["section"].unique())
    sections: list[Section] = [one for one in SECTIONS if one in VIEWS[view] and one in captured]
    tokens, is_full = neutral.given.tokens, view == "full"
    return Passages(
        texts=turn_texts(neutral.given.transcripts, turns, sections),
        places=places_of_turns(tokens, turns) if is_full else None,
        n_tokens=tokens_of_turns(tokens, turns) if is_full else None,
    )


def _keys(turns: pd.DataFrame) -> pd.MultiIndex:
    columns = [turns[name].to_numpy(dtype=np.int64) for name in ("conversation", "turn")]
    return pd.MultiIndex.from_arrays(columns)


def _everyone(given: Conversations) -> Bool[np.ndarray, "conversation"]:
    return np.ones(len(given.transcripts), dtype=bool)


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
