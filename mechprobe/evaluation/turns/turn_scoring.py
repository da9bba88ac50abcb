"""Fit on some folds and score the turns of others: probes of every kind, and the baselines that read text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Bool
from tqdm import tqdm

from mechprobe.baselines.fold import Baseline, BaselineFold
from mechprobe.baselines.passages import LabelledTexts, places_of_turns, tokens_of_turns
from mechprobe.baselines.shuffled import SHUFFLED_LABELS
from mechprobe.baselines.text import score_baselines
from mechprobe.evaluation.folds import Calibrated, Fold, TokenSource, fit_fold, score_views
from mechprobe.evaluation.turns.scored_turns import ScoredTurns, TurnFolds
from mechprobe.evaluation.turns.turn_config import TurnDetectionConfig
from mechprobe.evaluation.turns.turn_units import turn_texts
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

    def rows_of(self, view: View, chosen: Bool[np.ndarray, "conversation"]) -> np.ndarray:
        """Where the turns of some conversations that a view has stand among all turns, in the view's order."""
        every = _keys(self.turns.truth.turns)
        keys = _keys(self.plan.views[view].turns)
        return every.get_indexer(keys[chosen[keys.get_level_values(0)]])


def probe_scores(
    given: Conversations, source: TokenSource, config: TurnDetectionConfig
) -> tuple[list[ProbeSet], list[ScoredTurns]]:
    """The probes of the first fold, and the out-of-fold scores of all: every estimator in every view."""
    shape = (len(given.turns.fold), len(given.labelled.indicators))
    found: dict[tuple[str, View], tuple[np.ndarray, np.ndarray]] = {}
    sets: list[ProbeSet] = []
    for fold in tqdm(given.folds, desc=f"folds at {source.hook_name}", disable=None):
        fitted = list(
            fit_fold(
                fold,
                given.labelled,
                source,
                config.estimators,
                rule=config.labels,
                seed=config.seed,
            )
        )
        sets = sets or [_asked(one, given) for one in fitted if not _is_shuffled(one)]
        scored = score_views(fitted, given.plan.take(fold.test), source, config.pooling)
        for one, views in zip(fitted, scored, strict=True):
            for view, values in views.items():
                empty = (np.full(shape, np.nan), np.full(shape, np.nan))
                scores, raw = found.setdefault((one.probes.scorer, view), empty)
                place = np.ix_(given.rows_of(view, fold.test), one.columns)
                scores[place] = values
                raw[place] = values * one.std + one.mean
    return sets, [
        ScoredTurns(scorer=scorer, hook_name=source.hook_name, view=view, scores=scores, raw=raw)
        for (scorer, view), (scores, raw) in found.items()
    ]


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
        passages = _passages(given, view)
        seen = np.isin(np.arange(len(conversation)), given.rows_of(view, _everyone(given)))
        found: dict[str, np.ndarray] = {}
        for fold in given.folds:
            test = np.flatnonzero(fold.test[conversation] & seen)
            has_label = seen & (truth.labels >= 0).any(axis=1)
            parts = [
                passages.take(np.flatnonzero(part[conversation] & has_label))
                for part in (fold.fit, fold.select)
            ]
            if not len(test) or not parts[0].texts:
                continue
            units = BaselineFold(parts[0], parts[1], passages.without_labels(test))
            for name, values in score_baselines(
                [*config.text_scorers, *made], units, seed=config.seed
            ).items():
                found.setdefault(name, np.full(truth.labels.shape, np.nan))[test] = values
        for name, scores in found.items():
            yield ScoredTurns(scorer=name, hook_name="", view=view, scores=scores)


def _passages(given: Conversations, view: View) -> LabelledTexts:
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
