"""Baselines at single tokens: which token stands there, where it stands, and its embedding before any block.

Each is an estimator with its own rows, so that it is fitted, pooled to turns and tested as a probe is. What they score
is what a probe could read without what the model computes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp
from jaxtyping import Float, Float32, Int, Int8

from mechprobe.baselines.passages import places_of_rows
from mechprobe.probes.estimators import Estimator, RowEstimator, fit_selected, refit, scores_of
from mechprobe.probes.labels.examples import LabelledTokens
from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.matrix import Matrix
from mechprobe.probes.rows import NEGATIVE, POSITIVE, HeldOutRows, LabelledRows, fittable
from mechprobe.probes.solving.logistic import L2_STRENGTHS, fit_logistic

TOKEN_IDENTITY = "token_identity"
"""Scorer: the token that the probe reads at."""
TOKEN_POSITION = "token_position"
"""Scorer: logistic regression on where that token stands in its turn and conversation."""
TOKEN_EMBEDDING = "token_embedding"
"""Scorer: logistic regression on that token's embedding, before any block."""
TOKEN_BASELINES = (TOKEN_IDENTITY, TOKEN_POSITION, TOKEN_EMBEDDING)

SMOOTHINGS = (1.0,)
"""Candidates for `fit_token_identity`."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TokenBaseline:
    """An estimator with what it reads at some rows of a store."""

    name: str
    estimator: RowEstimator[LinearProbe]
    rows: Callable[[Int[np.ndarray, "tok"]], Matrix]
    """The matrix that the estimator reads, for rows of the store."""


def token_baselines(
    tokens: pd.DataFrame,
    vectors: Callable[[Int[np.ndarray, "tok"]], np.ndarray] | None = None,
    *,
    kinds: Int[np.ndarray, "kind"] | None = None,
) -> tuple[TokenBaseline, ...]:
    """The token baselines of a store.

    Args:
        tokens: the store's token table, a conversation's rows together and in the order of the text.
        vectors: how to read the embedding layer at some rows: the store's, if it holds `hook_embed` or
            `blocks.0.hook_resid_pre`, or `embedders.token_vectors`. None: that baseline is left out.
        kinds: see `one_hot_tokens`; another store is read by the same probes if it is given the first one's.
    """
    one_hot = one_hot_tokens(tokens["token_id"].to_numpy(dtype=np.int64), kinds)
    numbers = position_numbers(tokens)
    found = [
        TokenBaseline(
            name=TOKEN_IDENTITY,
            estimator=Estimator(
                name=TOKEN_IDENTITY,
                reads="feature_acts",
                fit=fit_token_identity,
                strengths=SMOOTHINGS,
            ),
            rows=lambda rows: sp.csr_matrix(one_hot[rows]),
        ),
        TokenBaseline(
            name=TOKEN_POSITION,
            estimator=_logistic(TOKEN_POSITION),
            rows=lambda rows: numbers[rows],
        ),
    ]
    if vectors is not None:
        found.append(
            TokenBaseline(name=TOKEN_EMBEDDING, estimator=_logistic(TOKEN_EMBEDDING), rows=vectors)
        )
    return tuple(found)


def score_tokens(
    baseline: TokenBaseline,
    fit: LabelledTokens,
    select: LabelledTokens | None,
    rows: Int[np.ndarray, "tok"],
    *,
    seed: int = 0,
) -> Float32[np.ndarray, "tok indicator"]:
    """Scores of some rows of the store for every indicator, to be pooled as a probe's are.

    Strengths are chosen on the select tokens, and the probes fitted again on both. An indicator with one class
    only among the fit tokens scores 0.
    """
    columns = fittable(fit.labels)
    scores = np.zeros((len(rows), len(fit.indicators)), dtype=np.float32)
    if not len(columns):
        return scores
    given = LabelledRows(
        X=baseline.rows(fit.rows),
        labels=fit.labels[:, columns],
        indicators=tuple(fit.indicators[at] for at in columns),
    )
    held = None
    if select is not None and len(select.rows):
        held = HeldOutRows(X=baseline.rows(select.rows), labels=select.labels[:, columns])
    probes = fit_selected(baseline.estimator, given, held, seed=seed)
    if held is not None:
        probes = refit(baseline.estimator, given, held, probes, seed=seed)
    scores[:, columns] = scores_of(probes, baseline.rows(rows))
    return scores


def one_hot_tokens(
    token_ids: Int[np.ndarray, "tok"], kinds: Int[np.ndarray, "kind"] | None = None
) -> sp.csr_matrix:
    """A row for each token, with a 1 in the column of its kind; a token of no such kind has a row of zeros.

    Args:
        kinds: ids of the columns, sorted; None: those that occur.
    """
    kinds = np.unique(token_ids) if kinds is None else kinds
    column = np.searchsorted(kinds, token_ids).clip(max=max(0, len(kinds) - 1))
    is_known = kinds[column] == token_ids if len(kinds) else np.zeros(len(token_ids), dtype=bool)
    ends = np.r_[0, np.cumsum(is_known)]
    ones = np.ones(int(ends[-1]), dtype=np.float32)
    return sp.csr_matrix((ones, column[is_known], ends), shape=(len(token_ids), len(kinds)))


def position_numbers(tokens: pd.DataFrame) -> Float[np.ndarray, "tok 3"]:
    """Logarithms of the turn's number and of the tokens before each in its turn and in its conversation."""
    places = places_of_rows(tokens, np.arange(len(tokens)))
    numbers = (places.turn, places.token_in_turn, places.token_in_transcript)
    return np.log1p(np.stack(numbers, axis=1)).astype(np.float32)


