"""Runs grouped by the room they have to move, and how far an edit moves them.

A run that behaves cannot be made to behave by taking a thought away, so necessity is measured where the thought is
held and the run misbehaves, sufficiency where it is not held and the run behaves, and the mirror images show
inhibition. Natural co-occurrence stays in: a redundant cause has its partner at its side when it is taken away, a
conjunctive cause lacks its partner when it is put in.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from mechprobe.causal.cases import Case
from mechprobe.causal.verdicts.verdict import STRATA, Stratum

REMOVING: tuple[Stratum, ...] = ("necessity", "release")
ADDING: tuple[Stratum, ...] = ("sufficiency", "inhibition")
CHANGED = 0.25
"""Share of the natural gap by which the text flip must move a run for the run to count as changed by it."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Baseline:
    """The unedited outcomes of one indicator's cases."""

    base: Float[np.ndarray, "case"]
    """Logit difference of the case's own side."""
    other: Float[np.ndarray, "case"]
    """Logit difference of its partner side: what flipping the text does."""
    is_positive: Bool[np.ndarray, "case"]
    """Whether the case's own side holds the indicator."""
    clusters: tuple[str, ...]
    scale: float
    """The outcome's natural gap."""

    def pick(self, index: np.ndarray) -> "Baseline":
        """Some of the cases, by number or by mask."""
        return Baseline(
            base=self.base[index],
            other=self.other[index],
            is_positive=self.is_positive[index],
            clusters=tuple(np.array(self.clusters)[index].tolist()),
            scale=self.scale,
        )

    def masks(self) -> dict[Stratum, Bool[np.ndarray, "case"]]:
        """The cases of each stratum."""
        misbehaves = self.base > 0
        return {
            "necessity": self.is_positive & misbehaves,
            "release": self.is_positive & ~misbehaves,
            "sufficiency": ~self.is_positive & ~misbehaves,
            "inhibition": ~self.is_positive & misbehaves,
        }

    def moved(
        self, stratum: Stratum, edited: Float[np.ndarray, "draw case"]
    ) -> Float[np.ndarray, "draw kept"]:
        """Effects of the stratum's cases in natural gaps, positive = the way they have room to move."""
        kept = self.masks()[stratum]
        sign = -1.0 if stratum in ("necessity", "inhibition") else 1.0
        return sign * (edited[:, kept] - self.base[kept]) / self.scale

    def flips(
        self, stratum: Stratum, edited: Float[np.ndarray, "draw case"]
    ) -> Bool[np.ndarray, "draw kept"]:
        """Whether the edit changes the side of the outcome."""
        kept = self.masks()[stratum]
        return (edited[:, kept] > 0) != (self.base[kept] > 0)

    def clusters_of(self, stratum: Stratum) -> list[str]:
        """Transcripts of the stratum's cases."""
        kept = self.masks()[stratum]
        return [name for name, keep in zip(self.clusters, kept, strict=True) if keep]

    def share_of_text_flip(self, edited: Float[np.ndarray, "case"]) -> Float[np.ndarray, "kept"]:
        """Movement towards the partner where the text flip changes the outcome; its mean is the edit's share.

        Empty where the text flip changes nothing.
        """
        kept = self.changed()
        change = (self.other - self.base)[kept]
        if not len(change):
            return np.zeros(0)
        return np.sign(change) * (edited - self.base)[kept] / np.abs(change).mean()

    def changed(self) -> Bool[np.ndarray, "case"]:
        """Cases whose outcome the text flip moves by a good part of the natural gap."""
        return np.abs(self.other - self.base) >= CHANGED * self.scale


def natural_gap(logit_diff: Float[np.ndarray, "case"]) -> float:
    """Mean logit difference of misbehaving runs minus that of behaving runs; NaN if all do the same."""
    bad = logit_diff > 0
    if bad.all() or not bad.any():
        return math.nan
    return float(logit_diff[bad].mean() - logit_diff[~bad].mean())


def baseline(
    cases: Sequence[Case],
    base: Float[np.ndarray, "case"],
    other: Float[np.ndarray, "case"],
    scale: float,
) -> Baseline:
    """Put together the unedited outcomes of cases."""
    return Baseline(
        base=base,
        other=other,
        is_positive=np.array([case.side == "positive" for case in cases]),
        clusters=tuple(case.pair.cluster for case in cases),
        scale=scale,
    )


def text_flip_effects(unedited: Baseline) -> dict[Stratum, float]:
    """What flipping the thought in the text does in each stratum: the oracle of what a verdict should find."""
    found: dict[Stratum, float] = {}
    for name in STRATA:
        moved = unedited.moved(name, unedited.other[None])
        found[name] = float(moved.mean()) if moved.size else math.nan
    return found
