"""Figures of written text as token ids: how varied it is, how much it repeats itself, how far apart two texts are."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from mechprobe.errors import ConfigError, ShapeError

REPEATED_N = 4
"""Length of the runs whose repetition is counted (seq-rep-4 of Welleck et al., arXiv 1908.04319)."""


def distinct_n(texts: Sequence[Sequence[int]], n: int) -> float:
    """Different runs of n tokens over all runs, of all texts together (Li et al., arXiv 1510.03055); NaN if none.

    It falls with the amount of text, so only equal numbers of texts are compared.

    Raises:
        ConfigError: n is below 1.
    """
    if n < 1:
        raise ConfigError(f"n is {n}; runs of tokens have 1 or more.")
    runs = [run for text in texts for run in _runs(text, n)]
    return len(set(runs)) / len(runs) if runs else float("nan")


def repetition(texts: Sequence[Sequence[int]], n: int = REPEATED_N) -> float:
    """Mean share of a text's runs of n tokens that have stood in it before; texts shorter than n are left out."""
    found = [_runs(text, n) for text in texts]
    shares = [1 - len(set(runs)) / len(runs) for runs in found if runs]
    return float(np.mean(shares)) if shares else float("nan")


def edit_distances(
    first: Sequence[Sequence[int]], second: Sequence[Sequence[int]]
) -> Float[np.ndarray, "text"]:
    """Least tokens to insert, delete or replace, over the longer text's length: 0 equal, 1 nothing in common.

    Raises:
        ShapeError: there are not as many texts on both sides.
    """
    if len(first) != len(second):
        raise ShapeError(
            f"{len(first)} texts cannot be compared with {len(second)}; give as many on both sides."
        )
    if not first:
        return np.zeros(0)
    own, own_length = _padded(first, -1)
    other, other_length = _padded(second, -2)
    columns = np.arange(other.shape[1] + 1)
    row = np.broadcast_to(columns, (len(first), len(columns))).copy()
    found = np.where(own_length == 0, other_length, 0)
    for i in range(own.shape[1]):
        diagonal = row[:, :-1] + (own[:, i : i + 1] != other)
        new = np.concatenate([row[:, :1] + 1, np.minimum(row[:, 1:] + 1, diagonal)], 1)
        # A run of insertions costs its length: the least of what any earlier column offers plus the way from it.
        row = np.minimum.accumulate(new - columns, 1) + columns
        ends = own_length == i + 1
        found[ends] = row[ends, other_length[ends]]
    return found / np.maximum(np.maximum(own_length, other_length), 1)


def _runs(text: Sequence[int], n: int) -> list[tuple[int, ...]]:
    return [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]


def _padded(texts: Sequence[Sequence[int]], fill: int) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.array([len(text) for text in texts])
    table = np.full((len(texts), int(lengths.max())), fill)
    for row, text in zip(table, texts, strict=True):
        row[: len(text)] = text
    return table, lengths
