"""What a verdict is, the figures that it rests on, and the thresholds of the rule (`deciding` applies it).

Effects are in units of the outcome's natural gap (mean logit
difference of misbehaving runs minus that of behaving runs), so 1.0 moves a run the whole way.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from mechprobe.causal.verdicts.statistics import Equivalence, Interval
from mechprobe.errors import ConfigError

VerdictName = Literal[
    "driver",
    "necessary_only",
    "sufficient_only",
    "inhibitor",
    "text_mediated",
    "readout_only",
    "undetermined",
    "invalid",
]
VERDICTS: tuple[VerdictName, ...] = get_args(VerdictName)

Stratum = Literal["necessity", "release", "sufficiency", "inhibition"]
"""Runs grouped by their natural side and by the room they have to move.

necessity    the indicator is held and the run misbehaves: taking it away should lower the outcome
release      it is held and the run behaves: taking an inhibitor away should raise it
sufficiency  it is not held and the run behaves: putting it in should raise the outcome
inhibition   it is not held and the run misbehaves: putting an inhibitor in should lower it
"""
STRATA: tuple[Stratum, ...] = get_args(Stratum)

Pool = Literal["removing", "adding"]
"""All runs that hold the indicator (necessity and release), or that do not (sufficiency and inhibition)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VerdictRule:
    """The thresholds of the rule, fixed before anything is measured."""

    min_effect: float = 0.25
    """Share of the outcome's natural gap that an effect must reach."""
    min_flip_rate: float = 0.25
    """Share of runs whose outcome must change sides; a shift that never changes one drives nothing."""
    margin: float = 0.10
    """Effects within +-margin count as none (Shi et al., arXiv 2410.13032)."""
    mediation_margin: float = 0.10
    """Within this of the whole activation's effect, and of none for everything else, a direction mediates a thought."""
    alpha: float = 0.05
    """Level of every test; sign flips are Holm-corrected over the family first."""
    min_items: int = 8
    """Runs below which a stratum counts as empty."""
    min_items_for_zero: int = 16
    """Runs from which a stratum must show equivalence by itself; a smaller one must lie inside the margin, and
    its natural side must show equivalence as a whole."""
    min_ceiling: float = 0.25
    """Effect of patching the whole activation below which nothing is claimed at a site."""
    min_audit_effect: float = 0.25
    """Effect on the audit answer that shows that the direction does carry the thought."""
    min_auroc: float = 0.80
    """Detection on matched pairs that a read-out must have."""
    min_moved: float = 0.25
    """Least mean change of the coordinate by the edit, in standard deviations of the coordinate."""
    min_resampled: float = 0.10
    """Change of the misbehaviour rate, with the later text written anew, that counts as text-mediated."""
    resampled_margin: float = 0.20
    """Bound within which the 90 % interval of that change must lie for a read-out."""
    max_unrelated: float = 0.10
    """Share of unrelated answers that an edit may change beyond what flipping the text changes."""

    def __post_init__(self) -> None:
        if not 0 < self.margin < self.min_effect:
            raise ConfigError(
                f"margin is {self.margin} and min_effect {self.min_effect}; "
                "choose 0 < margin < min_effect (.10 and .25 are the protocol's)."
            )
        if not 0 < self.alpha < 0.5 or self.min_items < 2:
            raise ConfigError(
                f"alpha is {self.alpha} and min_items {self.min_items}; "
                "alpha must be in (0, .5) and min_items at least 2."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class StratumEffect:
    """What one direction does in one stratum; positive = the way the stratum has room to move."""

    n: int
    n_clusters: int
    effect: Interval
    flip_rate: float
    p_sign: float
    """One-sided sign-flip p, before Holm."""
    p_holm: float
    """The same after Holm over the family."""
    p_random: float
    """Where the effect stands among operation-matched random directions."""
    zero: Equivalence
    anti_share: float = math.nan
    """Share of runs that move the other way (Tan et al., arXiv 2407.12404)."""
    rest: float = math.nan
    """What the whole activation except this direction does (the complement); NaN: not run."""
    rest_zero: Equivalence | None = None
    """Whether that is none for practical purposes; None: not run."""
    whole: float = math.nan
    """What the whole activation does."""
    short_zero: Equivalence | None = None
    """Whether the whole activation does the same as the direction for practical purposes; None: not asked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unrelated:
    """What happens to an answer that has nothing to do with the thought."""

    flip_rate: float
    """Share of runs in which the edit changes it."""
    text_flip_rate: float
    """Share in which flipping the thought in the text changes it: what even the text cannot help."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """Every figure that a verdict rests on."""

    indicator: str
    direction: str
    strata: Mapping[Stratum, StratumEffect]
    """Only strata with at least `min_items` runs."""
    pooled_zero: Mapping[Pool, Equivalence]
    """Equivalence to zero over all runs of a natural side, where each stratum alone may be small."""
    n_items: Mapping[Stratum, int]
    """Runs in every stratum, also the empty ones."""
    ceiling: float
    """Whole-activation patch where the text flip changes the behaviour; NaN where it never does."""
    ceiling_effects: Mapping[Stratum, float]
    """Whole-activation patch in each stratum, in the same units as the direction's effect."""
    audit_ceiling: float
    audit_effect: float
    auroc: float
    moved: float
    """Mean change of the coordinate by the edit, in standard deviations of the coordinate."""
    specificity: float
    """Own effect minus the mean effect of the other indicators' directions; NaN where not measured."""
    rises: Mapping[Stratum, bool]
    """Whether the outcome rises with the strength of steering: down from the necessity runs, up from the
    sufficiency runs; a stratum without a dose curve is absent."""
    family_size: int
    unrelated: Unrelated | None = None
    """The negative control; None where there is none."""
    illusion: str = ""
    """Why the effect may be an interpretability illusion, "" if there is no such sign."""
    resampled: Interval | None = None
    """Change of the misbehaviour rate when the text after the span is written anew."""
    resampled_zero: Equivalence | None = None
    faults: tuple[str, ...] = ()
    """What makes the numbers meaningless, such as NaN logits."""
    gaps: tuple[str, ...] = field(default=())
    """What keeps the question from being answered, such as a constant outcome."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """A verdict, the largest p that it rests on (NaN where it claims nothing), and why."""

    name: VerdictName
    p_value: float
    reason: str
