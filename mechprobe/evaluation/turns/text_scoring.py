"""Fit text baselines on the turns of some folds and score those of others, as probes are."""

from collections.abc import Iterator, Sequence

import numpy as np

from mechprobe.baselines.fold import Baseline, BaselineFold
from mechprobe.baselines.passages import (
    LabelledTexts,
    Passages,
    places_of_turns,
    stacked,
    tokens_of_turns,
)
from mechprobe.baselines.text import score_baselines
from mechprobe.evaluation.folds import negatives_of
from mechprobe.evaluation.turns.conversations import Conversations
from mechprobe.evaluation.turns.scored_turns import ScoredTurns
from mechprobe.evaluation.turns.turn_config import TurnDetectionConfig
from mechprobe.evaluation.turns.turn_units import turn_texts
from mechprobe.probes.scoring.aggregation import VIEWS, View
from mechprobe.transcripts.transcript import SECTIONS, Section


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
    everyone = np.ones(len(given.transcripts), dtype=bool)
    for view in config.views:
        passages = passages_of(given, view)
        apart = _neutral_passages(given, view)
        neutral = given.neutral.rows_of(view) if given.neutral else np.zeros(0, dtype=np.int64)
        seen = np.isin(np.arange(len(conversation)), given.rows_of(view, everyone))
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
