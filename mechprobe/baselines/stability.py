"""Are the features that drive a scorer a fact of the labels, or of the rows that it happened to see?

A scorer is fitted on random halves of the data, with its labels and with labels dealt anew. If the labels mean something,
the halves agree on what matters; where they mean nothing each half finds other features, and overlaps as chance does.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Int

from mechprobe.baselines.shuffled import shuffle_labels
from mechprobe.errors import ConfigError, ShapeError
from mechprobe.probes.estimators import RowEstimator, fit_selected
from mechprobe.probes.explaining.explanations import attribute, chance_jaccard, mean_jaccard, top_k
from mechprobe.probes.matrix import size_of, take_rows
from mechprobe.probes.probe import Probe
from mechprobe.probes.rows import LabelledRows, fittable

STABILITY_COLUMNS = ("indicator", "k", "n_draws", "overlap", "shuffled", "chance")


@dataclass(frozen=True, kw_only=True, slots=True)
class StabilityConfig:
    """How often to fit, and how many features to compare."""

    k: int = 20
    """Features of highest importance that are compared."""
    n_draws: int = 5
    """Halves that are drawn; each is fitted twice."""
    seed: int = 0
    """Of the halves, the dealt labels and the estimator."""

    def __post_init__(self) -> None:
        if self.k < 1 or self.n_draws < 2:
            raise ConfigError(
                f"k is {self.k} and n_draws {self.n_draws}; they must be at least 1 and 2."
            )


def feature_stability(
    estimator: RowEstimator[Probe],
    rows: LabelledRows,
    groups: Int[np.ndarray, "tok"],
    config: StabilityConfig | None = None,
) -> pd.DataFrame:
    """How far halves of the data agree on the top features, with true and with dealt labels.

    Args:
        estimator: of probes that can be explained (see `explanations.attribute`); its middle strength is taken.
        groups: rows of one group (a scenario, a transcript) are drawn together.

    Returns:
        STABILITY_COLUMNS: `overlap` and `shuffled` are mean Jaccard overlaps of the top k over all pairs of halves,
        with the labels and with dealt ones; `chance` that of random sets. NaN where fewer than two halves held both
        classes.

    Raises:
        ShapeError: there is not one group a row.
        ConfigError: the probes cannot be explained.
    """
    config = config or StabilityConfig()
    if len(groups) != len(rows.labels):
        raise ShapeError(f"{len(groups)} groups for {len(rows.labels)} rows; give one for each.")
    found: dict[tuple[str, bool], list[np.ndarray]] = {}
    for draw in range(config.n_draws):
        half = _half(rows, groups, np.random.default_rng([config.seed, draw]))
        for is_dealt in (False, True):
            given = shuffle_labels(half, config.seed + draw) if is_dealt else half
            probes = fit_selected(estimator, given, None, seed=config.seed + draw)
            for indicator, probe in zip(half.indicators, probes, strict=True):
                top = top_k(attribute(probe, half.X).mean_abs, config.k)
                found.setdefault((indicator, is_dealt), []).append(top)
    n_features = size_of(rows.X)[1]
    chance = chance_jaccard(min(config.k, n_features), n_features)
    return pd.DataFrame(
        [
            (
                indicator,
                config.k,
                len(found.get((indicator, False), ())),
                _overlap(found.get((indicator, False), ())),
                _overlap(found.get((indicator, True), ())),
                chance,
            )
            for indicator in rows.indicators
        ],
        columns=list(STABILITY_COLUMNS),
    )


def _half(rows: LabelledRows, groups: np.ndarray, rng: np.random.Generator) -> LabelledRows:
    """Half of the groups, with the indicators that have both classes there."""
    names = np.unique(groups)
    chosen = rng.permutation(names)[: max(1, len(names) // 2)]
    kept = np.flatnonzero(np.isin(groups, chosen))
    columns = fittable(rows.labels[kept])
    return LabelledRows(
        X=take_rows(rows.X, kept),
        labels=rows.labels[np.ix_(kept, columns)],
        indicators=tuple(rows.indicators[at] for at in columns),
    )


def _overlap(sets: Sequence[np.ndarray]) -> float:
    return mean_jaccard(sets) if len(sets) > 1 else float("nan")
