"""Probes of whole turns: fitted on the labels of turns, where the other probes are fitted on labelled tokens.

A turn is the run of its tokens that count (see `Pooling`), and its score is what the probe makes of the whole run: no
sentence is pooled. Fits read some tokens of a turn, evenly spaced, since their cost grows with the tokens and none of
them looks at the order; settings that do (a window, a half-life) are chosen on whole turns, and whole turns are scored.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int, Int8

from mechprobe.evaluation.folds import Calibrated, Fold, TokenSource, negatives_of
from mechprobe.evaluation.turns.turn_config import TurnDetectionConfig
from mechprobe.probes.estimators import Reads, fit_again
from mechprobe.probes.kinds.sequence_estimators import (
    find_sequence_estimator,
    fit_units_selected,
    unit_scores_of,
)
from mechprobe.probes.kinds.sequences import HeldOutUnits, LabelledUnits, SequenceProbe
from mechprobe.probes.labels.balance import draw_balanced, with_class_weights
from mechprobe.probes.matrix import Matrix, size_of, stack_rows
from mechprobe.probes.probe_set import ProbeSet
from mechprobe.probes.rows import fittable
from mechprobe.probes.scoring.aggregation import Pooling, View, ViewPoolings

_BLOCK = 65_536
"""Rows read from the store at once; a longer turn is read whole."""


def fit_unit_probes(
    fold: Fold,
    pooling: Pooling,
    labels: Int8[np.ndarray, "turn column"],
    columns: tuple[str, ...],
    source: TokenSource,
    names: Sequence[str],
    config: TurnDetectionConfig,
) -> Iterator[Calibrated]:
    """Every estimator of units that the source can serve, as `evaluation.folds.fit_fold` does those of rows.

    Args:
        pooling: of the full turns, all conversations.
        labels: 1 has it, 0 has it not, -1 unknown, for the pooling's turns.
        columns: names of the labels' columns.
    """
    labelled = _label(fold, pooling, labels, config)
    kept = fittable(labelled.fit_labels)
    for reads in ("acts", "feature_acts"):
        chosen = [one for one in map(find_sequence_estimator, names) if one.reads == reads]
        if not chosen or not len(kept) or (reads == "feature_acts" and source.features is None):
            continue
        indicators = tuple(columns[at] for at in kept.tolist())
        data = _read_fold(labelled, pooling, kept, indicators, reads, source, config)
        for estimator in chosen:
            if config.labels.balance == "weights":
                estimator = with_class_weights(estimator)
            probes = fit_units_selected(estimator, data.fit, data.held, seed=config.seed)
            probes = fit_again(estimator, data.both, probes, seed=config.seed)
            mean, std = _scale(probes, data.held)
            yield Calibrated(
                probes=ProbeSet(
                    scorer=estimator.name,
                    hook_name=source.hook_name,
                    reads=reads,
                    indicators=indicators,
                    probes=probes,
                ),
                columns=kept,
                mean=mean,
                std=std,
            )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Labelled:
    """Which turns are fitted on and which choose settings, with their labels."""

    fit: Bool[np.ndarray, "turn"]
    select: Bool[np.ndarray, "turn"]
    fit_labels: Int8[np.ndarray, "fitted column"]
    select_labels: Int8[np.ndarray, "selecting column"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _FoldUnits:
    """What estimators of units read in a fold."""

    fit: LabelledUnits
    both: LabelledUnits
    """The turns of `fit`, then those that choose."""
    held: HeldOutUnits | None
    """Whole turns that choose; None where there is none."""


def _label(
    fold: Fold,
    pooling: Pooling,
    labels: Int8[np.ndarray, "turn column"],
    config: TurnDetectionConfig,
) -> _Labelled:
    conversation = pooling.turns["conversation"].to_numpy()
    known = (labels >= 0).any(axis=1)
    fit, select = (chosen[conversation] & known for chosen in (fold.fit, fold.select))
    drawn = [labels[fit], labels[select]]
    if config.labels.balance == "draw":
        ratio = config.labels.negatives_per_positive
        drawn = [draw_balanced(part, ratio, config.seed) for part in drawn]
    return _Labelled(fit=fit, select=select, fit_labels=drawn[0], select_labels=drawn[1])


def _read_fold(
    labelled: _Labelled,
    pooling: Pooling,
    kept: Int[np.ndarray, "kept"],
    indicators: tuple[str, ...],
    reads: Reads,
    source: TokenSource,
    config: TurnDetectionConfig,
) -> _FoldUnits:
    X, starts = _read(pooling, labelled.fit, reads, source, config.unit_tokens)
    fit_labels, select_labels = labelled.fit_labels[:, kept], labelled.select_labels[:, kept]
    fit = LabelledUnits(X=X, starts=starts, labels=fit_labels, indicators=indicators)
    if not labelled.select.any():
        return _FoldUnits(fit=fit, both=fit, held=None)
    more, more_starts = _read(pooling, labelled.select, reads, source, config.unit_tokens)
    both = LabelledUnits(
        X=stack_rows(X, more),
        starts=np.concatenate([starts, size_of(X)[0] + more_starts]),
        labels=np.concatenate([fit_labels, select_labels]),
        indicators=indicators,
    )
    whole, whole_starts = _read(pooling, labelled.select, reads, source, None)
    held = HeldOutUnits(X=whole, starts=whole_starts, labels=select_labels)
    return _FoldUnits(fit=fit, both=both, held=held)


def _scale(
    probes: Sequence[SequenceProbe], held: HeldOutUnits | None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and spread of the scores of held-out negatives; 0 and 1 without any."""
    if held is None:
        return np.zeros(len(probes)), np.ones(len(probes))
    return negatives_of(unit_scores_of(probes, held.X, held.starts), held.labels)


