import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from mechprobe.baselines.judges import judge_scores
from mechprobe.baselines.shuffled import shuffle_labels
from mechprobe.baselines.text import (
    LabelledTexts,
    bigram_scores,
    find_text_scorer,
    length_scores,
    unigram_scores,
)
from mechprobe.baselines.tokens import token_identity_scores
from mechprobe.errors import ConfigError, ShapeError
from mechprobe.probes.rows import LabelledRows
from mechprobe.transcripts.transcript import Message, Transcript, number_turns

FRAMES = ("i plan to", "they refuse to")


def matched_pairs(n_pairs: int, seed: int) -> LabelledTexts:
    """Two clauses of which one is endorsed; the twin swaps the frames: the same words, the other label."""
    rng = np.random.default_rng(seed)
    texts, labels = [], []
    for _ in range(n_pairs):
        first, second = rng.choice(["hide", "copy", "alter", "delay", "blame"], 2, replace=False)
        for label in (1, 0):
            frames = FRAMES if label else FRAMES[::-1]
            texts.append(f"{frames[0]} {first} records ; {frames[1]} {second} records ;")
            labels.append([label])
    return LabelledTexts(texts=tuple(texts), labels=np.array(labels, dtype=np.int8))


def worded_texts(n: int, seed: int) -> LabelledTexts:
    """The second indicator is told by a word, the first by nothing."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, 2)) < 0.5).astype(np.int8)
    fillers = rng.choice(["red", "green", "blue", "grey"], size=(n, 6))
    texts = [
        " ".join([*words, *(["sabotage"] if label else [])])
        for words, label in zip(fillers, labels[:, 1], strict=True)
    ]
    return LabelledTexts(texts=tuple(texts), labels=labels)


def test_single_words_cannot_tell_matched_pairs_apart_and_pairs_of_words_can() -> None:
    fit, test = matched_pairs(60, 0), matched_pairs(40, 1)
    y = test.labels[:, 0]
    assert roc_auc_score(y, unigram_scores(fit, None, test.texts)[:, 0]) == 0.5
    assert roc_auc_score(y, bigram_scores(fit, None, test.texts)[:, 0]) == 1.0


def test_single_words_learned_elsewhere_still_tie_on_matched_pairs() -> None:
    fit = worded_texts(80, 0)
    told = LabelledTexts(
        texts=(*fit.texts, "i plan to hide records", "they refuse to copy records"),
        labels=np.concatenate([fit.labels[:, 1:], [[1], [0]]]).astype(np.int8),
    )
    test = matched_pairs(40, 1)
    scores = unigram_scores(told, None, test.texts)[:, 0]
    assert np.ptp(scores) > 0
    assert roc_auc_score(test.labels[:, 0], scores) == 0.5


def test_a_telling_word_is_found_for_its_indicator_only() -> None:
    fit, select, test = (worded_texts(n, seed) for n, seed in ((120, 0), (60, 1), (200, 2)))
    scores = unigram_scores(fit, select, test.texts)
    assert roc_auc_score(test.labels[:, 1], scores[:, 1]) == 1.0
    assert roc_auc_score(test.labels[:, 0], scores[:, 0]) == pytest.approx(0.5, abs=0.12)


def test_scores_are_those_of_scikit_learns_pipeline() -> None:
    fit, test = worded_texts(120, 0), worded_texts(50, 1)
    words = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b", sublinear_tf=True)
    X = words.fit_transform(fit.texts)
    # Without select texts the middle candidate, 0.1 = 1 / C, is used.
    oracle = LogisticRegression(C=10, tol=1e-8).fit(X, fit.labels[:, 1])
    ours = unigram_scores(fit, None, test.texts)[:, 1]
    expected = oracle.decision_function(words.transform(test.texts))
    np.testing.assert_allclose(ours, expected, atol=0.02)


def test_an_indicator_or_a_text_without_anything_to_learn_scores_zero() -> None:
    fit = LabelledTexts(texts=("a b", "b c"), labels=np.array([[1, 1], [0, 1]], dtype=np.int8))
    scores = unigram_scores(fit, None, ["a a", "zzz"])
    assert (scores[:, 1] == 0).all() and scores[0, 0] > 0
    wordless = LabelledTexts(texts=("; ;", "."), labels=fit.labels)
    assert (bigram_scores(wordless, None, ["."]) == 0).all()


def test_length_counts_words_for_every_indicator() -> None:
    fit = worded_texts(3, 0)
    assert length_scores(fit, None, ["one two", ""]).tolist() == [[2.0, 2.0], [0.0, 0.0]]


def test_unknown_scorers_and_unequal_labels_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown text scorer 'bert'; there are length, tfidf"):
        find_text_scorer("bert")
    with pytest.raises(ShapeError, match="1 texts come with 2 rows"):
        LabelledTexts(texts=("a",), labels=np.zeros((2, 1), dtype=np.int8))


def test_token_identity_is_the_smoothed_log_odds_and_zero_for_new_tokens() -> None:
    ids = np.array([5, 5, 5, 6, 6, 7])
    labels = np.array([[1], [1], [0], [0], [0], [-1]], dtype=np.int8)
    scores = token_identity_scores(ids, labels, np.array([5, 6, 7, 99]))[:, 0]
    # 2 positives and 3 negatives in all: one smoothing count is shared out as 0.4 and 0.6.
    assert scores[0] == pytest.approx(np.log((2.4 / 2) / (1.6 / 3)))
    assert scores[1] == pytest.approx(np.log((0.4 / 2) / (2.6 / 3)))
    assert scores[2:] == pytest.approx([0.0, 0.0])


def test_shuffled_labels_keep_their_counts_and_the_rows_left_out() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice([-1, 0, 1], size=(50, 2)).astype(np.int8)
    rows = LabelledRows(
        X=rng.normal(size=(50, 3)).astype(np.float32), labels=labels, indicators=("a", "b")
    )
    shuffled = shuffle_labels(rows, seed=1)
    assert (shuffled.n_pos == rows.n_pos).all()
    assert ((shuffled.labels == -1) == (labels == -1)).all()
    assert not np.array_equal(shuffled.labels, labels)
    assert np.array_equal(shuffle_labels(rows, seed=1).labels, shuffled.labels)


def test_judges_scores_are_lined_up_with_the_turns() -> None:
    talk = [Message(role=role) for role in ("user", "assistant", "user", "assistant")]
    transcript = Transcript(
        id="a", messages=number_turns(talk), scores={"haiku": {1: 7.0}, "qwen": {2: 3.0}}
    )
    turns = pd.DataFrame({"conversation": [0, 0], "turn": [1, 2]})
    found = judge_scores([transcript], turns)
    np.testing.assert_equal(
        found, {"haiku": np.array([7.0, np.nan]), "qwen": np.array([np.nan, 3.0])}
    )
