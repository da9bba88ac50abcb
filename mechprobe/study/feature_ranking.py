"""The SAE features of an indicator, ranked by what they say of it and by what they do to the logits.

Input score: AUROC on test spans of features that were chosen on the others, the lower of that against look-alikes and
that against all other text. Beside it stands how often the best of all features does as well under permuted labels of
whole transcripts, since the best of thousands separates anything to some degree. Output score: how much the feature's
decoder row moves the logits directly, beside random rows of the same length (both scores after arXiv 2505.20063, whose
output score is measured by steering; ours is the direct path alone).
"""

from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from mechprobe.activations.rows import span_table
from mechprobe.probes.estimators import auroc_by_column
from mechprobe.probes.kinds.single_features import best_single_features
from mechprobe.probes.labels.examples import NOT_USED, SPAN, span_last_tokens
from mechprobe.probes.rows import LEFT_OUT, NEGATIVE, POSITIVE, LabelledRows, fittable
from mechprobe.saes.describing.directions import logit_lens, unembedding
from mechprobe.saes.features import FeatureStore
from mechprobe.saes.lens import decoder_rows
from mechprobe.study.feature_tables import rank_features
from mechprobe.study.run import Run

RANKING_COLUMNS = (
    "indicator",
    "rank",
    "feature",
    "auroc",
    "p_value",
    "by_luck",
    "mean_positive",
    "density",
    "output",
    "output_share",
    "split",
)
N_RANDOM = 200
"""Random directions that the output score is compared with."""


def feature_ranking(
    run: Run, features: FeatureStore, *, n: int, n_permutations: int = 200, seed: int = 0
) -> pd.DataFrame:
    """The n best features of every indicator, columns RANKING_COLUMNS.

    `auroc` is held out where the study has splits (`split` says so); `p_value` is that of the feature's AUROC on the
    ranking spans among the maxima over all features under permuted labels, `by_luck` the median of these maxima;
    `output` the spread in nats, over the vocabulary, of what the feature adds to the logits at its mean activation on
    positives, NaN for an encoder; `output_share` the share of random rows of equal length that move them less.
    """
    table = rank_features(run, features.csr, n)
    counts = features.index.counts()
    table["density"] = counts[table["feature"].to_numpy(dtype=np.int64)] / features.n_tokens
    table = table.merge(
        _chances(run, features, table, n_permutations, seed),
        on=["indicator", "feature"],
        how="left",
    )
    table["output"], table["output_share"] = _outputs(run, features.hook_name, table, seed)
    ranking: Any = table[list(RANKING_COLUMNS)]
    return ranking


def _chances(
    run: Run, features: FeatureStore, table: pd.DataFrame, n_permutations: int, seed: int
) -> pd.DataFrame:
    """Columns indicator, feature, p_value and by_luck."""
    rows, groups = ranking_rows(run, features)
    null = {
        best.indicator: best.null
        for best in best_single_features(
            rows, groups=groups, n_permutations=n_permutations, seed=seed
        )
    }
    found: list[dict[str, Any]] = []
    for indicator, chosen in table.groupby("indicator", sort=False)["feature"]:
        if indicator not in null:
            continue
        at = rows.indicators.index(str(indicator))
        used = rows.labels[:, at] != LEFT_OUT
        X: Any = rows.X
        dense = X[used][:, chosen.to_numpy(dtype=np.int64)].toarray()
        observed = np.abs(auroc_by_column(dense, rows.labels[used, at] == POSITIVE) - 0.5)
        reached = (null[str(indicator)][:, None] >= observed - 1e-9).sum(axis=0)
        found += [
            {
                "indicator": indicator,
                "feature": int(feature),
                "p_value": float((1 + more) / (1 + n_permutations)),
                "by_luck": 0.5 + float(np.median(null[str(indicator)])),
            }
            for feature, more in zip(chosen, reached, strict=True)
        ]
    return pd.DataFrame(found, columns=["indicator", "feature", "p_value", "by_luck"])


def ranking_rows(run: Run, features: FeatureStore) -> tuple[LabelledRows, np.ndarray]:
    """Last tokens of all spans but those of test transcripts, and the conversation of each."""
    spans = span_table(run.store.tokens, run.transcripts)
    labelled = span_last_tokens(spans, run.taxonomy.slugs, n_tokens=run.store.n_tokens)
    splits = np.array([run.transcripts[c].split for c in labelled.conversation])
    used = splits != "test" if (splits == "test").any() else np.ones(len(splits), dtype=bool)
    kinds = labelled.kinds[used]
    labels = np.where(kinds == SPAN, POSITIVE, NEGATIVE).astype(np.int8)
    labels[kinds == NOT_USED] = LEFT_OUT
    kept = fittable(labels)
    rows = LabelledRows(
        X=features.csr(labelled.rows[used]),
        labels=labels[:, kept],
        indicators=tuple(labelled.indicators[at] for at in kept),
    )
    return rows, labelled.conversation[used]


def _outputs(
    run: Run, hook_name: str, table: pd.DataFrame, seed: int
) -> tuple[Float[np.ndarray, "row"], Float[np.ndarray, "row"]]:
    """Spread of what each feature adds to the logits, and the share of random rows that add less."""
    unembed = unembedding(run.subject, hook_name)
    if unembed is None or not len(table):
        return np.full(len(table), np.nan), np.full(len(table), np.nan)
    rows = decoder_rows(run.sae).detach()[table["feature"].tolist()]
    strength = torch.tensor(table["mean_positive"].tolist())
    spread = logit_lens(rows, unembed, 1).spread
    random = torch.randn(N_RANDOM, rows.shape[1], generator=torch.Generator().manual_seed(seed))
    unit = logit_lens(random / random.norm(dim=1, keepdim=True), unembed, 1).spread
    less = (unit[None] * rows.norm(dim=1)[:, None] < spread[:, None]).double().mean(1)
    return (spread * strength).double().numpy(), less.numpy()
