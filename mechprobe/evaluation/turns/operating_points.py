"""`thresholds.parquet`: what detectors do at thresholds that were tuned on neutral turns of other folds.

Neutral turns are those of transcripts that are known to hold nothing. Where a neutral set of its own is given, each
fold's detectors score it and their thresholds are set on these scores: the conformal guarantee, which wants one
detector for both, holds as it stands. Without one, the threshold is set on the neutral turns of the other folds and
applied to the fold's own. They were scored by the detectors of their own folds, so the guarantee holds as far as
these are alike: all scores, of probes and of text, are standardised within their fold by the same rule.
`fpr_test_neutral` is the direct check. Rates pool the folds, each turn counted once.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Float64, Int

from mechprobe.errors import LabelError
from mechprobe.evaluation.detection import MIN_POSITIVES
from mechprobe.evaluation.turns.scored_turns import ScoredTurns, TurnFolds
from mechprobe.evaluation.turns.turn_fusion import tunable
from mechprobe.probes.scoring.fusion import Allotment, OrRule, tune_or
from mechprobe.probes.scoring.thresholds import (
    Threshold,
    ThresholdRule,
    effective_units,
    threshold_at,
    upper_bound,
)

THRESHOLD_COLUMNS = (
    "indicator",
    "scorer",
    "hook_name",
    "view",
    "unit",
    "rule",
    "fpr_target",
    "value",
    "probe_fpr",
    "fpr_neutral",
    "fpr_neutral_upper",
    "n_neutral",
    "n_effective",
    "refused",
    "tpr",
    "tpr_low",
    "tpr_high",
    "fpr_test",
    "fpr_test_neutral",
    "fpr_test_neutral_upper",
    "n_pos",
    "n_neg",
)
ALLOTMENTS: tuple[Allotment, ...] = ("each", "bonferroni", "joint")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Tested:
    """Units with the fold of each: turns, or transcripts by their highest turn."""

    scores: Float64[np.ndarray, "unit member"]
    is_positive: Bool[np.ndarray, "unit"]
    is_negative: Bool[np.ndarray, "unit"]
    neutral: Bool[np.ndarray, "unit"]
    """Units of the test data that are known to hold nothing."""
    tuning: Bool[np.ndarray, "unit"] | None
    """Units of a neutral set of its own."""
    fold: Int[np.ndarray, "unit"]
    clusters: Int[np.ndarray, "unit"]


def threshold_rows(
    one: ScoredTurns,
    folds: TurnFolds,
    column: int,
    *,
    targets: Sequence[float],
    rule: ThresholdRule,
) -> Iterator[dict[str, object]]:
    """Rows of one scorer and column, at each target, for turns and for transcripts."""
    scores = one.scores[:, [column]]
    for unit, tested in _units(scores, folds, column):
        for target in targets:

            def tune(
                neutral: np.ndarray, clusters: np.ndarray, target: float = target
            ) -> Threshold:
                return threshold_at(neutral[:, 0], target, rule=rule, clusters=clusters)

            names = {"indicator": folds.truth.columns[column], **one.names, "unit": unit}
            yield {**names, "rule": rule, "fpr_target": target, **_measure(tested, tune)}


def or_rows(
    one: ScoredTurns,
    folds: TurnFolds,
    members: Int[np.ndarray, "member"],
    *,
    targets: Sequence[float],
    rule: ThresholdRule,
) -> Iterator[dict[str, object]]:
    """Rows of the OR over some columns as a detector of `misaligned`, by each way to allot the target."""
    for unit, tested in _units(one.scores[:, members], folds, folds.single):
        for target in targets:
            for allotment in ALLOTMENTS:

                def tune(
                    neutral: np.ndarray,
                    clusters: np.ndarray,
                    target: float = target,
                    allotment: Allotment = allotment,
                ) -> OrRule:
                    return tune_or(
                        neutral, target, allotment=allotment, rule=rule, clusters=clusters
                    )

                names = {"indicator": folds.truth.columns[folds.single], **one.names, "unit": unit}
                names["scorer"] = f"{one.scorer}_or_{allotment}"
                yield {**names, "rule": rule, "fpr_target": target, **_measure(tested, tune)}


def threshold_table(rows: Sequence[dict[str, object]]) -> pd.DataFrame:
    """The rows as a table of THRESHOLD_COLUMNS."""
    return pd.DataFrame(list(rows), columns=list(THRESHOLD_COLUMNS))


def _units(
    scores: Float64[np.ndarray, "turn member"], folds: TurnFolds, column: int
) -> Iterator[tuple[str, _Tested]]:
    truth, label = folds.truth, folds.labels[:, column]
    tuning = folds.tuning
    scored = np.isfinite(scores).any(axis=1) & (
        label >= 0 if tuning is None else (label >= 0) | tuning
    )
    conversation = truth.turns["conversation"].to_numpy(dtype=np.int64)[scored]
    turns = _Tested(
        scores=scores[scored],
        is_positive=label[scored] == 1,
        is_negative=label[scored] == 0,
        neutral=truth.neutral[scored],
        tuning=None if tuning is None else tuning[scored],
        fold=folds.fold[scored],
        clusters=conversation,
    )
    yield "turn", turns
    codes, first, of_turn = np.unique(conversation, return_index=True, return_inverse=True)
    highest = np.full((len(codes), scores.shape[1]), -np.inf)
    np.fmax.at(highest, of_turn, turns.scores)
    in_positive = truth.in_positive[scored, column][first]
    yield (
        "transcript",
        _Tested(
            scores=np.where(np.isinf(highest), np.nan, highest),
            is_positive=in_positive,
            is_negative=~in_positive
            if turns.tuning is None
            else ~(in_positive | turns.tuning[first]),
            neutral=turns.neutral[first],
            tuning=None if turns.tuning is None else turns.tuning[first],
            fold=turns.fold[first],
            clusters=codes,
        ),
    )


def _measure(
    tested: _Tested, tune: Callable[[np.ndarray, np.ndarray], Threshold | OrRule]
) -> dict[str, object]:
    """Tune on neutral units, of their own set or of the other folds, fire on each fold's own, and count."""
    fired = np.zeros(len(tested.fold), dtype=bool)
    found: list[Threshold | OrRule] = []
    refused = "no unit was scored"
    for number in np.unique(tested.fold):
        test = tested.fold == number
        apart = tested.neutral & ~test if tested.tuning is None else tested.tuning & test
        neutral, rows = tunable(tested.scores, apart)
        try:
            one = tune(neutral, tested.clusters[rows])
        except LabelError as error:
            refused = str(error)
            break
        refused = ""
        found.append(one)
        fired[test] = _fires(one, tested.scores[test])
    if refused:
        return {"refused": refused, **_counts(tested)}
    return {"refused": "", **_tuned(found), **_counts(tested), **_rates(fired, tested)}


