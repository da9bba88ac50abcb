"""A neutral set of its own: transcripts that hold nothing and are not tested, which thresholds are tuned on.

Each fold's detectors score the whole set. So its turns stand behind the tested ones once for each fold, without labels:
no figure counts them, and what scales or fuses scores treats them as the fold's own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from mechprobe.errors import DataError
from mechprobe.evaluation.folds import TokenSource
from mechprobe.evaluation.turns.scored_turns import TurnFolds
from mechprobe.evaluation.turns.turn_config import TurnDetectionConfig
from mechprobe.evaluation.turns.turn_units import TurnTruth
from mechprobe.probes.scoring.aggregation import View, ViewPoolings, plan_views
from mechprobe.probes.scoring.thresholds import negatives_needed
from mechprobe.transcripts.splits import group_names
from mechprobe.transcripts.transcript import Transcript


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class NeutralSet:
    """Transcripts that hold nothing, captured as the tested ones were."""

    tokens: pd.DataFrame
    """The token table of their store."""
    transcripts: Sequence[Transcript]
    sources: Mapping[str, TokenSource]
    """How to read their store, by hook point."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class NeutralTurns:
    """A neutral set with its turns found."""

    given: NeutralSet
    plan: ViewPoolings

    @property
    def turns(self) -> pd.DataFrame:
        """Columns conversation (index into the set's transcripts) and turn."""
        return self.plan.views["full"].turns

    @property
    def n_turns(self) -> int:
        """Turns of the set."""
        return len(self.turns)

    @property
    def everyone(self) -> np.ndarray:
        """A mask of all transcripts."""
        return np.ones(len(self.given.transcripts), dtype=bool)

    def rows_of(self, view: View) -> np.ndarray:
        """Where the turns that a view has stand among all turns."""
        keys = [
            pd.MultiIndex.from_arrays(
                [part[name].to_numpy(dtype=np.int64) for name in ("conversation", "turn")]
            )
            for part in (self.turns, self.plan.views[view].turns)
        ]
        return keys[0].get_indexer(keys[1])


def find_neutral_turns(
    given: NeutralSet, tested: Sequence[Transcript], config: TurnDetectionConfig
) -> NeutralTurns:
    """Check a neutral set against the tested transcripts and find its turns.

    Raises:
        DataError: a transcript of it is labelled with an indicator or judged misaligned, is tested too or shares its
            scenario or texts with one that is, or there are too few turns for every target.
    """
    _check_neutral(given.transcripts)
    _check_apart(given.transcripts, tested)
    plan = plan_views(
        given.tokens, given.transcripts, min_words=config.min_words, views=config.views
    )
    found = NeutralTurns(given=given, plan=plan)
    easiest = max(config.fpr_targets)
    needed = negatives_needed(easiest, config.threshold_rule)
    if found.n_turns < needed:
        raise DataError(
            f"the neutral set has {found.n_turns} turns; a threshold at a false-positive rate of {easiest:g} takes at "
            f"least {needed}: give more transcripts, or a higher target in fpr_targets."
        )
    return found


def with_neutral(folds: TurnFolds, neutral: NeutralTurns, n_folds: int) -> TurnFolds:
    """The tested turns, and behind them the neutral set once for each fold."""
    truth = folds.truth
    n_tested, n_each = len(truth.turns), neutral.n_turns
    n_added = n_each * n_folds
    first = int(truth.turns["conversation"].to_numpy().max(initial=-1)) + 1
    copies: list[pd.DataFrame] = []
    for number in range(n_folds):
        code = neutral.turns["conversation"] + first + number * len(neutral.given.transcripts)
        copies.append(
            pd.DataFrame({"conversation": code, "turn": neutral.turns["turn"], "transcript_id": ""})
        )
    shape = (n_added, truth.labels.shape[1])
    nothing = np.zeros(n_added, dtype=bool)
    return replace(
        folds,
        truth=TurnTruth(
            columns=truth.columns,
            turns=pd.concat([truth.turns, *copies], ignore_index=True),
            labels=np.concatenate([truth.labels, np.full(shape, -1, dtype=np.int8)]),
            in_positive=np.concatenate([truth.in_positive, np.zeros(shape, dtype=bool)]),
            neutral=np.concatenate([truth.neutral, nothing]),
        ),
        fold=np.concatenate([folds.fold, np.repeat(np.arange(n_folds), n_each)]),
        tuning=np.concatenate([np.zeros(n_tested, dtype=bool), ~nothing]),
    )


def _check_neutral(transcripts: Sequence[Transcript]) -> None:
    bad = [
        one.id
        for one in transcripts
        if one.all_indicators or one.misaligned_turns or one.is_misaligned is True
    ]
    if bad:
        raise DataError(
            f"{len(bad)} of {len(transcripts)} transcripts of the neutral set are labelled with an indicator or "
            f"judged misaligned, the first is {bad[0]!r}; thresholds need text that holds nothing: leave them out."
        )


def _check_apart(neutral: Sequence[Transcript], tested: Sequence[Transcript]) -> None:
    for what, of in (("id", _ids), ("scenario", _scenarios), ("messages", _texts)):
        known = set(of(tested))
        both = [one.id for one, key in zip(neutral, of(neutral), strict=True) if key in known]
        if both:
            raise DataError(
                f"{len(both)} of {len(neutral)} transcripts of the neutral set have the {what} of a tested one, the "
                f"first is {both[0]!r}; thresholds are tuned apart from the test data: leave them out of one."
            )


def _ids(transcripts: Sequence[Transcript]) -> list[str]:
    return [one.id for one in transcripts]


def _scenarios(transcripts: Sequence[Transcript]) -> list[str]:
    return list(group_names(transcripts))


def _texts(transcripts: Sequence[Transcript]) -> list[tuple[tuple[str, str, str], ...]]:
    return [
        tuple((message.role, message.reasoning, message.content) for message in one.messages)
        for one in transcripts
    ]
