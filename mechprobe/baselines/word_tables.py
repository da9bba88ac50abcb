"""The words that drive the text baselines, for a reader to judge: `words.parquet`, and the checks beside it."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Int8

from mechprobe.baselines.fold import BaselineFold, fit_baseline
from mechprobe.baselines.words import WORD_SCORERS
from mechprobe.errors import ConfigError, ShapeError
from mechprobe.probes.explaining.driving_features import CHECK_COLUMNS, driving_features

WORD_COLUMNS = (
    "scorer",
    "indicator",
    "rank",
    "word",
    "shap",
    "share",
    "direction",
    "auroc",
    "n_positive",
    "n_negative",
)
WORD_CHECK_COLUMNS = ("scorer", "indicator", *CHECK_COLUMNS)


def driving_words(
    fold: BaselineFold,
    indicators: Sequence[str],
    scorers: Sequence[str] = ("tfidf",),
    *,
    test_labels: Int8[np.ndarray, "text indicator"] | None = None,
    k: int = 20,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What each word baseline reads, for every indicator that can be fitted.

    Args:
        indicators: one for each column of the labels.
        scorers: names in `WORD_SCORERS`.
        test_labels: explain the test texts, with their labels; None: the texts that were fitted on, where a
            word's AUROC flatters it.
        k: words of each scorer and indicator.

    Returns:
        The words (WORD_COLUMNS: `shap` is the mean size of a word's SHAP values, in the score's units; `share` its
        part of all words'; `direction` 1 if the word raises the score; `auroc` of the word alone; `n_positive`
        and `n_negative` explained texts of each class with the word), and for each scorer and indicator the
        checks (WORD_CHECK_COLUMNS, see `DrivingFeatures`).

    Raises:
        ConfigError: a scorer is unknown or reads no words.
        ShapeError: there is not one indicator a column, or not one row of labels a test text.
    """
    if unknown := [name for name in scorers if name not in WORD_SCORERS]:
        raise ConfigError(
            f"{unknown[0]!r} is no scorer of words; there are {', '.join(WORD_SCORERS)}."
        )
    labels = _labels(fold, test_labels)
    if labels.shape[1] != len(indicators):
        raise ShapeError(
            f"{len(indicators)} indicators are named for labels of {labels.shape[1]}; name each column."
        )
    words: list[pd.DataFrame] = []
    checks: list[dict[str, object]] = []
    for name in scorers:
        scorer = WORD_SCORERS[name]
        rows = scorer.rows(fold)
        if not len(rows.names) or not len(fold.columns):
            continue
        explained = rows.known if test_labels is None else rows.test
        probes = fit_baseline(scorer.estimator, fold, rows, seed=seed)
        for column, probe in zip(fold.columns, probes, strict=True):
            found = driving_features(
                probe,
                explained,
                labels[:, column],
                names=rows.names,
                background=rows.known,
                k=k,
            )
            named = {"scorer": name, "indicator": indicators[column]}
            words.append(found.table.rename(columns={"name": "word"}).assign(**named))
            checks.append({**named, **found.checks})
    table = pd.DataFrame(
        pd.concat(words, ignore_index=True) if words else None, columns=list(WORD_COLUMNS)
    )
    return table, pd.DataFrame(checks, columns=list(WORD_CHECK_COLUMNS))


def _labels(
    fold: BaselineFold, test_labels: Int8[np.ndarray, "text indicator"] | None
) -> Int8[np.ndarray, "text indicator"]:
    """Labels of the texts that are explained."""
    if test_labels is not None:
        if len(test_labels) != len(fold.test.texts):
            raise ShapeError(
                f"{len(test_labels)} rows of labels come with {len(fold.test.texts)} test texts; give one "
                "for each."
            )
        return test_labels
    known = [fold.fit.labels] + ([] if fold.select is None else [fold.select.labels])
    return np.concatenate(known)