def score_unit_views(
    fitted: Sequence[Calibrated], plan: ViewPoolings, source: TokenSource
) -> list[dict[View, Float32[np.ndarray, "turn fitted"]]]:
    """Turn scores of every probe set in every view, each block of turns being read once for all of them."""
    found: list[dict[View, np.ndarray]] = [{} for _ in fitted]
    for view, pooling in plan.views.items():
        parts: list[list[np.ndarray]] = [[] for _ in fitted]
        for turns in _blocks(pooling.turn_rows):
            read: dict[Reads, tuple[Matrix, np.ndarray]] = {}
            for at, one in enumerate(fitted):
                reads = one.probes.reads
                if reads not in read:
                    read[reads] = _read(pooling, turns, reads, source, None)
                scores = unit_scores_of(one.probes.probes, *read[reads])  # pyright: ignore
                parts[at].append(((scores - one.mean) / one.std).astype(np.float32))
        for at, one in enumerate(fitted):
            nothing = np.zeros((0, len(one.columns)), dtype=np.float32)
            found[at][view] = np.concatenate([nothing, *parts[at]])
    return found


def evenly_spaced(
    lengths: Int[np.ndarray, "unit"], n_most: int | None
) -> tuple[Int[np.ndarray, "kept"], Int[np.ndarray, "unit"]]:
    """At most so many rows of each run of rows, evenly spaced from its first on; and how many are kept of each."""
    first = np.cumsum(lengths) - lengths
    unit = np.repeat(np.arange(len(lengths)), lengths)
    if n_most is None:
        return np.arange(len(unit)), lengths
    place = np.arange(len(unit)) - first[unit]
    size = np.maximum(lengths, 1)[unit]
    share = np.minimum(n_most, size)
    # A row is kept where the next of `share` equal parts of the run begins.
    kept = place * share // size != (place - 1) * share // size
    return np.flatnonzero(kept), np.minimum(lengths, n_most)


def _read(
    pooling: Pooling,
    turns: Bool[np.ndarray, "turn"],
    reads: Reads,
    source: TokenSource,
    n_most: int | None,
) -> tuple[Matrix, Int[np.ndarray, "unit"]]:
    """The rows of some turns, and where each turn starts among them."""
    lengths = pooling.turn_rows
    rows = pooling.rows[np.repeat(turns, lengths)]
    kept, sizes = evenly_spaced(lengths[turns], n_most)
    return source.read(reads, rows[kept]), np.cumsum(sizes) - sizes


def _blocks(lengths: Int[np.ndarray, "turn"]) -> Iterator[Bool[np.ndarray, "turn"]]:
    """Runs of turns, as masks, of at most _BLOCK rows or one turn each."""
    start = 0
    while start < len(lengths):
        stop = start + max(1, int((np.cumsum(lengths[start:]) <= _BLOCK).sum()))
        turns = np.zeros(len(lengths), dtype=bool)
        turns[start:stop] = True
        yield turns
        start = stop
