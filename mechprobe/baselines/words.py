"""Baselines that read words: which stand in a text, and how often. A probe that does not beat them reads words."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float

from mechprobe.baselines.fold import Baseline, BaselineFold, FoldRows, fit_and_score
from mechprobe.baselines.forest import MIN_IN_LEAF, fit_forest
from mechprobe.probes.estimators import Estimator, Fit, RowEstimator
from mechprobe.probes.kinds.boosted import fit_boosted
from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.matrix import Matrix, n_nonzero
from mechprobe.probes.probe import Probe
from mechprobe.probes.rows import LabelledRows
from mechprobe.probes.solving.logistic import fit_logistic

_WORD = r"(?u)\b\w+\b"
_MAX_TERMS = 30_000
_L2_STRENGTHS = (10.0, 1.0, 0.1, 0.01)
_COUNT_STRENGTHS = (3000.0, 300.0, 30.0)
"""A text's row of counts is some 20 times as long as its row of TF-IDF, so the penalty is some 400 times as strong."""
_N_ROUNDS = (8.0, 16.0, 32.0, 64.0)
_MIN_TEXTS = 10
"""A boosted tree has at least as many texts in a leaf, so it cannot single out a rarer word."""


def tfidf_rows(fold: BaselineFold, *, longest: int = 1) -> FoldRows:
    """TF-IDF of words (and of runs of up to `longest` of them) with logarithmic counts, rows of unit length.

    Words and their weights are learned from the fit texts; where none of those has a word there is no column.
    """
    return fold.rows(f"tfidf {longest}", lambda fold: _vectorise(fold, longest=longest))


def count_rows(fold: BaselineFold) -> FoldRows:
    """log(1 + count) of each word: unlike TF-IDF it shows how long the text is."""
    return fold.rows("word counts", lambda fold: _vectorise(fold, longest=1, is_count=True))


def frequent_rows(fold: BaselineFold) -> FoldRows:
    """The TF-IDF of words that stand in enough fit texts for a tree to split on them."""
    return fold.rows("frequent words", _frequent)


def _frequent(fold: BaselineFold) -> FoldRows:
    every = tfidf_rows(fold)
    kept = np.flatnonzero(n_nonzero(every.fit) >= _MIN_TEXTS)

    def take(X: Matrix) -> Matrix:
        return sp.csr_matrix(X[:, kept])

    return FoldRows(
        fit=take(every.fit),
        select=None if every.select is None else take(every.select),
        test=take(every.test),
        names=tuple(every.names[at] for at in kept),
    )


def _vectorise(fold: BaselineFold, *, longest: int, is_count: bool = False) -> FoldRows:
    # scikit-learn takes seconds to import, and evaluation tables are also read without it.
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

    if not any(re.search(_WORD, text) for text in fold.fit.texts):
        empty = [sp.csr_matrix((len(part.texts), 0)) for part in fold.parts]
        select = None if fold.select is None else empty[1]
        return FoldRows(fit=empty[0], select=select, test=empty[-1], names=())
    settings: dict[str, Any] = {
        "ngram_range": (1, longest),
        "token_pattern": _WORD,
        "max_features": _MAX_TERMS,
    }
    words = (
        CountVectorizer(**settings) if is_count else TfidfVectorizer(**settings, sublinear_tf=True)
    )
    matrices = [sp.csr_matrix(words.fit_transform(fold.fit.texts), dtype=np.float64)]
    names = tuple(words.get_feature_names_out())
    for part in fold.parts[1:]:
        # scikit-learn refuses to weigh the words of no text.
        found = words.transform(part.texts) if len(part.texts) else (0, len(names))
        matrices.append(sp.csr_matrix(found, dtype=np.float64))
    if is_count:
        for X in matrices:
            X.data = np.log1p(X.data)
    return FoldRows(
        fit=matrices[0],
        select=None if fold.select is None else matrices[1],
        test=matrices[-1],
        names=names,
    )


def _fit_unscaled(
    rows: LabelledRows, strengths: Sequence[float], *, seed: int
) -> list[tuple[LinearProbe, ...]]:
    """Rows of TF-IDF have unit length, and rare words should stay small: no standardisation."""
    return [
        fit_logistic(rows, [strength], seed=seed, standardise=False)[0] for strength in strengths
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class WordScorer:
    """An estimator, and the numbers of a fold's words that it reads: what a word baseline is made of."""

    name: str
    about: str
    estimator: RowEstimator[Probe]
    rows: Callable[[BaselineFold], FoldRows]

    def score(self, fold: BaselineFold, *, seed: int) -> Float[np.ndarray, "text indicator"]:
        """Scores of the fold's test texts."""
        return fit_and_score(self.estimator, fold, self.rows(fold), seed=seed)


def _estimator(
    name: str, fit: Fit[LabelledRows, Probe], strengths: Sequence[float]
) -> RowEstimator[Probe]:
    return Estimator(name=name, reads="feature_acts", fit=fit, strengths=tuple(strengths))


_LOGISTIC = _estimator("tfidf", _fit_unscaled, _L2_STRENGTHS)

WORD_SCORERS: dict[str, WordScorer] = {
    scorer.name: scorer
    for scorer in (
        WordScorer(
            name="tfidf",
            about="logistic regression on TF-IDF of single words, blind to their order",
            estimator=_LOGISTIC,
            rows=tfidf_rows,
        ),
        WordScorer(
            name="tfidf_bigrams",
            about="logistic regression on TF-IDF of words and pairs of neighbouring words",
            estimator=_LOGISTIC,
            rows=lambda fold: tfidf_rows(fold, longest=2),
        ),
        WordScorer(
            name="word_counts",
            about="logistic regression on the logarithm of how often each word occurs",
            estimator=_estimator("word_counts", _fit_unscaled, _COUNT_STRENGTHS),
            rows=count_rows,
        ),
        WordScorer(
            name="tfidf_forest",
            about="random forest on TF-IDF of single words",
            estimator=_estimator("forest", fit_forest, MIN_IN_LEAF),
            rows=frequent_rows,
        ),
        WordScorer(
            name="tfidf_boosted",
            about="gradient-boosted trees (LightGBM) on TF-IDF of single words",
            estimator=_estimator("boosted", fit_boosted, _N_ROUNDS),
            rows=frequent_rows,
        ),
    )
}

WORD_BASELINES = tuple(
    Baseline(name=scorer.name, about=scorer.about, score=scorer.score)
    for scorer in WORD_SCORERS.values()
)
