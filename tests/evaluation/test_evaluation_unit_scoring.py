"""Estimators of every kind in one study of turns, and thresholds that are tuned on a neutral set of its own."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from mechprobe.baselines.tokens import TOKEN_BASELINES
from mechprobe.errors import ConfigError, DataError
from mechprobe.evaluation.folds import TokenSource
from mechprobe.evaluation.turns.neutral_turns import NeutralSet
from mechprobe.evaluation.turns.turn_config import TurnDetectionConfig
from mechprobe.evaluation.turns.turn_detection import study_turns
from mechprobe.evaluation.turns.turn_tables import TurnStudy
from mechprobe.evaluation.turns.unit_scoring import evenly_spaced
from mechprobe.transcripts.transcript import Transcript
from tests.evaluation.planted_conversations import (
    INDICATORS,
    Planted,
    conversations,
    span_table,
    word_tokens,
)

HOOK = "blocks.4.hook_out"
UNITS = ("dense_attention", "dense_softmax", "sae_ema")
CONFIG = TurnDetectionConfig(
    estimators=("dense_logistic", *UNITS, *TOKEN_BASELINES),
    text_scorers=("length", "tfidf"),
    fusions=("fused", "or_tuned", "noisy_or"),
    views=("full",),
    n_folds=3,
    n_boot=50,
    max_negatives=20,
    fpr_targets=(0.05, 0.2),
    unit_tokens=8,
)


def source_of(tokens: pd.DataFrame, spans: pd.DataFrame) -> TokenSource:
    planted = Planted(tokens, spans)
    return TokenSource(hook_name=HOOK, acts=planted.acts, features=planted.features)


def neutral_set(n: int) -> NeutralSet:
    """Other talks than the tested ones, none of which holds anything."""
    clean = [one for one in conversations(2 * n + 2) if not one.spans and not one.excluded][:n]
    clean = [
        replace(
            one,
            id=f"apart {at}",
            group=f"apart {at}",
            messages=(replace(one.messages[0], content=f"go on {at}"), *one.messages[1:]),
        )
        for at, one in enumerate(clean)
    ]
    tokens = word_tokens(clean)
    rng = np.random.default_rng(5)
    X = rng.normal(size=(len(tokens), 8)).astype(np.float32)
    source = TokenSource(
        hook_name=HOOK, acts=lambda rows: X[rows], features=lambda rows: sparse(X[rows])
    )
    return NeutralSet(tokens=tokens, transcripts=clean, sources={HOOK: source})


def sparse(X: np.ndarray) -> sp.csr_matrix:
    return sp.csr_matrix(np.maximum(X - 1, 0))


def study(config: TurnDetectionConfig, neutral: NeutralSet | None = None) -> TurnStudy:
    transcripts = conversations(60)
    tokens = word_tokens(transcripts)
    spans = span_table(tokens, transcripts)

    def vectors(token_ids: np.ndarray):
        table = np.random.default_rng(1).normal(size=(100, 6)).astype(np.float32)
        return lambda rows: table[token_ids[rows]]

    return study_turns(
        tokens,
        spans,
        transcripts,
        INDICATORS,
        source_of(tokens, spans),
        config,
        token_vectors=vectors,
        neutral=neutral,
    )


@pytest.fixture(scope="module")
def with_neutral() -> TurnStudy:
    return study(CONFIG, neutral_set(20))


@pytest.fixture(scope="module")
def without() -> TurnStudy:
    return study(replace(CONFIG, fusions=("fused",)))


def turns_of(found: TurnStudy) -> pd.Series:
    table = found.detection.table
    here = (table["indicator"] == "misaligned") & (table["unit"] == "turn")
    return table[here].set_index("scorer")["auroc"]


def test_probes_of_turns_and_baselines_at_tokens_stand_in_one_table(without: TurnStudy) -> None:
    aurocs = turns_of(without)
    # The planted direction rises over the tokens of a held clause: every probe of a turn finds it.
    assert (aurocs[list(UNITS)] > 0.95).all()
    # The words of a held and of a refused clause differ, and the second turn, which may hold one, is known by its place.
    assert aurocs["token_identity"] > 0.95 and aurocs["token_embedding"] > 0.9
    assert 0.7 < aurocs["token_position"] < aurocs["token_identity"]
    hooks = without.detection.table.drop_duplicates("scorer").set_index("scorer")["hook_name"]
    assert (hooks[list(UNITS)] == HOOK).all() and (hooks[list(TOKEN_BASELINES)] == "").all()
    stored = {one.scorer for one in without.detection.bank.sets}
    assert set(UNITS) <= stored and not stored & set(TOKEN_BASELINES)


def test_a_neutral_set_changes_thresholds_and_nothing_else(
    with_neutral: TurnStudy, without: TurnStudy
) -> None:
    own, others = turns_of(with_neutral), turns_of(without)
    for name in ("dense_logistic", "dense_attention", "tfidf", "dense_logistic_fused"):
        assert own[name] == pytest.approx(others[name])
    assert set(with_neutral.detection.scores["transcript_id"]) == set(
        without.detection.scores["transcript_id"]
    )
    counts = ["n_pos", "n_neg"]
    keys = ["indicator", "scorer", "hook_name", "unit", "fpr_target"]
    both = with_neutral.thresholds.merge(without.thresholds, on=keys, suffixes=("", "_folds"))
    assert (both[counts].to_numpy() == both[[f"{name}_folds" for name in counts]].to_numpy()).all()
    # 20 talks of 3 turns, each scored by every fold's detectors.
    turns = both[(both["unit"] == "turn") & (both["refused"] == "")]
    assert (turns["n_neutral"] == 60).all() and len(turns)
    probe = turns[(turns["scorer"] == "dense_logistic") & (turns["indicator"] == "misaligned")]
    assert (probe["fpr_neutral"] <= probe["fpr_target"]).all() and (probe["tpr"] > 0.9).all()


def test_a_neutral_set_must_be_neutral_apart_and_large_enough() -> None:
    config = replace(CONFIG, estimators=("dense_logistic",), text_scorers=(), fusions=())
    good = neutral_set(20)

    def altered(**changes: object) -> NeutralSet:
        first, *rest = good.transcripts
        return replace(good, transcripts=[replace(first, **changes), *rest])  # type: ignore[arg-type]

    with pytest.raises(DataError, match="1 of 20 transcripts of the neutral set are labelled"):
        study(config, altered(misaligned_turns=frozenset({1})))
    with pytest.raises(DataError, match="have the id of a tested one, the first is 'talk 3'"):
        study(config, altered(id="talk 3"))
    with pytest.raises(DataError, match="have the scenario of a tested one"):
        study(config, altered(group="scenario 1"))
    same: Transcript = conversations(60)[1]
    with pytest.raises(DataError, match="have the messages of a tested one"):
        study(config, altered(messages=same.messages))
    with pytest.raises(DataError, match=r"has 60 turns; .* rate of 0.01 takes at least 99"):
        study(replace(config, fpr_targets=(0.01,)), good)


def test_a_study_says_which_estimators_there_are() -> None:
    with pytest.raises(ConfigError, match=r"unknown estimator .svm.; there are dense_logistic, "):
        replace(CONFIG, estimators=("svm",))
    with pytest.raises(ConfigError, match="'dense_ema' is asked for twice"):
        replace(CONFIG, estimators=("dense_ema", "dense_ema"))
    with pytest.raises(ConfigError, match="unit_tokens is 0"):
        replace(CONFIG, unit_tokens=0)


def test_evenly_spaced_rows_are_of_each_run_and_begin_with_its_first() -> None:
    kept, sizes = evenly_spaced(np.array([2, 7, 1]), 3)
    # 0, 1 of the first run; of seven rows those at 0, 7/3 and 14/3, rounded up; the last run whole.
    assert kept.tolist() == [0, 1, 2, 5, 7, 9] and sizes.tolist() == [2, 3, 1]
    every, lengths = evenly_spaced(np.array([2, 3]), None)
    assert every.tolist() == [0, 1, 2, 3, 4] and lengths.tolist() == [2, 3]
