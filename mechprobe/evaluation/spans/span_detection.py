"""How well each indicator is detected at labelled spans: against other text, look-alikes and matched twins.

Three questions, each a unit. "span": is a span told from every other labelled span? "hard_negative": from spans
that look like it and do not hold it? "matched_pair": from its twin, which consists of the same words? Probes are
fitted on the split "fit", their strengths chosen on "select", and everything is reported on "test".
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from mechprobe.baselines.shuffled import SHUFFLED_LABELS, shuffle_held_out, shuffle_labels
from mechprobe.baselines.text import find_text_scorer
from mechprobe.baselines.tokens import token_identity_scores
from mechprobe.errors import DataError
from mechprobe.evaluation.results import Collector, Detection
from mechprobe.evaluation.spans.span_examples import SpanExamples
from mechprobe.evaluation.units import Units
from mechprobe.probes.bank import ProbeBank
from mechprobe.probes.estimators import find_estimator, fit_selected
from mechprobe.probes.labels.examples import HARD_NEGATIVE, KIND_NAMES, NOT_USED, SPAN
from mechprobe.probes.probe_set import ProbeSet
from mechprobe.probes.rows import HeldOutRows, LabelledRows, fittable

TOKEN_IDENTITY = "token_identity"
"""Scorer: the token that the probe reads at."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SpanDetectionConfig:
    """Which scorers to run, and how to resample."""

    estimators: tuple[str, ...] = (
        "dense_logistic",
        "dense_lda",
        "dense_diff_of_means",
        "random_direction",
        "sae_k_sparse",
        "sae_logistic",
    )
    """Names in `probes.estimators.ESTIMATORS`; those of features run where there is an SAE."""
    text_scorers: tuple[str, ...] = ("length", "tfidf", "tfidf_bigrams")
    """Names in `baselines.text.TEXT_SCORERS`."""
    n_boot: int = 1000
    """Draws of the bootstrap over transcripts."""
    seed: int = 0
    """Of random directions, shuffled labels and the bootstrap."""


def detect_spans(
    examples: SpanExamples,
    pairs: SpanExamples | None = None,
    config: SpanDetectionConfig | None = None,
) -> Detection:
    """Fit all scorers and evaluate them at test spans and test pairs, every baseline beside them.

    Indicators without both classes among the fit spans are left out of the tables.

    Args:
        pairs: two rows a matched pair: a span on the side that has the indicator, a hard negative on the
            other, left out for other indicators.

    Raises:
        DataError: there is no fit or no test span, or no indicator can be fitted.
    """
    config = config or SpanDetectionConfig()
    columns = fittable(examples.split("fit").labels)
    examples = examples.ask_for(columns)
    fit, select, test = (examples.split(name) for name in ("fit", "select", "test"))
    if not len(columns) or not test.texts:
        raise DataError(
            f"{len(fit.texts)} fit and {len(test.texts)} test spans, {len(columns)} indicators with both "
            "classes among the fit spans; a detection study needs some of each (assign splits first)."
        )
    pairs = pairs and pairs.ask_for(columns)
    tested = [test] if pairs is None else [test, pairs.split("test")]
    collector = Collector(n_boot=config.n_boot, seed=config.seed)
    sets: list[ProbeSet] = []
    for one in fit_probe_sets(fit, select, config):
        for spans in tested:
            scores = one.score_all(spans.matrix(one.hook_name, one.reads))
            report(collector, one.scorer, one.hook_name, spans, scores, are_pairs=spans is not test)
        sets += [one] if one.scorer != SHUFFLED_LABELS else []
    for spans in tested:
        are_pairs = spans is not test
        # Words are learned from pairs where pairs are judged: the baseline gets every chance.
        source = pairs if are_pairs and pairs is not None else examples
        for scorer, scores in text_scores(source, examples, spans, config):
            report(collector, scorer, "", spans, scores, are_pairs=are_pairs)
        scores = token_identity_scores(fit.token_ids, fit.labels, spans.token_ids)
        report(collector, TOKEN_IDENTITY, "", spans, scores, are_pairs=are_pairs)
    return collector.finish(ProbeBank(sets=tuple(sets)))


def fit_probe_sets(
    fit: SpanExamples, select: SpanExamples, config: SpanDetectionConfig
) -> Iterator[ProbeSet]:
    """Every estimator at every hook point; last at each, the probe that was given shuffled labels."""
    for hook_name in fit.acts:
        estimators = [find_estimator(name) for name in config.estimators]
        scorers = {
            estimator.name: estimator
            for estimator in estimators
            if estimator.reads == "acts" or hook_name in fit.features
        }
        for scorer, estimator in {
            **scorers,
            SHUFFLED_LABELS: find_estimator("dense_logistic"),
        }.items():
            X = fit.matrix(hook_name, estimator.reads)
            rows = LabelledRows(X=X, labels=fit.labels, indicators=fit.indicators)
            held = HeldOutRows(X=select.matrix(hook_name, estimator.reads), labels=select.labels)
            if scorer == SHUFFLED_LABELS:
                rows, held = shuffle_labels(rows, config.seed), shuffle_held_out(held, config.seed)
            yield ProbeSet(
                scorer=scorer,
                hook_name=hook_name,
                reads=estimator.reads,
                indicators=fit.indicators,
                probes=fit_selected(estimator, rows, held, seed=config.seed),
            )


def text_scores(
    source: SpanExamples, fallback: SpanExamples, spans: SpanExamples, config: SpanDetectionConfig
) -> Iterator[tuple[str, Float[np.ndarray, "span indicator"]]]:
    """Every text scorer, fitted on the source's fit rows (the fallback's, if it has none)."""
    fit, select = source.split("fit"), source.split("select")
    if not fit.texts:
        fit, select = fallback.split("fit"), fallback.split("select")
    held = select.labelled_texts if select.texts else None
    for name in config.text_scorers:
        yield name, find_text_scorer(name)(fit.labelled_texts, held, spans.texts)


def report(
    collector: Collector,
    scorer: str,
    hook_name: str,
    spans: SpanExamples,
    scores: Float[np.ndarray, "span indicator"],
    *,
    are_pairs: bool,
) -> None:
    """Hand a scorer's units to the collector: pairs are one unit, spans are two."""
    clusters = pd.factorize(spans.keys["transcript_id"])[0].astype(np.int64)
    for at, indicator in enumerate(spans.indicators):
        kind = spans.kinds[:, at]
        alike = (kind == SPAN) | (kind == HARD_NEGATIVE)
        units = {"matched_pair": alike} if are_pairs else {"span": kind != NOT_USED}
        if not are_pairs:
            units["hard_negative"] = alike
        for unit, used in units.items():
            keys = spans.keys.loc[used].assign(kind=np.array(KIND_NAMES)[kind[used]])
            collector.add(
                Units(
                    scores=scores[used, at].astype(np.float64),
                    is_positive=kind[used] == SPAN,
                    clusters=clusters[used],
                ),
                indicator=indicator,
                scorer=scorer,
                unit=unit,
                hook_name=hook_name,
                # Hard negatives are among the spans already.
                keys=None if unit == "hard_negative" else keys,
            )
