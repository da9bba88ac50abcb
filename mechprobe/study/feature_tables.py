"""`features.parquet` and `feature_examples.json`: the SAE features that go with each indicator, and what they fire on.

Features are ranked on fit and select spans; the AUROC that is shown is that of test spans, so that the best of many is
not flattered. Where a study has no splits the same spans serve for both, and the column `split` says so.
"""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from mechprobe.activations.rows import span_table
from mechprobe.probes.estimators import auroc_by_column
from mechprobe.probes.labels.examples import HARD_NEGATIVE, NOT_USED, OTHER, SPAN, span_last_tokens
from mechprobe.records import atomic_write_text
from mechprobe.saes.features import FeatureStore
from mechprobe.study.heat_maps import token_words
from mechprobe.study.reading import open_features
from mechprobe.study.run import Run

N_CANDIDATES = 64
"""Features of largest separation that are ranked by AUROC."""
N_FEATURE_EXAMPLES = 4
N_WORDS = 4
COLUMNS = (
    "indicator",
    "rank",
    "feature",
    "weight",
    "auroc",
    "mean_positive",
    "mean_negative",
    "density",
    "label_words",
    "split",
)


def write_feature_tables(run: Run) -> int:
    """Write both tables; return how many different features they show."""
    store = open_features(run, "transcripts")
    table = rank_features(run, store.csr)
    examples = {
        int(feature): _examples(run, store, int(feature))
        for feature in dict.fromkeys(table["feature"].tolist())
    }
    density = {feature: len(store.feature(feature)[0]) / store.n_tokens for feature in examples}
    table["density"] = [density[feature] for feature in table["feature"]]
    table["label_words"] = [_words(examples[feature]) for feature in table["feature"]]
    table.to_parquet(run.folder / "features.parquet")
    atomic_write_text(run.folder / "feature_examples.json", json.dumps(examples) + "\n")
    return len(examples)


def label_words(run: Run, features: list[int]) -> dict[int, str]:
    """Feature -> the words of the transcripts that it is strongest on."""
    store = open_features(run, "transcripts")
    return {feature: _words(_examples(run, store, feature)) for feature in features}


def rank_features(
    run: Run, read: Callable[[np.ndarray], sp.csr_matrix], n: int | None = None
) -> pd.DataFrame:
    """The n best features of every indicator; columns of COLUMNS but for density and words.

    Args:
        read: rows of the store -> their feature activations.
        n: None: as many as the study says.
    """
    n = run.config.n_features if n is None else n
    spans = span_table(run.store.tokens, run.transcripts)
    labelled = span_last_tokens(spans, run.taxonomy.slugs, n_tokens=run.store.n_tokens)
    splits = np.array([run.transcripts[c].split for c in labelled.conversation])
    active = read(labelled.rows)
    rows: list[dict[str, Any]] = []
    for at, indicator in enumerate(run.taxonomy.slugs):
        used = np.flatnonzero(labelled.kinds[:, at] != NOT_USED)
        kinds = labelled.kinds[used, at]
        rows += _rank(indicator, active[used], kinds, splits[used], n)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _rank(
    indicator: str, active: sp.csr_matrix, kinds: np.ndarray, splits: np.ndarray, n: int
) -> list[dict[str, Any]]:
    """The best features of an indicator by AUROC on the ranking spans, with their AUROC on the test spans."""
    test = splits == "test"
    ranking = ~test if test.any() else np.ones(len(test), dtype=bool)
    shown = test if test.any() else ranking
    is_positive = kinds == SPAN
    if not _both(is_positive[ranking]) or not _both(is_positive[shown]):
        return []
    positive = _mean(active[ranking & is_positive])
    negative = _mean(active[ranking & ~is_positive])
    candidates = np.argsort(-np.abs(positive - negative), kind="stable")[:N_CANDIDATES]
    dense = np.asarray(active[:, candidates].todense())
    quality = _worst_auroc(dense[ranking], kinds[ranking])
    held_out = _worst_auroc(dense[shown], kinds[shown])
    best = np.argsort(-quality, kind="stable")[:n]
    return [
        {
            "indicator": indicator,
            "rank": rank,
            "feature": int(candidates[i]),
            "weight": float(positive[candidates[i]] - negative[candidates[i]]),
            "auroc": float(held_out[i]),
            "mean_positive": float(positive[candidates[i]]),
            "mean_negative": float(negative[candidates[i]]),
            "split": "test" if test.any() else "all",
        }
        for rank, i in enumerate(best, start=1)
    ]


def _worst_auroc(dense: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """AUROC of each feature against look-alikes and against all other text, the lower of the two.

    A feature of any endorsement passes the first alone, a feature of the topic the second.
    """
    found = [
        auroc_by_column(dense[used], kinds[used] == SPAN)
        for used in (kinds != HARD_NEGATIVE, kinds != OTHER)
        if _both(kinds[used] == SPAN)
    ]
    return np.minimum.reduce(found)


def _both(is_positive: np.ndarray) -> bool:
    return bool(is_positive.any() and not is_positive.all())


def _mean(active: sp.csr_matrix) -> np.ndarray:
    return np.asarray(active.mean(axis=0)).ravel()


def _examples(run: Run, store: FeatureStore, feature: int) -> list[dict[str, Any]]:
    found = store.top_examples(feature, N_FEATURE_EXAMPLES, tokens=run.store.tokens)
    return [
        {
            "tokens": token_words(run, np.array(example.token_ids)),
            "acts": [round(float(act), 3) for act in example.acts],
            "transcript_id": example.transcript_id,
            "position": example.position,
        }
        for example in found
    ]


def _words(examples: list[dict[str, Any]]) -> str:
    """The words that the feature is strongest on: a hint, no evidence."""
    words = Counter(example["tokens"][example["position"]].strip() for example in examples)
    return ", ".join(word for word, _ in words.most_common(N_WORDS))
