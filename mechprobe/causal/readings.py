"""What was run for one indicator: outcomes of its directions, controls, doses and positive control."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from mechprobe.causal.cases import Case
from mechprobe.causal.checks.activation_checks import ActivationChecks
from mechprobe.causal.checks.remains import Remains
from mechprobe.causal.directions import Direction
from mechprobe.causal.outcomes import Readings
from mechprobe.causal.places.sites import Site
from mechprobe.causal.verdicts.strata import Baseline


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Control:
    """Directions that go through the same interchange as the real ones."""

    name: str
    """"random", "random_covariance", "shuffled" (the latter two also "..._orthogonal", without the real direction) or
    "other:<indicator>"."""
    vectors: Float[Tensor, "draw d"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SideOutcome:
    """The same interchange at another outcome than the behaviour: a positive or a negative control."""

    unedited: Baseline
    patched: Float[np.ndarray, "case"]
    interchanged: Float[np.ndarray, "direction case"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MadeSides:
    """The other, made side of each pair, run the other way.

    It is off the natural co-occurrence, so no verdict uses it; it fills the strata by partner, where natural
    runs are rare by nature (a redundant cause without its partner, a conjunctive one beside it).
    """

    unedited: Baseline
    interchanged: Readings


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DoseSide:
    """Outcomes under additive steering of the cases of one natural side.

    Strengths below 0 are run where the indicator is held and above 0 where it is not: the other way round the edit
    overshoots, and any overshoot breaks a thought, which is no dose response.
    """

    is_removing: bool
    strengths: tuple[float, ...]
    cases: tuple[int, ...]
    """Which of the indicator's cases were steered."""
    by_direction: Mapping[str, Readings]
    """Direction name -> outcomes, one condition a strength."""
    random: tuple[Readings, ...]
    """The same along random directions, by the first direction's amounts."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class IndicatorReadings:
    """Everything that was run for one indicator at one site."""

    indicator: str
    site: Site
    cases: tuple[Case, ...]
    directions: tuple[Direction, ...]
    unedited: Baseline
    patched: Readings
    interchanged: Readings
    """One condition a direction."""
    complement: Readings
    """Everything at the site but the direction; one condition a direction."""
    mean_ablated: Readings
    fragility: Readings
    """A shove of the first direction's length along random directions."""
    controls: Mapping[str, Readings]
    control_complements: Mapping[str, Readings]
    """Complements of the controls that may overlap with the real direction."""
    dose: tuple[DoseSide, ...]
    made: MadeSides
    audit: SideOutcome | None
    """The positive control: the answer to the question about this very thought, which the edit must move."""
    unrelated: SideOutcome | None
    """The negative control: an answer that has nothing to do with the thought, which the edit must not move."""
    checks: Mapping[str, ActivationChecks]
    """Direction -> whether its edit is natural and its effect no illusion."""
    auroc: Mapping[str, float]
    """Direction -> AUROC of its coordinate on the matched pairs."""
    moved: Mapping[str, float]
    control_moved: Mapping[str, Float[np.ndarray, "draw"]]
    remains: Remains | None = None
    """What fresh probes find of the indicator at the site without its direction."""
