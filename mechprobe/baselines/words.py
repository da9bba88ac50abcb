"""Baselines that read words: which stand in a text, and how often. A probe that does not beat them reads words."""

import re
from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float

from mechprobe.baselines.fold import Baseline, BaselineFold, FoldRows, Score, fit_and_score
from mechprobe.probes.estimators import Estimator
from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.logistic import fit_logistic
from mechprobe.probes.rows import LabelledRows

_WORD = r"(?u)\b\w+\b"
_MAX_TERMS = 30_000
_L2_STRENGTHS = (10.0, 1.0, 0.1, 0.01)


def tfidf_rows(fold: BaselineFold, *, longest: int = 1) -> FoldRows:
    """TF-IDF of words (and of runs of up to `longest` of them) with logarithmic counts, rows of unit length.

    Words and their weights are learned from the fit texts; where none of those has a word there is no column.
    """
    return fold.rows(f"tfidf {longest}", lambda fold: _vectorise(fold, longest=longest))


def count_rows(fold: BaselineFold) -> FoldRows:
    """log(1 + count) of each word: unlike TF-IDF it shows how long the text is."""
    return fold.rows("word counts", lambda fold: _vectorise(fold, longest=1, is_count=True))


def _vectorise(fold: BaselineFold, *, longest: int, is_count: bool = False) -> FoldRows:
    # scikit-learn takes seconds to import, and evaluation tables are also read without it.
    from sklearn.feature_extraction.text import TfidfVectorizer

    if not any(re.search(_WORD, text) for text in fold.fit.texts):
        empty = [sp.csr_matrix((len(part.texts), 0)) for part in fold.parts]
        select = None if fold.select is None else empty[1]
        return FoldRows(fit=empty[0], select=select, test=empty[-1], names=())
    words = TfidfVectorizer(
        ngram_range=(1, longest),
        token_pattern=_WORD,
        max_features=_MAX_TERMS,
        sublinear_tf=not is_count,
        use_idf=not is_count,
        norm=None if is_count else "l2",
    )
    fit = words.fit_transform(fold.fit.texts)
    others = [words.transform(part.texts) for part in fold.parts[1:]]
    matrices = [sp.csr_matrix(X).log1p() if is_count else sp.csr_matrix(X) for X in (fit, *others)]
    return FoldRows(
        fit=sp.csr_matrix(matrices[0]),
        select=None if fold.select is None else sp.csr_matrix(matrices[1]),
        test=sp.csr_matrix(matrices[-1]),
        names=tuple(words.get_feature_names_out()),
    )


def _fit_unscaled(
    rows: LabelledRows, strengths: Sequence[float], *, seed: int
) -> list[tuple[LinearProbe, ...]]:
    """Rows of TF-IDF have unit length, and rare words should stay small: no standardisation."""
    return [
        fit_logistic(rows, [strength], seed=seed, standardise=False)[0] for strength in strengths
    ]


WORD_LOGISTIC = Estimator(
    name="tfidf", reads="feature_acts", fit=_fit_unscaled, strengths=_L2_STRENGTHS
)


def _by_words(longest: int) -> Score:
    def score(fold: BaselineFold, *, seed: int) -> Float[np.ndarray, "text indicator"]:
        return fit_and_score(WORD_LOGISTIC, fold, tfidf_rows(fold, longest=longest), seed=seed)

    return score


def _by_counts(fold: BaselineFold, *, seed: int) -> Float[np.ndarray, "text indicator"]:
    return fit_and_score(WORD_LOGISTIC, fold, count_rows(fold), seed=seed)


WORD_BASELINES = (
    Baseline(
        name="tfidf",
        about="logistic regression on TF-IDF of single words, blind to their order",
        score=_by_words(1),
    ),
    Baseline(
        name="tfidf_bigrams",
        about="logistic regression on TF-IDF of words and pairs of neighbouring words",
        score=_by_words(2),
    ),
    Baseline(
        name="word_counts",
        about="logistic regression on the logarithm of how often each word occurs",
        score=_by_counts,
    ),
)
