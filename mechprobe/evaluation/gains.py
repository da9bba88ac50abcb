"""What every scorer gains over the text baselines: paired differences on the same units, corrected for their number.

A probe on another model's transcripts may read no more than their length and their words. So each scorer is set
against each baseline on the very units that both scored, by turn, by transcript and by the paper's mixture: in its
place ("alone"), and beside it ("added": the mean of both scorers' ranks in their fold, which fits nothing). The p-values of one
comparison are corrected together (Holm): the best of twenty scorers is not a discovery.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from mechprobe.evaluation.differences import Difference, difference_of, holm
from mechprobe.evaluation.units import Units

GAIN_COLUMNS = (
    "indicator",
    "unit",
    "scorer",
    "hook_name",
    "baseline",
    "comparison",
    "auroc",
    "auroc_baseline",
    "difference",
    "low",
    "high",
    "p_value",
    "q_holm",
    "n_pos",
    "n_neg",
)
ALONE, ADDED = "alone", "added"
FEWEST = 5
"""Positives, and negatives, below which no difference is given."""
_KEYS = ["transcript_id", "turn", "span_id"]


def gain_table(
    scores: pd.DataFrame,
    baselines: Sequence[str],
    indicators: Sequence[str],
    *,
    n_boot: int = 1000,
    n_permutations: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Differences of every scorer to every baseline, on the units that both of them scored.

    Args:
        scores: a detection study's `scores.parquet`.
        baselines: names of scorers among them; those that are missing are passed over.
        indicators: which of the columns are asked.

    Returns:
        Columns GAIN_COLUMNS; `auroc` is that of the scorer, or of the scorer with the baseline ("added"), and
        `q_holm` is corrected over the scorers of one indicator, unit, baseline and comparison.
    """
    rows: list[dict[str, object]] = []
    for indicator in indicators:
        mine = scores.loc[(scores["indicator"] == indicator).to_numpy()]
        for unit, table in _by_unit(mine):
            by_scorer = _by_scorer(table)
            for baseline in baselines:
                for comparison in (ALONE, ADDED) if (baseline, "") in by_scorer else ():
                    names = {"indicator": indicator, "unit": unit, "comparison": comparison}
                    rows += _against(
                        by_scorer,
                        (baseline, ""),
                        names,
                        n_boot=n_boot,
                        n_permutations=n_permutations,
                        seed=seed,
                    )
    return pd.DataFrame(rows, columns=list(GAIN_COLUMNS))


def _by_unit(scores: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The rows of each unit; last the paper's mixture, made of positive transcripts and negative turns."""
    units = list(dict.fromkeys(scores["unit"].tolist()))
    for unit in units:
        yield str(unit), scores.loc[(scores["unit"] == unit).to_numpy()]
    if {"turn", "transcript"} <= set(units):
        is_transcript = (scores["unit"] == "transcript").to_numpy()
        yield "mixed", scores.loc[is_transcript == scores["is_positive"].to_numpy(dtype=bool)]


def _by_scorer(table: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """The rows of each scorer and hook point."""
    names = list(zip(table["scorer"].tolist(), table["hook_name"].tolist(), strict=True))
    code, known = pd.factorize(pd.Series(names, dtype=object))
    return {(str(name), str(hook)): table.loc[code == at] for at, (name, hook) in enumerate(known)}


def _against(
    by_scorer: dict[tuple[str, str], pd.DataFrame],
    baseline: tuple[str, str],
    names: dict[str, str],
    **draws: int,
) -> list[dict[str, object]]:
    """One row for each other scorer that shares enough units with the baseline."""
    found: dict[tuple[str, str], tuple[Difference, Units]] = {}
    for scorer, table in by_scorer.items():
        first, second = _shared(table, by_scorer[baseline])
        if names["comparison"] == ADDED:
            first = replace(first, scores=(_ranks(first) + _ranks(second)) / 2)
        n_pos = int(first.is_positive.sum())
        is_enough = min(n_pos, len(first.is_positive) - n_pos) >= FEWEST and first.n_pairs > 0
        if scorer != baseline and is_enough:
            found[scorer] = difference_of(first, second, **draws), first
    corrected = holm([difference.p_value for difference, _ in found.values()])
    return [
        {
            **names,
            "scorer": scorer[0],
            "hook_name": scorer[1],
            "baseline": baseline[0],
            "auroc": difference.first,
            "auroc_baseline": difference.second,
            "difference": difference.value,
            "low": difference.low,
            "high": difference.high,
            "p_value": difference.p_value,
            "q_holm": q_holm,
            "n_pos": int(units.is_positive.sum()),
            "n_neg": int((~units.is_positive).sum()),
        }
        for (scorer, (difference, units)), q_holm in zip(found.items(), corrected, strict=True)
    ]


def _ranks(units: Units) -> np.ndarray:
    """Rank of each unit among those of its fold, from 0 to 1."""
    ranks = np.zeros(len(units.scores))
    fold = np.zeros(len(ranks)) if units.fold is None else units.fold
    for number in np.unique(fold):
        here = fold == number
        ranks[here] = rankdata(units.scores[here]) / here.sum()
    return ranks


def _shared(first: pd.DataFrame, second: pd.DataFrame) -> tuple[Units, Units]:
    """Both scorers on the units that both have, in one order."""
    # A table of one's own may lack folds; then one fit scored all.
    has_folds = "fold" in first.columns and bool((first["fold"] >= 0).any())
    keys = [*_KEYS, "is_positive", *(["fold"] if has_folds else [])]
    both = first[[*keys, "score"]].merge(second[[*keys, "score"]], on=keys, validate="one_to_one")
    clusters = pd.factorize(both["transcript_id"])[0].astype(np.int64)
    is_positive = both["is_positive"].to_numpy(dtype=bool)
    ours, theirs = (
        Units(
            scores=both[name].to_numpy(dtype=np.float64),
            is_positive=is_positive,
            clusters=clusters,
            fold=both["fold"].to_numpy(dtype=np.int64) if has_folds else None,
        )
        for name in ("score_x", "score_y")
    )
    return ours, theirs
