"""Baselines that read no word: how long a unit is, and where it stands.

On the mixed AUROC of arXiv 2606.24251, length alone scored .82 on the published development transcripts of GLM-4.7-Flash.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Integer

from mechprobe.baselines.fold import Baseline, BaselineFold, FoldRows, Needs, Score, fit_and_score
from mechprobe.baselines.passages import Passages, Places, count_words
from mechprobe.probes.estimators import Estimator, auroc_by_column
from mechprobe.probes.rows import LEFT_OUT, POSITIVE
from mechprobe.probes.solving.logistic import L2_STRENGTHS, fit_logistic

_Count = Callable[[Passages], Integer[np.ndarray, "text"]]

_NUMBERS = Estimator(name="surface", reads="acts", fit=fit_logistic, strengths=L2_STRENGTHS)


def n_words(units: Passages) -> Integer[np.ndarray, "text"]:
    """Words of each text."""
    return count_words(units.texts)


def n_characters(units: Passages) -> Integer[np.ndarray, "text"]:
    """Characters of each text."""
    return np.array([len(text) for text in units.texts], dtype=np.int64)


def n_tokens(units: Passages) -> Integer[np.ndarray, "text"]:
    """Tokens of each text; only for units that know them."""
    assert units.n_tokens is not None, "can_score() was not asked"
    return units.n_tokens


def _place(name: str) -> _Count:
    def read(units: Passages) -> Integer[np.ndarray, "text"]:
        assert isinstance(units.places, Places), "can_score() was not asked"
        return getattr(units.places, name)

    return read


turn_number, token_in_turn, token_in_transcript = (
    _place(name) for name in ("turn", "token_in_turn", "token_in_transcript")
)


def as_it_is(count: _Count) -> Score:
    """The number itself, for every indicator; nothing is fitted: the longer, the more suspect."""

    def score(fold: BaselineFold, *, seed: int) -> Float[np.ndarray, "text indicator"]:
        del seed
        values = count(fold.test).astype(np.float64)
        return np.repeat(values[:, None], fold.fit.labels.shape[1], axis=1)

    return score


def turned(count: _Count) -> Score:
    """The number or its negative, whichever ranks the labelled units better; 0 with one class only."""

    def score(fold: BaselineFold, *, seed: int) -> Float[np.ndarray, "text indicator"]:
        del seed
        known = [fold.fit] if fold.select is None else [fold.fit, fold.select]
        labels = np.concatenate([part.labels for part in known])
        values = np.concatenate([count(part) for part in known]).astype(np.float64)
        scores = np.zeros((len(fold.test.texts), labels.shape[1]))
        for column in fold.columns:
            used = labels[:, column] != LEFT_OUT
            is_positive = labels[used, column] == POSITIVE
            side = 1.0 if auroc_by_column(values[used, None], is_positive)[0] >= 0.5 else -1.0
            scores[:, column] = side * count(fold.test)
        return scores

    return score


def _all_numbers(names: tuple[str, ...], counts: tuple[_Count, ...]) -> Score:
    """Logistic regression on the logarithms of several numbers."""

    def numbers(units: Passages) -> Float[np.ndarray, "text d"]:
        return np.log1p(np.stack([count(units) for count in counts], axis=1))

    def rows(fold: BaselineFold) -> FoldRows:
        return fold.split(numbers, names)

    def score(fold: BaselineFold, *, seed: int) -> Float[np.ndarray, "text indicator"]:
        return fit_and_score(_NUMBERS, fold, fold.rows(" ".join(names), rows), seed=seed)

    return score


_PLACES: tuple[Needs, ...] = ("places",)

SURFACE_BASELINES = (
    Baseline(name="length", about="number of words", score=as_it_is(n_words)),
    Baseline(name="length_characters", about="number of characters", score=as_it_is(n_characters)),
    Baseline(
        name="length_tokens",
        about="number of tokens",
        score=as_it_is(n_tokens),
        needs=("n_tokens",),
    ),
    Baseline(
        name="turn_number",
        about="number of the turn, turned to the side of the positives",
        score=turned(turn_number),
        needs=_PLACES,
    ),
    Baseline(
        name="token_in_turn",
        about="tokens before it in the turn, turned to the side of the positives",
        score=turned(token_in_turn),
        needs=_PLACES,
    ),
    Baseline(
        name="token_in_transcript",
        about="tokens before it in the conversation, turned to the side of the positives",
        score=turned(token_in_transcript),
        needs=_PLACES,
    ),
    Baseline(
        name="length_and_position",
        about="logistic regression on the logarithms of length and place: all that can be known without a word",
        score=_all_numbers(
            ("words", "characters", "turn", "token in turn", "token in transcript"),
            (n_words, n_characters, turn_number, token_in_turn, token_in_transcript),
        ),
        needs=_PLACES,
    ),
)
