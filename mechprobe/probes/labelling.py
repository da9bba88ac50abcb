"""What a probe is taught: which tokens are positive, which negative, and how the two are balanced.

The defaults are the rule by which the published probes of arXiv 2606.24251 were really fitted (their stored
training settings, not their read-me): positive are the tokens of spans in the reasoning; negative is every
assistant token of a turn without the indicator, reasoning or not; the rest of a positive turn is left out; no
class weights.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32, Int8

from mechprobe.errors import ConfigError
from mechprobe.probes.rows import LEFT_OUT, NEGATIVE, POSITIVE
from mechprobe.transcripts.transcript import SECTIONS, Section


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelRule:
    """How labelled text becomes labelled tokens."""

    mode: Literal["span", "turn"] = "span"
    """"span": the tokens of an indicator's spans are positive; "turn": all of a turn that has it."""
    positives: tuple[Section, ...] = ("reasoning",)
    """Sections whose tokens may be positive; spans elsewhere are left out."""
    rest_of_turn: Literal["left_out", "negative"] = "left_out"
    """What the other tokens of a turn with the indicator are."""
    balance: Literal["none", "draw"] = "none"
    """"draw" leaves out negatives of each indicator by chance until they are `negatives_per_positive`."""
    negatives_per_positive: float = 1.0
    """For balance "draw"."""

    def __post_init__(self) -> None:
        if not self.positives or set(self.positives) - set(SECTIONS):
            raise ConfigError(
                f"positives is {self.positives}; name at least one of {', '.join(SECTIONS)}."
            )
        if not self.negatives_per_positive > 0:
            raise ConfigError(
                f"negatives_per_positive is {self.negatives_per_positive}; it must be > 0 (1.0 gives "
                "as many negatives as positives)."
            )


ANYWHERE = LabelRule(positives=SECTIONS)
"""The paper's rule, but for spans in the answer and in tool calls as well."""


def draw_balanced(
    labels: Int8[np.ndarray, "tok indicator"], negatives_per_positive: float = 1.0, seed: int = 0
) -> Int8[np.ndarray, "tok indicator"]:
    """The labels with surplus negatives of each indicator left out, drawn by the seed; positives all stay."""
    rng = np.random.default_rng(seed)
    drawn = labels.copy()
    for column in drawn.T:
        negatives = np.flatnonzero(column == NEGATIVE)
        n_kept = int(np.ceil(negatives_per_positive * (column == POSITIVE).sum()))
        if n_kept < len(negatives):
            column[rng.permutation(negatives)[n_kept:]] = LEFT_OUT
    return drawn


def class_weights(
    labels: Int8[np.ndarray, "tok indicator"],
) -> Float32[np.ndarray, "tok indicator"]:
    """Weights by which positives and negatives of each indicator weigh the same; their sum is the used rows.

    Rows that are left out weigh 0. An indicator with one class only weighs 1 everywhere it is used.
    """
    weights = (labels != LEFT_OUT).astype(np.float32)
    for at in range(labels.shape[1]):
        sides = [labels[:, at] == side for side in (POSITIVE, NEGATIVE)]
        counts = [int(side.sum()) for side in sides]
        if min(counts):
            for side, count in zip(sides, counts, strict=True):
                weights[side, at] = sum(counts) / (2 * count)
    return weights
