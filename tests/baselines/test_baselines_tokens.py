"""What a probe could read at a token without what the model computes: the token, its place, its embedding."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from mechprobe.baselines.passages import places_of_rows, places_of_turns, tokens_of_turns
from mechprobe.baselines.tokens import (
    fit_token_identity,
    one_hot_tokens,
    position_numbers,
    score_tokens,
    token_baselines,
    token_identity_scores,
)
from mechprobe.errors import ShapeError
from mechprobe.probes.estimators import fit_selected
from mechprobe.probes.labels.examples import OTHER, SPAN, LabelledTokens
from mechprobe.probes.rows import LabelledRows

TOKENS = pd.DataFrame(
    {
        "conversation": [0, 0, 0, 0, 1, 1],
        "turn": [1, 1, 2, 2, 1, 3],
        "token_id": [7, 7, 9, 3, 3, 7],
    }
)


def test_token_identity_is_the_smoothed_log_odds_and_zero_for_new_tokens() -> None:
    ids = np.array([5, 5, 5, 6, 6, 7])
    labels = np.array([[1], [1], [0], [0], [0], [-1]], dtype=np.int8)
    scores = token_identity_scores(ids, labels, np.array([5, 6, 7, 99]))[:, 0]
    # 2 positives and 3 negatives in all: one smoothing count is shared out as 0.4 and 0.6.
    assert scores[0] == pytest.approx(np.log((2.4 / 2) / (1.6 / 3)))
    assert scores[1] == pytest.approx(np.log((0.4 / 2) / (2.6 / 3)))
    assert scores[2:] == pytest.approx([0.0, 0.0])


def test_the_identity_probe_on_one_hot_rows_scores_as_the_counts_do() -> None:
    rng = np.random.default_rng(0)
    ids, labels = rng.integers(0, 9, 200), rng.choice([-1, 0, 1], (200, 2)).astype(np.int8)
    rows = LabelledRows(X=one_hot_tokens(ids), labels=labels, indicators=("a", "b"))
    probes = fit_token_identity(rows, [1.0])[0]
    expected = token_identity_scores(ids, labels, ids)
    for at, probe in enumerate(probes):
        np.testing.assert_allclose(probe.score(rows.X), expected[:, at], atol=1e-6)


def test_a_token_that_the_fit_rows_lack_scores_zero() -> None:
    X = one_hot_tokens(np.array([1, 2, 5]))
    labels = np.array([[1], [0], [-1]], dtype=np.int8)
    probe = fit_token_identity(LabelledRows(X=X, labels=labels, indicators=("a",)))[0][0]
    assert probe.score(X)[2] == 0 and probe.score(X)[0] > 0 > probe.score(X)[1]


def test_one_hot_rows_have_a_column_for_each_kind_of_token() -> None:
    expected = [[0, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0], [1, 0, 0], [0, 1, 0]]
    assert one_hot_tokens(TOKENS["token_id"].to_numpy()).toarray().tolist() == expected


def test_places_count_from_the_start_of_turn_and_conversation() -> None:
    places = places_of_rows(TOKENS, np.arange(6))
    assert places.turn.tolist() == [1, 1, 2, 2, 1, 3]
    assert places.token_in_turn.tolist() == [0, 1, 0, 1, 0, 0]
    assert places.token_in_transcript.tolist() == [0, 1, 2, 3, 0, 1]
    np.testing.assert_allclose(position_numbers(TOKENS)[3], np.log1p([2, 1, 3]), rtol=1e-6)


def test_turns_stand_where_their_first_token_stands() -> None:
    turns = pd.DataFrame({"conversation": [1, 0, 1], "turn": [3, 2, 1]})
    places = places_of_turns(TOKENS, turns)
    assert places.turn.tolist() == [3, 2, 1]
    assert places.token_in_turn.tolist() == [0, 0, 0]
    assert places.token_in_transcript.tolist() == [1, 2, 0]
    assert tokens_of_turns(TOKENS, turns).tolist() == [1, 2, 1]
    with pytest.raises(ShapeError, match="turn 9 of conversation 1 has no stored token"):
        places_of_turns(TOKENS, pd.DataFrame({"conversation": [1], "turn": [9]}))
    nowhere = pd.DataFrame({"conversation": [1], "turn": [9]})
    assert tokens_of_turns(TOKENS, nowhere).tolist() == [0]


def test_each_token_baseline_finds_what_it_alone_can_read() -> None:
    rng = np.random.default_rng(0)
    n_talks, length = 30, 20
    tokens = pd.DataFrame(
        {
            "conversation": np.repeat(np.arange(n_talks), length),
            "turn": 1,
            "token_id": rng.integers(0, 6, n_talks * length),
        }
    )
    table = rng.normal(size=(6, 4)).astype(np.float32)
    ids = tokens["token_id"].to_numpy()
    baselines = {one.name: one for one in token_baselines(tokens, lambda rows: table[ids[rows]])}
    late = np.tile(np.arange(length) >= 10, n_talks)
    labels = np.stack([ids == 4, late], axis=1).astype(np.int8)
    fit, test = np.arange(400), np.arange(400, 600)
    found = {}
    for name, one in baselines.items():
        rows = LabelledRows(X=one.rows(fit), labels=labels[fit], indicators=("four", "late"))
        probes = fit_selected(one.estimator, rows, None)
        found[name] = [
            roc_auc_score(labels[test, at], probe.score(one.rows(test)))
            for at, probe in enumerate(probes)
        ]
    assert found["token_identity"][0] == found["token_embedding"][0] == 1.0
    assert found["token_position"][1] == 1.0
    for name, at in (("token_identity", 1), ("token_embedding", 1), ("token_position", 0)):
        assert found[name][at] == pytest.approx(0.5, abs=0.12)
    assert [one.name for one in token_baselines(tokens)] == ["token_identity", "token_position"]


def test_the_embedding_layer_probe_is_scikit_learns_on_token_embeddings() -> None:
    rng = np.random.default_rng(1)
    ids, table = rng.integers(0, 40, 300), rng.normal(size=(40, 3)).astype(np.float32)
    tokens = pd.DataFrame({"conversation": 0, "turn": 1, "token_id": ids})
    one = token_baselines(tokens, lambda rows: table[ids[rows]])[-1]
    labels = (table[ids, 0] + rng.normal(size=300) > 0).astype(np.int8)
    X = one.rows(np.arange(300))
    rows = LabelledRows(X=X, labels=labels[:, None], indicators=("a",))
    ours = one.estimator.fit(rows, [1.0], seed=0)[0][0].score(X)
    Z = (X - X.mean(0)) / X.std(0)
    theirs = LogisticRegression(C=1.0, tol=1e-8).fit(Z, labels).decision_function(Z)
    np.testing.assert_allclose(ours, theirs, atol=5e-3)


def test_rows_of_the_identity_baseline_stay_sparse() -> None:
    baseline = token_baselines(TOKENS)[0]
    assert isinstance(baseline.rows(np.array([0, 5])), sp.csr_matrix)


def test_tokens_are_scored_for_every_indicator_and_zero_where_nothing_can_be_fitted() -> None:
    rng = np.random.default_rng(0)
    n = 300
    tokens = pd.DataFrame(
        {"conversation": 0, "turn": 1, "token_id": rng.integers(0, 5, n)}, index=np.arange(n)
    )
    kinds = np.full((n, 2), OTHER, dtype=np.int8)
    kinds[tokens["token_id"] == 2, 0] = SPAN
    labelled = LabelledTokens(
        rows=np.arange(n),
        kinds=kinds,
        conversation=np.repeat([0, 1, 2], 100),
        indicators=("a", "b"),
    )
    identity = token_baselines(tokens)[0]
    parts = [labelled.take(labelled.conversation == at) for at in range(3)]
    scores = score_tokens(identity, parts[0], parts[1], parts[2].rows)
    assert roc_auc_score(parts[2].labels[:, 0], scores[:, 0]) == 1.0
    assert (scores[:, 1] == 0).all()
    # With the select tokens fitted on too, these are the counts of both.
    both = labelled.take(labelled.conversation < 2)
    ids = tokens["token_id"].to_numpy()
    expected = token_identity_scores(ids[both.rows], both.labels[:, :1], ids[parts[2].rows])
    np.testing.assert_allclose(scores[:, :1], expected, atol=1e-6)
    alone = score_tokens(identity, parts[0], None, parts[2].rows)
    assert alone.shape == (100, 2) and not np.array_equal(alone, scores)
