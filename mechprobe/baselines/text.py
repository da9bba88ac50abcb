"""Scores from the text alone: its length, and its words. A probe that does not beat them reads words."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int8

from mechprobe.errors import ConfigError, ShapeError
from mechprobe.probes.estimators import Estimator, fit_selected, refit, scores_of
from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.logistic import fit_logistic
from mechprobe.probes.rows import HeldOutRows, LabelledRows, fittable

_WORD = r"(?u)\b\w+\b"
_MAX_TERMS = 30_000
_L2_STRENGTHS = (10.0, 1.0, 0.1, 0.01)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LabelledTexts:
    """Texts with their labels for every indicator: 1 positive, 0 negative, -1 left out.

    Raises:
        ShapeError: there is not one row of labels for each text.
    """

    texts: tuple[str, ...]
    labels: Int8[np.ndarray, "text indicator"]

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.labels):
            raise ShapeError(
                f"{len(self.texts)} texts come with {len(self.labels)} rows of labels; give one for each."
            )


@runtime_checkable
class TextScorer(Protocol):
    """Fit on some texts, choose on others, fit on both, score further ones: a score a text and indicator."""

    def __call__(
        self, fit: LabelledTexts, select: LabelledTexts | None, texts: Sequence[str]
    ) -> Float[np.ndarray, "text indicator"]:
        """See the class."""
        ...


def length_scores(
    fit: LabelledTexts, select: LabelledTexts | None, texts: Sequence[str]
) -> Float[np.ndarray, "text indicator"]:
    """Number of words, for every indicator; nothing is fitted."""
    del select
    n_words = np.array([len(text.split()) for text in texts], dtype=np.float64)
    return np.repeat(n_words[:, None], fit.labels.shape[1], axis=1)


def unigram_scores(
    fit: LabelledTexts, select: LabelledTexts | None, texts: Sequence[str]
) -> Float[np.ndarray, "text indicator"]:
    """Logistic regression on TF-IDF of single words: blind to their order (a weighted bag of words)."""
    return _tfidf_scores(fit, select, texts, longest=1)


def bigram_scores(
    fit: LabelledTexts, select: LabelledTexts | None, texts: Sequence[str]
) -> Float[np.ndarray, "text indicator"]:
    """Logistic regression on TF-IDF of words and pairs of neighbouring words."""
    return _tfidf_scores(fit, select, texts, longest=2)


TEXT_SCORERS: dict[str, TextScorer] = {
    "length": length_scores,
    "tfidf": unigram_scores,
    "tfidf_bigrams": bigram_scores,
}


def find_text_scorer(name: str) -> TextScorer:
    """The scorer of that name.

    Raises:
        ConfigError: there is none; the message lists those there are.
    """
    if name not in TEXT_SCORERS:
        raise ConfigError(f"unknown text scorer {name!r}; there are {', '.join(TEXT_SCORERS)}.")
    return TEXT_SCORERS[name]


def _tfidf_scores(
    fit: LabelledTexts, select: LabelledTexts | None, texts: Sequence[str], *, longest: int
) -> np.ndarray:
    """An indicator with one class in the fit texts, or all of them without words, scores 0."""
    # scikit-learn takes seconds to import, and evaluation tables are also read without it.
    from sklearn.feature_extraction.text import TfidfVectorizer

    scores = np.zeros((len(texts), fit.labels.shape[1]))
    columns = fittable(fit.labels)
    if not len(columns) or not any(re.search(_WORD, text) for text in fit.texts):
        return scores
    vectorizer = TfidfVectorizer(
        ngram_range=(1, longest),
        token_pattern=_WORD,
        max_features=_MAX_TERMS,
        sublinear_tf=True,
    )
    rows = LabelledRows(
        X=sp.csr_matrix(vectorizer.fit_transform(fit.texts)),
        labels=fit.labels[:, columns],
        indicators=tuple(f"column {column}" for column in columns),
    )
    held = select and HeldOutRows(
        X=sp.csr_matrix(vectorizer.transform(select.texts)), labels=select.labels[:, columns]
    )
    probes = fit_selected(_WORDS, rows, held)
    if held is not None:
        probes = refit(_WORDS, rows, held, probes)
    scores[:, columns] = scores_of(probes, sp.csr_matrix(vectorizer.transform(texts)))
    return scores


def _fit_words(
    rows: LabelledRows, strengths: Sequence[float], *, seed: int
) -> list[tuple[LinearProbe, ...]]:
    """Rows of TF-IDF have unit length, and rare words should stay small: no standardisation."""
    return [
        fit_logistic(rows, [strength], seed=seed, standardise=False)[0] for strength in strengths
    ]


_WORDS = Estimator(name="tfidf", reads="feature_acts", fit=_fit_words, strengths=_L2_STRENGTHS)
