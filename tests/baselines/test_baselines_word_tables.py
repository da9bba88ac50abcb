"""The words that drive a text baseline are the ones that were planted, and the table adds up."""

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from mechprobe.baselines.fold import BaselineFold
from mechprobe.baselines.passages import LabelledTexts
from mechprobe.baselines.word_tables import WORD_CHECK_COLUMNS, WORD_COLUMNS, driving_words
from mechprobe.errors import ConfigError, ShapeError

INDICATORS = ("hide", "copy", "always")
FILLERS = [f"filler{number}" for number in range(12)]


def worded(n: int, seed: int) -> LabelledTexts:
    """ "conceal" tells the first indicator, "upload" and "never" the second; all texts have the third."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, 3)) < 0.5).astype(np.int8)
    labels[:, 2] = 1
    texts = [
        " ".join(
            [
                *rng.choice(FILLERS, 5),
                *(["conceal"] if hides else []),
                "upload" if copies else "never",
            ]
        )
        for hides, copies, _ in labels
    ]
    return LabelledTexts(texts=tuple(texts), labels=labels)


FIT, SELECT, TEST = worded(150, 0), worded(60, 1), worded(80, 2)


@pytest.fixture(scope="module")
def found() -> tuple[pd.DataFrame, pd.DataFrame]:
    fold = BaselineFold(FIT, SELECT, TEST)
    return driving_words(fold, INDICATORS, ("tfidf", "tfidf_forest"), k=5)


def test_the_planted_words_come_first_and_push_to_their_side(
    found: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    words = found[0]
    assert tuple(words.columns) == WORD_COLUMNS
    for scorer in ("tfidf", "tfidf_forest"):
        ours = words[words["scorer"] == scorer].set_index("indicator")
        first = ours[ours["rank"] == 1]
        assert first.loc["hide", "word"] == "conceal" and first.loc["hide", "direction"] == 1
        both = ours.loc["copy"].set_index("word")["direction"]
        assert (both["upload"], both["never"]) == (1, -1)
        assert "always" not in ours.index


def test_counts_are_those_of_the_texts_with_the_word(
    found: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    row = found[0].set_index(["scorer", "indicator", "word"]).loc[("tfidf", "hide", "conceal")]
    n_positive = sum(int(part.labels[:, 0].sum()) for part in (FIT, SELECT))
    assert (row["n_positive"], row["n_negative"]) == (n_positive, 0)
    assert row["auroc"] == 1.0


def test_every_explanation_is_checked_and_agrees_with_single_words(
    found: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    checks = found[1]
    assert tuple(checks.columns) == WORD_CHECK_COLUMNS
    assert len(checks) == 4
    assert (checks["additivity"] < 1e-5).all()
    assert (checks["same_direction"] > 0.5).all()


def test_values_are_weight_times_distance_from_the_mean_text() -> None:
    """By scikit-learn directly, with the strength that is taken where nothing can be chosen."""
    words = driving_words(BaselineFold(FIT, None, TEST), INDICATORS, k=3)[0]
    vectorizer = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b", sublinear_tf=True)
    X = vectorizer.fit_transform(FIT.texts).toarray()
    oracle = LogisticRegression(C=10, tol=1e-8).fit(X, FIT.labels[:, 0])
    at = vectorizer.vocabulary_["conceal"]
    expected = np.abs(oracle.coef_[0, at] * (X[:, at] - X[:, at].mean())).mean()
    ours = words[(words["indicator"] == "hide") & (words["word"] == "conceal")]
    assert ours["shap"].item() == pytest.approx(expected, rel=0.02)


def test_test_texts_can_be_explained_instead() -> None:
    fold = BaselineFold(FIT, SELECT, TEST)
    words, checks = driving_words(fold, INDICATORS, test_labels=TEST.labels)
    row = words.set_index(["indicator", "word"]).loc[("hide", "conceal")]
    assert row["n_positive"] == int(TEST.labels[:, 0].sum())
    assert checks["n_positive"].tolist() == TEST.labels[:, :2].sum(axis=0).tolist()


def test_texts_without_words_give_empty_tables() -> None:
    silent = LabelledTexts(texts=("; ;",) * 150, labels=FIT.labels)
    words, checks = driving_words(BaselineFold(silent, None, TEST), INDICATORS)
    assert len(words) == len(checks) == 0
    assert tuple(words.columns) == WORD_COLUMNS


def test_scorers_without_words_and_unequal_labels_are_refused() -> None:
    fold = BaselineFold(FIT, SELECT, TEST)
    with pytest.raises(ConfigError, match="'length' is no scorer of words; there are tfidf"):
        driving_words(fold, INDICATORS, ("length",))
    with pytest.raises(ShapeError, match="2 indicators are named for labels of 3"):
        driving_words(fold, INDICATORS[:2])
    with pytest.raises(ShapeError, match="1 rows of labels come with 80 test texts"):
        driving_words(fold, INDICATORS, test_labels=TEST.labels[:1])
