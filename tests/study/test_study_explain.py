"""What drives scorers of planted conversations, and the best feature beside luck: the planted words and features."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from mechprobe.evaluation.folds import TokenSource, fit_fold
from mechprobe.evaluation.turns.conversations import Conversations
from mechprobe.evaluation.turns.explained_turns import explain_turn_features, explain_turn_words
from mechprobe.evaluation.turns.turn_config import TurnDetectionConfig
from mechprobe.evaluation.turns.turn_detection import prepare_turns
from mechprobe.study.explain import best_feature_table
from tests.evaluation.planted_conversations import (
    INDICATORS,
    Planted,
    conversations,
    span_table,
    word_tokens,
)


@pytest.fixture(scope="module")
def made() -> tuple[Conversations, TokenSource]:
    transcripts = conversations(60)
    tokens = word_tokens(transcripts)
    spans = span_table(tokens, transcripts)
    planted = Planted(tokens, spans)
    config = TurnDetectionConfig(n_folds=3, max_negatives=20)
    given = prepare_turns(tokens, spans, transcripts, INDICATORS, config)
    source = TokenSource(hook_name="hook", acts=planted.acts, features=planted.features)
    return given, source


def test_the_words_that_drive_text_are_those_that_endorse_and_refuse(
    made: tuple[Conversations, TokenSource],
) -> None:
    words, checks = explain_turn_words(made[0], ("tfidf",), k=6)
    mine = words[words["indicator"] == "misaligned"].set_index("word")
    assert set(mine.index) == {"i", "plan", "quietly", "never", "they", "want"}
    raised = set(mine.index[(mine["direction"] == 1).to_numpy()])
    assert raised == {"i", "plan", "quietly"}
    # Explained on turns that were not fitted on: a third of 59 talks of three turns.
    of_misaligned = checks.set_index("indicator").loc["misaligned"]
    assert (of_misaligned["n_positive"], of_misaligned["n_negative"]) == (10, 47)
    assert of_misaligned["same_direction"] == 1.0


def test_the_feature_that_drives_a_probe_is_the_planted_one(
    made: tuple[Conversations, TokenSource],
) -> None:
    given, source = made
    fitted = list(fit_fold(given.folds[0], given.labelled, source, ("sae_logistic",)))
    [probes] = [one.probes for one in fitted if one.probes.scorer == "sae_logistic"]
    features, checks = explain_turn_features(given, probes, source, k=3)
    for at, indicator in enumerate(INDICATORS):
        first = features[(features["indicator"] == indicator) & (features["rank"] == 1)].iloc[0]
        assert (first["feature"], first["direction"]) == (at, 1) and first["auroc"] > 0.95
    assert (checks["additivity"] < 1e-3).all()


def test_the_best_feature_is_found_and_luck_is_no_better_than_chance_allows(
    made: tuple[Conversations, TokenSource],
) -> None:
    given, source = made
    assert source.features is not None
    found = best_feature_table(given.labelled, source.features, n_permutations=200).set_index(
        "indicator"
    )
    assert found.loc[list(INDICATORS), "feature"].tolist() == [0, 1]
    assert (found["p_holm"] < 0.05).all() and (found["auroc"] > found["by_luck"] + 0.1).all()
    noise = np.random.default_rng(3).random((len(word_tokens(conversations(60))), 8))
    blind = best_feature_table(
        given.labelled, lambda rows: sp.csr_matrix(noise[rows]), n_permutations=200
    )
    distance: pd.Series = (blind["auroc"] - 0.5).abs()
    assert (blind["p_holm"] > 0.05).all() and (distance < 0.1).all()
