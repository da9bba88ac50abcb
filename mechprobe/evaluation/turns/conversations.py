"""The conversations of a study of turns, labelled, folded and cut into units, prepared once for all scorers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool

from mechprobe.evaluation.folds import Fold
from mechprobe.evaluation.turns.neutral_turns import NeutralTurns, with_neutral
from mechprobe.evaluation.turns.scored_turns import TurnFolds
from mechprobe.probes.labels.examples import LabelledTokens
from mechprobe.probes.scoring.aggregation import View, ViewPoolings
from mechprobe.transcripts.transcript import Transcript


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


def _keys(turns: pd.DataFrame) -> pd.MultiIndex:
    columns = [turns[name].to_numpy(dtype=np.int64) for name in ("conversation", "turn")]
    return pd.MultiIndex.from_arrays(columns)
