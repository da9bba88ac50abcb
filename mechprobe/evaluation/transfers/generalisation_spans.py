"""Generalisation over labelled spans: probes and text baselines trained on one split and tested on others.

For an organism the splits are out-of-distribution worlds (unseen frames, longer texts, a reversed confound), drawn
by `models.organism.splits`; each is as large as the others, so that rows compare.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from mechprobe.baselines.fold import BaselineFold
from mechprobe.baselines.passages import Passages
from mechprobe.baselines.text import score_baselines
from mechprobe.evaluation.folds import Fold
from mechprobe.evaluation.spans.span_detection import SpanDetectionConfig, fit_probe_sets
from mechprobe.evaluation.spans.span_examples import SpanExamples
from mechprobe.evaluation.transfers.domains import Domains
from mechprobe.evaluation.transfers.generalisation import Cell, Items, Scorer, generalise
from mechprobe.evaluation.transfers.generalisation_turns import GeneralisationConfig
from mechprobe.evaluation.units import Units
from mechprobe.probes.labels.examples import HARD_NEGATIVE, NOT_USED, SPAN
from mechprobe.probes.rows import fittable


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SpanScorers:
    """Fits the configured scorers on the spans of some transcripts and scores those of others."""

    config: GeneralisationConfig
    spans: SpanExamples
    conversation: Int[np.ndarray, "span"]

    def __call__(self, fold: Fold) -> Mapping[Scorer, Float[np.ndarray, "span column"]]:
        """Scores of all spans, NaN outside the fold's test transcripts and where nothing could be fitted."""
        fit, select, test = (
            np.flatnonzero(side[self.conversation]) for side in (fold.fit, fold.select, fold.test)
        )
        columns = fittable(self.spans.labels[fit])
        if not len(columns) or not len(test):
            return {}
        asked = self.spans.ask_for(columns)
        sides = asked.take(fit), asked.take(select), asked.take(test)
        return {
            scorer: self._placed(scores, test, columns)
            for scorer, scores in {**self._probes(*sides), **self._texts(*sides)}.items()
        }

    def _placed(self, scores: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        whole = np.full(self.spans.kinds.shape, np.nan)
        whole[np.ix_(rows, columns)] = scores
        return whole

    def _probes(
        self, fit: SpanExamples, select: SpanExamples, test: SpanExamples
    ) -> dict[Scorer, np.ndarray]:
        config = SpanDetectionConfig(estimators=self.config.estimators, seed=self.config.seed)
        return {
            (one.scorer, one.hook_name): one.score_all(test.matrix(one.hook_name, one.reads))
            for one in fit_probe_sets(fit, select, config)
        }

    def _texts(
        self, fit: SpanExamples, select: SpanExamples, test: SpanExamples
    ) -> dict[Scorer, np.ndarray]:
        read = BaselineFold(fit.labelled_texts, select.labelled_texts, Passages(texts=test.texts))
        found = score_baselines(self.config.text_scorers, read, seed=self.config.seed)
        return {(name, ""): scores for name, scores in found.items()}


def generalise_spans(spans: SpanExamples, config: GeneralisationConfig | None = None) -> list[Cell]:
    """The cells of the matrix over the splits that the spans carry.

    Raises:
        ConfigError: there are fewer than two splits, or fewer than three folds.
    """
    config = config or GeneralisationConfig()
    codes, first, conversation = np.unique(
        spans.keys["transcript_id"].to_numpy(dtype=str), return_index=True, return_inverse=True
    )
    split = np.array(spans.splits)[first]
    names = tuple(dict.fromkeys(spans.splits))
    domains = Domains(
        key="split",
        names=names,
        of_conversation=np.array([names.index(name) for name in split], dtype=np.int64),
        group=np.arange(len(codes), dtype=np.int64),
    )
    items = Items(
        conversation=conversation.astype(np.int64),
        columns=spans.indicators,
        units_of=lambda at, scores, used: units_of_spans(spans, at, scores, used),
    )
    scorers = SpanScorers(config=config, spans=spans, conversation=items.conversation)
    return generalise(domains, items, scorers, n_folds=config.n_folds, seed=config.seed)


def units_of_spans(
    spans: SpanExamples,
    at: int,
    scores: Float[np.ndarray, "span"],
    used: Bool[np.ndarray, "span"],
) -> dict[str, Units]:
    """A span against all others, and against those that look like it."""
    kind = spans.kinds[:, at]
    clusters = pd.factorize(spans.keys["transcript_id"])[0].astype(np.int64)
    chosen = {
        "span": used & (kind != NOT_USED),
        "hard_negative": used & ((kind == SPAN) | (kind == HARD_NEGATIVE)),
    }
    return {
        unit: Units(
            scores=scores[rows].astype(np.float64),
            is_positive=kind[rows] == SPAN,
            clusters=clusters[rows],
        )
        for unit, rows in chosen.items()
        if rows.any()
    }
