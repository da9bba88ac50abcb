"""`decomposition.parquet`: many fine probes, a few coarse ones, or one: which detects misaligned turns best?

Fine: a probe for each indicator; coarse: one for each behaviour, fitted to the union of its indicators; single: one
for any indicator. All are fitted on the same tokens in the same pass, fused in the same way and compared on the same
turns, at thresholds with the same share of the negatives firing.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float64

from mechprobe.evaluation.bootstrap import auroc_difference, auroc_interval
from mechprobe.evaluation.detection import MIN_POSITIVES
from mechprobe.evaluation.metrics import tpr_at_fpr
from mechprobe.evaluation.turns.scored_turns import ScoredTurns, TurnFolds
from mechprobe.evaluation.turns.turn_fusion import Fusion, fuse
from mechprobe.evaluation.units import Turns, Units, transcript_units, turn_units
from mechprobe.taxonomy import Taxonomy

DECOMPOSITION_COLUMNS = (
    "scorer",
    "hook_name",
    "view",
    "fusion",
    "grain",
    "n_probes",
    "unit",
    "fpr_target",
    "tpr",
    "auroc",
    "auroc_low",
    "auroc_high",
    "minus_fine",
    "minus_fine_low",
    "minus_fine_high",
    "n_pos",
    "n_neg",
)
GRAIN_FUSIONS: tuple[Fusion, ...] = ("fused", "noisy_or")


def unions_of(taxonomy: Taxonomy, indicators: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Behaviour -> those of the indicators that belong to it; behaviours without any are left out."""
    members = {
        behavior.slug: tuple(
            one.slug
            for one in taxonomy.indicators
            if behavior.slug in one.behaviors and one.slug in indicators
        )
        for behavior in taxonomy.behaviors
    }
    return {slug: slugs for slug, slugs in members.items() if slugs}


def decomposition_rows(
    one: ScoredTurns, folds: TurnFolds, *, targets: Sequence[float], n_boot: int, seed: int
) -> Iterator[dict[str, object]]:
    """Rows of one scorer: each fusion, grain, unit and target; the single probe needs no fusion."""
    for fusion in GRAIN_FUSIONS:
        scores = {
            "fine": (len(folds.fine), fuse(fusion, one, folds, folds.fine)),
            "coarse": (len(folds.coarse), fuse(fusion, one, folds, folds.coarse)),
            "single": (1, one.scores[:, folds.single]),
        }
        used = np.isfinite(np.stack([values for _, values in scores.values()])).all(axis=0)
        used &= folds.labels[:, folds.single] >= 0
        units = {grain: _units(values, folds, used) for grain, (_, values) in scores.items()}
        for unit in ("turn", "transcript"):
            for grain, (n_probes, _) in scores.items():
                names = {"fusion": fusion, "grain": grain, "n_probes": n_probes, "unit": unit}
                fine, here = units["fine"][unit], units[grain][unit]
                found = _compared(here, fine, n_boot=n_boot, seed=seed)
                for target in targets:
                    tpr = {"fpr_target": target, "tpr": _tpr(here, target)}
                    yield {**one.names, **names, **tpr, **found}


def decomposition_table(rows: Sequence[dict[str, object]]) -> pd.DataFrame:
    """The rows as a table of DECOMPOSITION_COLUMNS."""
    return pd.DataFrame(list(rows), columns=list(DECOMPOSITION_COLUMNS))


def _units(
    values: Float64[np.ndarray, "turn"], folds: TurnFolds, used: np.ndarray
) -> dict[str, Units]:
    turns = Turns(
        transcript=folds.truth.turns["conversation"].to_numpy(dtype=np.int64)[used],
        is_positive=folds.truth.labels[used, folds.single] == 1,
        in_positive=folds.truth.in_positive[used, folds.single],
        fold=folds.fold[used],
    )
    return {
        "turn": turn_units(values[used], turns),
        "transcript": transcript_units(values[used], turns),
    }


def _compared(here: Units, fine: Units, *, n_boot: int, seed: int) -> dict[str, object]:
    n_pos = int(here.is_positive.sum())
    counts = {"n_pos": n_pos, "n_neg": len(here.is_positive) - n_pos}
    if n_pos < MIN_POSITIVES or not here.n_pairs:
        return dict(counts)
    own = auroc_interval(here, n_boot=n_boot, seed=seed)
    row: dict[str, object] = {
        "auroc": own.value,
        "auroc_low": own.low,
        "auroc_high": own.high,
        **counts,
    }
    if here is not fine:
        gap = auroc_difference(here, fine, n_boot=n_boot, seed=seed)
        names = ("minus_fine", "minus_fine_low", "minus_fine_high")
        row |= dict(zip(names, (gap.value, gap.low, gap.high), strict=True))
    return row


def _tpr(units: Units, target: float) -> float:
    """NaN where the negatives cannot resolve the target, or there are fewer than five positives."""
    n_pos = int(units.is_positive.sum())
    n_neg = len(units.is_positive) - n_pos
    if n_pos < MIN_POSITIVES or n_neg * target < 1:
        return float("nan")
    return tpr_at_fpr(units.scores, units.is_positive, target).tpr
