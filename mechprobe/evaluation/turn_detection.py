"""How well misaligned turns and transcripts are detected in real conversations, out of fold by scenario.

Probes are fitted on tokens with span labels (`probes.token_labels.label_tokens`), score every token of the
scenarios held out, and are pooled to turns and transcripts. Text baselines are fitted on the turns of the same
folds. Beside the indicators stands `misaligned`, the question that judges answer; for it the paper's mixed AUROC
is given too, with its own chance level.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from tqdm import tqdm

from mechprobe.baselines.judges import judge_scores
from mechprobe.baselines.shuffled import SHUFFLED_LABELS
from mechprobe.baselines.text import LabelledTexts, find_text_scorer
from mechprobe.evaluation.folds import (
    Fold,
    TokenSource,
    fit_fold,
    folds_of,
    score_turns,
)
from mechprobe.evaluation.results import Collector, Detection
from mechprobe.evaluation.turn_units import TurnTruth, report_turns, turn_texts, turn_truth
from mechprobe.probes.aggregation import plan_pooling
from mechprobe.probes.bank import ProbeBank
from mechprobe.probes.token_labels import label_tokens
from mechprobe.transcripts.splits import group_names, grouped_folds
from mechprobe.transcripts.transcript import Transcript

FUSED = "_fused"
"""Suffix of a scorer of `misaligned`: the highest of the indicators' calibrated scores."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TurnDetectionConfig:
    """Which scorers to run, how to fold and pool, and how to resample."""

    estimators: tuple[str, ...] = (
        "dense_logistic",
        "dense_diff_of_means",
        "random_direction",
        "sae_k_sparse",
        "sae_logistic",
    )
    """Names in `probes.estimators.ESTIMATORS`; those of features run where there is an SAE."""
    text_scorers: tuple[str, ...] = ("length", "tfidf", "tfidf_bigrams")
    """Names in `baselines.text.TEXT_SCORERS`."""
    n_folds: int = 5
    """Folds by scenario; each is scored by probes fitted on the others, of which one chooses strengths."""
    max_negatives: int | None = 200
    """Tokens outside all spans that are fitted on, of each transcript; None: all."""
    min_words: int = 5
    """Words that a sentence needs to count."""
    n_boot: int = 1000
    """Draws of the bootstrap over transcripts."""
    seed: int = 0
    """Of folds, drawn negatives, random directions, shuffled labels and the bootstrap."""


def detect_turns(
    tokens: pd.DataFrame,
    spans: pd.DataFrame,
    transcripts: Sequence[Transcript],
    indicators: Sequence[str],
    source: TokenSource,
    config: TurnDetectionConfig | None = None,
) -> Detection:
    """Fit, score and evaluate every scorer out of fold, judges included; the bank is that of the first fold.

    Args:
        tokens: the store's token table.
        spans: as made by `activations.rows.span_table` for the same transcripts.

    Raises:
        ConfigError: there are fewer scenarios than folds.
        LabelError: a span has an indicator that is not asked for.
    """
    config = config or TurnDetectionConfig()
    labelled = label_tokens(
        tokens, spans, transcripts, indicators, max_negatives=config.max_negatives, seed=config.seed
    )
    pooling = plan_pooling(tokens, transcripts, min_words=config.min_words)
    truth = turn_truth(transcripts, pooling.turns, indicators)
    folds = list(folds_of(grouped_folds(group_names(transcripts), config.n_folds, config.seed)))
    conversation = pooling.turns["conversation"].to_numpy()
    scores: dict[str, np.ndarray] = {}
    bank = ProbeBank(sets=())
    for fold in tqdm(folds, desc="folds", disable=None):
        fitted = list(fit_fold(fold, labelled, source, config.estimators, seed=config.seed))
        real = [one.probes for one in fitted if one.probes.scorer != SHUFFLED_LABELS]
        bank = bank if bank.sets else ProbeBank(sets=tuple(real))
        found = score_turns(fitted, pooling.take(fold.test), source)
        for one, values in zip(fitted, found, strict=True):
            empty = np.full(truth.labels.shape, np.nan)
            whole = scores.setdefault(one.probes.scorer, empty)
            whole[np.ix_(fold.test[conversation], one.columns)] = values
    collector = Collector(n_boot=config.n_boot, seed=config.seed)
    for scorer, values in scores.items():
        report_turns(collector, scorer, truth, values, hook_name=source.hook_name)
        fused = _only_misaligned(truth, np.fmax.reduce(values[:, :-1], axis=1))
        report_turns(collector, scorer + FUSED, truth, fused, hook_name=source.hook_name)
    for scorer, values in _text_scores(transcripts, truth, folds, config).items():
        report_turns(collector, scorer, truth, values)
    for judge, values in judge_scores(transcripts, pooling.turns).items():
        report_turns(collector, judge, truth, _only_misaligned(truth, values))
    return collector.finish(bank)


def _text_scores(
    transcripts: Sequence[Transcript],
    truth: TurnTruth,
    folds: Sequence[Fold],
    config: TurnDetectionConfig,
) -> dict[str, Float[np.ndarray, "turn column"]]:
    """Out-of-fold scores of every text scorer, fitted on the labelled turns of the fit conversations."""
    texts = np.array(turn_texts(transcripts, truth.turns), dtype=object)
    conversation = truth.turns["conversation"].to_numpy()

    def labelled(chosen: np.ndarray) -> LabelledTexts:
        rows = np.flatnonzero(chosen[conversation] & (truth.labels >= 0).any(axis=1))
        return LabelledTexts(texts=tuple(texts[rows]), labels=truth.labels[rows])

    scores = {name: np.full(truth.labels.shape, np.nan) for name in config.text_scorers}
    for fold in folds:
        test = fold.test[conversation]
        for name, values in scores.items():
            score = find_text_scorer(name)
            values[test] = score(labelled(fold.fit), labelled(fold.select), tuple(texts[test]))
    return scores


def _only_misaligned(
    truth: TurnTruth, values: Float[np.ndarray, "turn"]
) -> Float[np.ndarray, "turn column"]:
    """Scores of the last column alone."""
    scores = np.full(truth.labels.shape, np.nan)
    scores[:, -1] = values
    return scores