def fit_token_identity(
    rows: LabelledRows, strengths: Sequence[float] = SMOOTHINGS, *, seed: int = 0
) -> list[tuple[LinearProbe, ...]]:
    """For each smoothing, one probe for each indicator: the log-odds of its classes given the token.

    Args:
        rows: one-hot, as made by `one_hot_tokens`.
        strengths: added to the counts of both classes, shared out in the proportion of the classes; a token
            that was not seen scores 0.
        seed: unused; the counts are what they are.
    """
    del seed
    positive, negative = (
        np.asarray(rows.X.T @ (rows.labels == which).astype(np.float64))
        for which in (POSITIVE, NEGATIVE)
    )
    return [
        tuple(
            LinearProbe(
                kind=TOKEN_IDENTITY,
                weight=_log_odds(positive[:, at], negative[:, at], smoothing).astype(np.float32),
                bias=0.0,
                settings={"smoothing": float(smoothing)},
            )
            for at in range(len(rows.indicators))
        )
        for smoothing in strengths
    ]


def token_identity_scores(
    fit_ids: Int[np.ndarray, "tok"],
    fit_labels: Int8[np.ndarray, "tok indicator"],
    ids: Int[np.ndarray, "other"],
    *,
    smoothing: float = 1.0,
) -> Float[np.ndarray, "other indicator"]:
    """Log-odds of the classes given the token, from counts on the fit rows; 0 for a token not seen there.

    Args:
        smoothing: added to the counts of both classes, shared out in the proportion of the classes.
    """
    n_ids = 1 + int(max(fit_ids.max(initial=-1), ids.max(initial=-1)))
    scores = np.zeros((len(ids), fit_labels.shape[1]))
    for at, labels in enumerate(fit_labels.T):
        positive = np.bincount(fit_ids[labels == POSITIVE], minlength=n_ids)
        negative = np.bincount(fit_ids[labels == NEGATIVE], minlength=n_ids)
        scores[:, at] = _log_odds(positive, negative, smoothing)[ids]
    return scores


def _log_odds(positive: np.ndarray, negative: np.ndarray, smoothing: float) -> np.ndarray:
    base_pos, base_neg = max(1, positive.sum()), max(1, negative.sum())
    rate_pos = (positive + smoothing * base_pos / (base_pos + base_neg)) / base_pos
    rate_neg = (negative + smoothing * base_neg / (base_pos + base_neg)) / base_neg
    return np.log(rate_pos / rate_neg)


def _logistic(name: str) -> RowEstimator[LinearProbe]:
    return Estimator(name=name, reads="acts", fit=fit_logistic, strengths=L2_STRENGTHS)
