"""The stage that asks what scorers go by: the words and features that drive them, and what luck would find.

`drivers.parquet` has, for text baselines and for probes of SAE features, what moves their scores most on text that they
were not fitted on, each beside what it tells by itself; `driver_checks.parquet` whether the two agree.
`best_features.parquet` has the best single feature of each indicator beside the best that permuted labels give.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from mechprobe.activations.rows import span_table
from mechprobe.baselines.fold import BaselineFold
from mechprobe.baselines.passages import Passages
from mechprobe.baselines.word_tables import driving_words
from mechprobe.baselines.words import WORD_SCORERS
from mechprobe.evaluation.differences import holm
from mechprobe.evaluation.spans.span_building import span_examples
from mechprobe.evaluation.turns.explained_turns import explain_turn_features, explain_turn_words
from mechprobe.evaluation.turns.turn_detection import prepare_turns
from mechprobe.probes.bank import ProbeBank
from mechprobe.probes.explaining.explained_sets import explain_set
from mechprobe.probes.kinds.single_features import best_single_features
from mechprobe.probes.labels.examples import LabelledTokens, span_last_tokens
from mechprobe.probes.probe_set import ProbeSet
from mechprobe.probes.rows import LabelledRows, fittable
from mechprobe.study.detection import turn_source
from mechprobe.study.feature_tables import label_words
from mechprobe.study.reading import open_features
from mechprobe.study.run import Run
from mechprobe.study.stages import Stage

DRIVERS, CHECKS, BEST = "drivers.parquet", "driver_checks.parquet", "best_features.parquet"
TEXT_SCORERS = ("tfidf", "tfidf_bigrams", "word_counts")
"""Text baselines that are explained, where the study runs them."""
PROBE_SETS = ("sae_logistic", "sae_lasso", "sae_k_sparse")
"""Probe sets that are explained, where the study fits them."""
DRIVER_COLUMNS = (
    *("scorer", "hook_name", "indicator", "rank", "name", "shap", "share", "direction"),
    *("auroc", "n_positive", "n_negative"),
)
N_DRIVERS = 12
N_PERMUTATIONS = 500
"""The smallest p-value, 1 / 501, still holds .05 over 18 indicators after Holm."""

Tables = tuple[list[pd.DataFrame], list[pd.DataFrame]]


def explain_stage(run: Run, probe_digest: str, sae_digest: str) -> Stage:
    """The stage that writes the three tables."""
    kind = "spans" if run.config.kind == "organism" else "turns"
    return Stage(
        name="explain",
        folder=run.folder / "explain",
        config=run.settings(kind),
        inputs={"probes": probe_digest, "features": sae_digest},
        run=lambda: _explain(run),
        outputs=tuple(run.folder / name for name in (DRIVERS, CHECKS, BEST)),
        seed=run.config.seed,
    )


def _explain(run: Run) -> Mapping[str, Any]:
    bank = ProbeBank.load(run.folder / "probes")
    sets = [
        one for one in bank.sets if one.scorer in PROBE_SETS and one.hook_name == run.feature_hook
    ]
    is_organism = run.config.kind == "organism"
    drivers, checks = _of_spans(run, sets) if is_organism else _of_turns(run, sets)
    table = _stacked(drivers, DRIVER_COLUMNS)
    table["name"] = _named(run, table)
    table.to_parquet(run.folder / DRIVERS)
    _stacked(checks, ()).to_parquet(run.folder / CHECKS)
    best = _best_features(run)
    best.to_parquet(run.folder / BEST)
    return {"n_drivers": len(table), "n_best": len(best)}


def _of_turns(run: Run, sets: list[ProbeSet]) -> Tables:
    config = run.config.turns
    given = prepare_turns(
        run.store.tokens,
        span_table(run.store.tokens, run.transcripts),
        run.transcripts,
        run.taxonomy.slugs,
        config,
    )
    scorers = _explained(config.text_scorers)
    found = [explain_turn_words(given, scorers, k=N_DRIVERS, seed=config.seed)]
    source = turn_source(run)
    found += [explain_turn_features(given, one, source, k=N_DRIVERS) for one in sets]
    return _both(found)


def _of_spans(run: Run, sets: list[ProbeSet]) -> Tables:
    config, hook_name = run.config.spans, run.feature_hook
    examples = span_examples(
        run.store.tokens,
        span_table(run.store.tokens, run.transcripts),
        run.transcripts,
        run.taxonomy.slugs,
        {},
        {hook_name: open_features(run, "transcripts").csr},
    )
    fit, select, test = (examples.split(name) for name in ("fit", "select", "test"))
    fold = BaselineFold(
        fit.labelled_texts, select.labelled_texts, Passages(texts=tuple(test.texts))
    )
    words = driving_words(
        fold,
        examples.indicators,
        _explained(config.text_scorers),
        test_labels=test.labels,
        k=N_DRIVERS,
        seed=config.seed,
    )
    features: list[tuple[pd.DataFrame, pd.DataFrame]] = []
    for one in sets:
        columns = [examples.indicators.index(name) for name in one.indicators]
        X = test.matrix(hook_name, one.reads)
        features.append(explain_set(one, X, test.labels[:, columns], k=N_DRIVERS))
    return _both([words, *features])


def _best_features(run: Run) -> pd.DataFrame:
    """The best single feature of each indicator on all its labelled tokens (an organism's: last tokens of spans)."""
    tokens, transcripts = run.store.tokens, run.transcripts
    spans = span_table(tokens, transcripts)
    if run.config.kind == "organism":
        labelled = span_last_tokens(spans, run.taxonomy.slugs, n_tokens=len(tokens))
    else:
        slugs = run.taxonomy.slugs
        labelled = prepare_turns(tokens, spans, transcripts, slugs, run.config.turns).labelled
    return best_feature_table(labelled, open_features(run, "transcripts").csr, seed=run.config.seed)


def best_feature_table(
    labelled: LabelledTokens,
    read: Callable[[np.ndarray], sp.csr_matrix],
    *,
    n_permutations: int = N_PERMUTATIONS,
    seed: int = 0,
) -> pd.DataFrame:
    """The best feature of each indicator that can be asked for, beside the best under permuted labels of transcripts.

    Args:
        read: rows of the store -> their feature activations.

    Returns:
        Columns indicator, feature, auroc (below a half where the feature is lower on positives), by_luck (the median
        best of permuted labels, as far from a half), p_value (of the search as a whole), p_holm (over the
        indicators), n_pos and n_neg (tokens).
    """
    columns = fittable(labelled.labels)
    rows = LabelledRows(
        X=read(labelled.rows),
        labels=labelled.labels[:, columns],
        indicators=tuple(labelled.indicators[at] for at in columns.tolist()),
    )
    found = best_single_features(
        rows, groups=labelled.conversation, n_permutations=n_permutations, seed=seed
    )
    table = pd.DataFrame(
        {
            "indicator": [one.indicator for one in found],
            "feature": [one.feature for one in found],
            "auroc": [0.5 + one.observed for one in found],
            "by_luck": [0.5 + one.by_luck for one in found],
            "p_value": [one.p_value for one in found],
            "n_pos": rows.n_pos,
            "n_neg": rows.n_neg,
        }
    )
    return table.assign(p_holm=holm(table["p_value"].tolist()))


def _explained(scorers: tuple[str, ...]) -> list[str]:
    return [name for name in TEXT_SCORERS if name in scorers and name in WORD_SCORERS]


def _both(found: list[tuple[pd.DataFrame, pd.DataFrame]]) -> Tables:
    """Words and features under the same names of columns."""
    drivers = [table.rename(columns={"word": "name"}) for table, _ in found]
    checks = [table for _, table in found]
    for tables in (drivers, checks):
        for at, table in enumerate(tables):
            if "hook_name" not in table.columns:
                tables[at] = table.assign(hook_name="")
    return drivers, checks


def _stacked(tables: list[pd.DataFrame], columns: tuple[str, ...]) -> pd.DataFrame:
    filled = [table for table in tables if len(table)]
    whole = pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=list(columns))
    return pd.DataFrame(whole, columns=list(columns)) if columns else whole


def _named(run: Run, table: pd.DataFrame) -> list[str]:
    """Words as they are; features by their number and the words that they are strongest on."""
    is_feature = (table["hook_name"] != "").to_numpy()
    names = [str(name) for name in table["name"]]
    numbers = dict.fromkeys(int(names[at]) for at in np.flatnonzero(is_feature))
    words = label_words(run, list(numbers))
    return [
        f"{name} ({words[int(name)]})" if feature and words[int(name)] else name
        for name, feature in zip(names, is_feature, strict=True)
    ]
