"""Generalisation over real conversations: probes and text baselines trained on the turns of one domain.

As in `turn_detection`, probes are fitted on tokens with span labels and pooled to turns, text scorers on whole turns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from mechprobe.baselines.fold import BaselineFold
from mechprobe.baselines.passages import LabelledTexts, Passages
from mechprobe.baselines.text import score_baselines
from mechprobe.errors import ConfigError
from mechprobe.evaluation.folds import Fold, TokenSource, fit_fold, score_turns
from mechprobe.evaluation.transfers.domains import domain_names, domains_of
from mechprobe.evaluation.transfers.generalisation import Cell, Items, Scorer, generalise
from mechprobe.evaluation.turns.turn_units import TurnTruth, turn_texts, turn_truth
from mechprobe.evaluation.units import Turns, Units, mixed_units, transcript_units, turn_units
from mechprobe.probes.labels.examples import MISALIGNED, LabelledTokens
from mechprobe.probes.labels.token_labels import label_tokens
from mechprobe.probes.rows import fittable
from mechprobe.probes.scoring.aggregation import Pooling, plan_pooling
from mechprobe.transcripts.transcript import Transcript


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneralisationConfig:
    """What is trained on what, and by which scorers."""

    keys: tuple[str, ...] = ("behavior",)
    """Turns: what makes a domain, one matrix for each: behavior, dataset, model, split or a key of `meta`;
    keys with fewer than two values are passed over. Spans always go by split."""
    splits: tuple[str, ...] = ("natural", "unseen_frames", "longer", "reversed_confound")
    """Spans of an organism: its out-of-distribution splits, by their names in `models.organism.splits`."""
    n_per_split: int = 150
    """Transcripts that are drawn of each of those splits."""
    estimators: tuple[str, ...] = ("dense_logistic", "dense_diff_of_means", "sae_logistic")
    """Names in `probes.estimators.ESTIMATORS`; those of features run where there is an SAE."""
    text_scorers: tuple[str, ...] = ("length", "tfidf_bigrams")
    """Names in `baselines.text.BASELINES`; the transfer of every other scorer is compared with theirs."""
    indicators: tuple[str, ...] = (MISALIGNED,)
    """Turns: what is asked of them; empty for every indicator too. Spans are asked for every indicator."""
    n_folds: int = 5
    """Folds by scenario within each domain."""
    max_negatives: int | None = 200
    """Turns: tokens outside all spans that are fitted on, of each transcript; None: all."""
    min_words: int = 5
    """Turns: words that a sentence needs to count."""
    n_boot: int = 1000
    """Draws of the bootstrap over transcripts."""
    seed: int = 0
    """Of folds, drawn negatives, shuffled labels and the bootstrap."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TurnScorers:
    """Fits the configured scorers on some conversations and scores the turns of others."""

    config: GeneralisationConfig
    labelled: LabelledTokens
    pooling: Pooling
    truth: TurnTruth
    texts: tuple[str, ...]
    source: TokenSource

    def __call__(self, fold: Fold) -> Mapping[Scorer, Float[np.ndarray, "turn column"]]:
        """Scores of all turns, NaN outside the fold's test conversations and where nothing could be fitted."""
        return {**self._probe_scores(fold), **self._text_scores(fold)}

    def _probe_scores(self, fold: Fold) -> dict[Scorer, np.ndarray]:
        names = (*self.config.estimators,)
        can_fit = fittable(self.labelled.take(fold.fit[self.labelled.conversation]).labels)
        if not names or not len(can_fit):
            return {}
        fitted = list(fit_fold(fold, self.labelled, self.source, names, seed=self.config.seed))
        found = score_turns(fitted, self.pooling.take(fold.test), self.source)
        rows = np.flatnonzero(fold.test[self._conversation])
        scores: dict[Scorer, np.ndarray] = {}
        for one, values in zip(fitted, found, strict=True):
            whole = np.full(self.truth.labels.shape, np.nan)
            whole[np.ix_(rows, one.columns)] = values
            scores[one.probes.scorer, self.source.hook_name] = whole
        return scores

    def _text_scores(self, fold: Fold) -> dict[Scorer, np.ndarray]:
        fit, select = (self._labelled_texts(chosen) for chosen in (fold.fit, fold.select))
        columns, test = fittable(fit.labels), np.flatnonzero(fold.test[self._conversation])
        if not len(columns) or not len(test):
            return {}
        asked = Passages(texts=tuple(self.texts[row] for row in test))
        read = BaselineFold(fit, select, asked)
        found = score_baselines(self.config.text_scorers, read, seed=self.config.seed)
        scores: dict[Scorer, np.ndarray] = {}
        for name, values in found.items():
            whole = np.full(self.truth.labels.shape, np.nan)
            whole[np.ix_(test, columns)] = values[:, columns]
            scores[name, ""] = whole
        return scores

    def _labelled_texts(self, chosen: Bool[np.ndarray, "conversation"]) -> LabelledTexts:
        has_label = (self.truth.labels >= 0).any(axis=1)
        rows = np.flatnonzero(chosen[self._conversation] & has_label)
        return LabelledTexts(
            texts=tuple(self.texts[row] for row in rows), labels=self.truth.labels[rows]
        )

    @property
    def _conversation(self) -> np.ndarray:
        return self.truth.turns["conversation"].to_numpy()