def _fires(one: Threshold | OrRule, scores: np.ndarray) -> np.ndarray:
    return one.fires(scores) if isinstance(one, OrRule) else scores[:, 0] > one.value


def _tuned(found: Sequence[Threshold | OrRule]) -> dict[str, object]:
    """The folds' thresholds in one line: middle value, mean rate, and of the folds the least certain."""
    values = [one.value for one in found if isinstance(one, Threshold)]
    rates = [one.probe_fpr for one in found if isinstance(one, OrRule)]
    return {
        "value": float(np.median(values)) if values else np.nan,
        "probe_fpr": float(np.mean(rates)) if rates else np.nan,
        "fpr_neutral": float(np.mean([one.fpr for one in found])),
        "fpr_neutral_upper": max(one.fpr_upper for one in found),
        "n_neutral": min(one.n_negatives for one in found),
        "n_effective": min(one.n_effective for one in found),
    }


def _counts(tested: _Tested) -> dict[str, object]:
    return {"n_pos": int(tested.is_positive.sum()), "n_neg": int(tested.is_negative.sum())}


def _rates(fired: np.ndarray, tested: _Tested) -> dict[str, object]:
    """Shares that fire, NaN without units; the true-positive rate is not given for fewer than five positives."""
    positive, neutral = fired[tested.is_positive], fired[tested.neutral]
    row: dict[str, object] = {
        "fpr_test": _share(fired[tested.is_negative]),
        "fpr_test_neutral": _share(neutral),
    }
    if len(neutral):
        n = effective_units(neutral, tested.clusters[tested.neutral])
        row["fpr_test_neutral_upper"] = upper_bound(neutral.mean() * n, n)
    if len(positive) >= MIN_POSITIVES:
        n = effective_units(positive, tested.clusters[tested.is_positive])
        rate = float(positive.mean())
        row["tpr"] = rate
        row["tpr_low"] = 1 - upper_bound((1 - rate) * n, n, 0.975)
        row["tpr_high"] = upper_bound(rate * n, n, 0.975)
    return row


def _share(fired: Bool[np.ndarray, "unit"] | Float[np.ndarray, "unit"]) -> float:
    return float(fired.mean()) if len(fired) else float("nan")
