"""Splits and folds in which a scenario stands on one side only."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Int

from mechprobe.errors import ConfigError, DataError
from mechprobe.transcripts.transcript import Transcript

FRACTIONS: Mapping[str, float] = {"fit": 0.6, "select": 0.2, "test": 0.2}


def assign_splits(
    transcripts: Sequence[Transcript],
    fractions: Mapping[str, float] = FRACTIONS,
    seed: int = 0,
) -> list[Transcript]:
    """Give every transcript a split, whole groups at a time, each behaviour in about the same proportions.

    A transcript without a group is a group of its own. The same transcripts and seed give the same splits, in
    whatever order they come.

    Raises:
        ConfigError: the fractions are not positive or do not add up to 1.
        DataError: there are fewer groups than splits.
    """
    if min(fractions.values(), default=0) <= 0 or abs(sum(fractions.values()) - 1) > 1e-9:
        raise ConfigError(
            f"the split fractions are {dict(fractions)}; each must be > 0 and they must add up to 1."
        )
    groups = group_names(transcripts)
    sizes = Counter(groups)
    if len(sizes) < len(fractions):
        raise DataError(
            f"there are {len(sizes)} groups (scenarios) for {len(fractions)} splits; "
            "add transcripts, or give them their scenarios as groups."
        )
    split_of = _fill(_mixed_order(transcripts, groups, seed), sizes, fractions)
    return [
        replace(transcript, split=split_of[group])
        for transcript, group in zip(transcripts, groups, strict=True)
    ]


def group_names(transcripts: Sequence[Transcript]) -> list[str]:
    """Each transcript's group; its own id where it has none."""
    return [transcript.group or transcript.id for transcript in transcripts]


def grouped_folds(groups: Sequence[str], n_folds: int, seed: int = 0) -> Int[np.ndarray, "item"]:
    """The fold (0 to n_folds - 1) of each item; items of one group share a fold, folds are about equal.

    Raises:
        ConfigError: there are fewer than two folds, or fewer groups than folds.
    """
    sizes = Counter(groups)
    if not 2 <= n_folds <= len(sizes):
        raise ConfigError(
            f"n_folds is {n_folds}; it must be at least 2 and at most the number of groups, {len(sizes)}."
        )
    names = sorted(sizes)
    order = np.random.default_rng(seed).permutation(len(names))
    fold_of: dict[str, int] = {}
    filled = [0] * n_folds
    for index in sorted(order, key=lambda index: -sizes[names[index]]):
        fold = filled.index(min(filled))
        fold_of[names[index]] = fold
        filled[fold] += sizes[names[index]]
    return np.array([fold_of[group] for group in groups], dtype=np.int64)


def _mixed_order(transcripts: Sequence[Transcript], groups: Sequence[str], seed: int) -> list[str]:
    """The groups, behaviour after behaviour, in random order within each."""
    behavior_of: dict[str, str] = {}
    for transcript, group in zip(transcripts, groups, strict=True):
        behavior_of[group] = min(behavior_of.get(group, transcript.behavior), transcript.behavior)
    names = sorted(behavior_of)
    ranks = np.random.default_rng(seed).permutation(len(names))
    rank_of = dict(zip(names, ranks, strict=True))
    return sorted(names, key=lambda name: (behavior_of[name], rank_of[name]))


def _fill(
    order: Sequence[str], sizes: Mapping[str, int], fractions: Mapping[str, float]
) -> dict[str, str]:
    """Group after group into the split that is most behind its share of what was dealt so far."""
    split_of: dict[str, str] = {}
    filled = dict.fromkeys(fractions, 0)
    dealt = 0
    for left, group in zip(range(len(order), 0, -1), order, strict=True):
        dealt += sizes[group]
        empty = [name for name in fractions if not filled[name]]
        open_splits = empty if left <= len(empty) else list(fractions)
        behind = {name: fractions[name] * dealt - filled[name] for name in open_splits}
        split_of[group] = max(behind, key=lambda name: behind[name])
        filled[split_of[group]] += sizes[group]
    return split_of