def generalise_turns(
    tokens: pd.DataFrame,
    spans: pd.DataFrame,
    transcripts: Sequence[Transcript],
    indicators: Sequence[str],
    source: TokenSource,
    config: GeneralisationConfig | None = None,
) -> dict[str, list[Cell]]:
    """The cells of every key's matrix; keys of which the transcripts have fewer than two values are left out.

    Args:
        tokens: the store's token table.
        spans: as made by `activations.rows.span_table` for the same transcripts.

    Raises:
        ConfigError: an indicator or a key is unknown, or there are fewer than three folds.
        LabelError: a span has an indicator that is not asked for.
    """
    config = config or GeneralisationConfig()
    scorers = _turn_scorers(tokens, spans, transcripts, indicators, source, config)
    truth = scorers.truth
    items = Items(
        conversation=truth.turns["conversation"].to_numpy(dtype=np.int64),
        columns=truth.columns,
        units_of=lambda at, scores, used: units_of_turns(truth, at, scores, used),
    )
    found: dict[str, list[Cell]] = {}
    for key in config.keys:
        if len(domain_names(transcripts, key)) > 1:
            domains = domains_of(transcripts, key)
            found[key] = generalise(
                domains, items, scorers, n_folds=config.n_folds, seed=config.seed
            )
    return found


def units_of_turns(
    truth: TurnTruth,
    at: int,
    scores: Float[np.ndarray, "turn"],
    used: Bool[np.ndarray, "turn"],
) -> dict[str, Units]:
    """Turns and transcripts under one column's labels; for `misaligned` the paper's mixture too."""
    used = used & (truth.labels[:, at] >= 0)
    if not used.any():
        return {}
    turns = Turns(
        transcript=truth.turns["conversation"].to_numpy(dtype=np.int64)[used],
        is_positive=truth.labels[used, at] == 1,
        in_positive=truth.in_positive[used, at],
    )
    units = {
        "turn": turn_units(scores[used], turns),
        "transcript": transcript_units(scores[used], turns),
    }
    if truth.columns[at] == MISALIGNED:
        units["mixed"] = mixed_units(scores[used], turns)
    return units


def _turn_scorers(
    tokens: pd.DataFrame,
    spans: pd.DataFrame,
    transcripts: Sequence[Transcript],
    indicators: Sequence[str],
    source: TokenSource,
    config: GeneralisationConfig,
) -> TurnScorers:
    labelled = label_tokens(
        tokens, spans, transcripts, indicators, max_negatives=config.max_negatives, seed=config.seed
    )
    pooling = plan_pooling(tokens, transcripts, min_words=config.min_words)
    truth = turn_truth(transcripts, pooling.turns, indicators)
    asked = config.indicators or labelled.indicators
    columns = [_column(labelled.indicators, name) for name in asked]
    return TurnScorers(
        config=config,
        labelled=replace(labelled, kinds=labelled.kinds[:, columns], indicators=tuple(asked)),
        pooling=pooling,
        truth=replace(
            truth,
            columns=tuple(asked),
            labels=truth.labels[:, columns],
            in_positive=truth.in_positive[:, columns],
        ),
        texts=turn_texts(transcripts, truth.turns),
        source=source,
    )


def _column(indicators: Sequence[str], name: str) -> int:
    if name not in indicators:
        raise ConfigError(
            f"generalisation asks for the indicator {name!r}; there are {', '.join(indicators)}."
        )
    return indicators.index(name)
