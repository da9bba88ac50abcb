"""What drives scorers of turns: the words of text baselines and the features of probes, on turns that neither was fitted on.

Text baselines are fitted on the first fold's turns, and the probes are those of the bank, which are of the same fold.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mechprobe.baselines.fold import BaselineFold
from mechprobe.baselines.word_tables import driving_words
from mechprobe.evaluation.folds import TokenSource
from mechprobe.evaluation.turns.conversations import Conversations
from mechprobe.evaluation.turns.text_scoring import passages_of
from mechprobe.probes.explaining.explained_sets import explain_set
from mechprobe.probes.probe_set import ProbeSet


def explain_turn_words(
    given: Conversations, scorers: Sequence[str], *, k: int = 20, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The words and the checks of `driving_words`, explained on the first fold's test turns."""
    truth, fold = given.turns.truth, given.folds[0]
    conversation = truth.turns["conversation"].to_numpy()
    has_label = (truth.labels >= 0).any(axis=1)
    fit, select, test = (
        np.flatnonzero(part[conversation] & has_label)
        for part in (fold.fit, fold.select, fold.test)
    )
    passages = passages_of(given, "full")
    return driving_words(
        BaselineFold(passages.take(fit), passages.take(select), passages.without_labels(test)),
        truth.columns,
        scorers,
        test_labels=truth.labels[test],
        k=k,
        seed=seed,
    )


def explain_turn_features(
    given: Conversations, one: ProbeSet, source: TokenSource, *, k: int = 20
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The features and the checks of `explain_set`, explained on the first fold's labelled test tokens."""
    labelled = given.labelled.take(given.folds[0].test[given.labelled.conversation])
    columns = [labelled.indicators.index(name) for name in one.indicators]
    X = source.read(one.reads, labelled.rows)
    return explain_set(one, X, labelled.labels[:, columns], k=k)
