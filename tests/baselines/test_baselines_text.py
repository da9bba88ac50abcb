import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from mechprobe.baselines.fold import BaselineFold
from mechprobe.baselines.passages import LabelledTexts, Passages
from mechprobe.baselines.text import (
    BASELINES,
    find_baseline,
    find_text_scorer,
    score_baselines,
)
from mechprobe.baselines.words import count_rows, tfidf_rows
from mechprobe.errors import ConfigError, ShapeError

length_scores, unigram_scores, bigram_scores = (
    find_text_scorer(name) for name in ("length", "tfidf", "tfidf_bigrams")
)

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


def test_unknown_scorers_and_unequal_labels_are_refused() -> None:
    with pytest.raises(
        ConfigError, match="unknown text scorer 'bert'; there are length, length_ch"
    ):
        find_text_scorer("bert")
    with pytest.raises(ConfigError, match="unknown baseline 'bert'; there are length"):
        find_baseline("bert")
    # A scorer of texts alone cannot know a place.
    with pytest.raises(ConfigError, match="unknown text scorer 'turn_number'"):
        find_text_scorer("turn_number")
    with pytest.raises(ShapeError, match="1 texts come with 2 rows"):
        LabelledTexts(texts=("a",), labels=np.zeros((2, 1), dtype=np.int8))


def test_word_counts_are_the_logarithms_of_counts_and_show_length() -> None:
    fit = LabelledTexts(texts=("a a b", "b"), labels=np.array([[1], [0]], dtype=np.int8))
    rows = count_rows(BaselineFold(fit, None, Passages(texts=("a b b b zzz",))))
    assert rows.names == ("a", "b")
    np.testing.assert_allclose(rows.fit.toarray(), np.log1p([[2, 1], [0, 1]]))
    np.testing.assert_allclose(rows.test.toarray(), np.log1p([[1, 3]]))


def test_words_and_their_weights_are_learned_from_the_fit_texts_alone() -> None:
    fit, select = worded_texts(40, 0), worded_texts(20, 1)
    strange = LabelledTexts(texts=("unheard",) * 20, labels=select.labels)
    for longest in (1, 2):
        plain = tfidf_rows(BaselineFold(fit, select, select), longest=longest)
        other = tfidf_rows(BaselineFold(fit, strange, strange), longest=longest)
        assert plain.names == other.names
        np.testing.assert_array_equal(plain.fit.toarray(), other.fit.toarray())
        assert other.test.nnz == 0


def test_texts_are_vectorised_once_for_all_baselines_that_read_them(monkeypatch) -> None:
    fits = []
    plain = TfidfVectorizer.fit_transform

    def counted(self: TfidfVectorizer, texts: list[str]) -> object:
        fits.append(self.ngram_range)
        return plain(self, texts)

    monkeypatch.setattr(TfidfVectorizer, "fit_transform", counted)
    fold = BaselineFold(worded_texts(40, 0), worded_texts(20, 1), worded_texts(9, 2))
    readers = [name for name in BASELINES if name.startswith("tfidf") and name != "tfidf_bigrams"]
    first = score_baselines(readers, fold)
    again = score_baselines(readers, fold)
    assert fits == [(1, 1)]
    for name in readers:
        np.testing.assert_array_equal(first[name], again[name])


@given(st.permutations(["i", "plan", "to", "quietly", "hide", "records"]))
@settings(max_examples=20, deadline=None)
def test_the_order_of_words_does_not_change_scores_of_single_words(words: list[str]) -> None:
    fit = matched_pairs(20, 0)
    told = LabelledTexts(
        texts=(*fit.texts, "hide hide", "records"),
        labels=np.concatenate([fit.labels, [[1], [0]]]).astype(np.int8),
    )
    texts = (" ".join(words), "i plan to quietly hide records")
    for name in ("tfidf", "word_counts"):
        scores = find_text_scorer(name)(told, None, texts)
        assert scores[0] == pytest.approx(scores[1], abs=1e-6)
