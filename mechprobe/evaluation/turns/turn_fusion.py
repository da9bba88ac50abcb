"""One score for `misaligned` from the scores of many indicators: every fusion by its name, out of fold.

What a fusion learns (calibrations, weights) it learns on the turns of other folds than the one it scores; these were
scored by the probes of their own folds. Thresholds it takes from neutral turns, of other folds or of a set of its own.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float64, Int

from mechprobe.errors import LabelError
from mechprobe.evaluation.turns.scored_turns import ScoredTurns, TurnFolds, calibrate
from mechprobe.probes.scoring.fusion import fit_stack, max_raw, mean_log_odds, noisy_or, or_tuned

Fusion = Literal["fused", "max_raw", "or_tuned", "noisy_or", "mean_log_odds", "stacked"]
"""fused: the highest standardised score. max_raw: the highest raw one. or_tuned: the paper's OR over tuned
thresholds. noisy_or, mean_log_odds, stacked: of calibrated probabilities; see `probes.scoring.fusion`."""
FUSIONS: tuple[Fusion, ...] = get_args(Fusion)


def fuse(
    fusion: Fusion, one: ScoredTurns, folds: TurnFolds, members: Int[np.ndarray, "member"]
) -> Float64[np.ndarray, "turn"]:
    """Fused scores of all turns; NaN where no member has a score or the fusion had too little to learn from.

    Args:
        members: columns that are fused.
    """
    scores = one.scores[:, members]
    if fusion == "fused":
        return max_raw(scores)
    if fusion == "max_raw":
        return max_raw(one.raw[:, members] if one.raw is not None else scores)
    fused = np.full(len(scores), np.nan)
    for part in folds.parts():
        try:
            if fusion == "or_tuned":
                fused[part.test] = _or(scores, part.neutral, part.test)
            else:
                found = _calibrated(fusion, scores, folds, members, part.known)
                fused[part.test] = found[part.test]
        except LabelError:  # too little to learn from: this fold has no such score
            continue
    fused[~np.isfinite(scores).any(axis=1)] = np.nan
    return fused


def tunable(
    scores: Float64[np.ndarray, "turn member"], rows: np.ndarray
) -> tuple[Float64[np.ndarray, "neutral member"], np.ndarray]:
    """Scores of those rows that were scored at all, and which they are; members that lack some are all NaN."""
    rows = np.flatnonzero(rows & np.isfinite(scores).any(axis=1))
    chosen = scores[rows]
    return np.where(np.isfinite(chosen).all(axis=0), chosen, np.nan), rows


def _or(scores: np.ndarray, neutral: np.ndarray, test: np.ndarray) -> np.ndarray:
    negatives, _ = tunable(scores, neutral)
    return or_tuned(scores[test], negatives)


def _calibrated(
    fusion: Fusion,
    scores: np.ndarray,
    folds: TurnFolds,
    members: Sequence[int] | np.ndarray,
    known: np.ndarray,
) -> np.ndarray:
    probabilities = calibrate(scores, folds.labels[:, members], known).values
    if fusion == "noisy_or":
        return noisy_or(probabilities)
    if fusion == "mean_log_odds":
        return mean_log_odds(probabilities)
    label = folds.labels[:, folds.single]
    used = known & (label >= 0) & np.isfinite(probabilities).any(axis=1)
    return fit_stack(probabilities[used], label[used] == 1).apply(probabilities)
