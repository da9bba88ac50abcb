"""How far to steer so that different directions do equal damage, and what they then do to the behaviour.

A direction that moves a behaviour may only be a bigger shove. Steered each to the same mean KL on neutral text, a
direction and random ones are compared at equal damage (iso-KL calibration, github.com/wassname/steering-lite).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechprobe.causal.cases import Case
from mechprobe.causal.directions import Direction
from mechprobe.causal.effects import BATCH_TOKENS, addition_plan, measure
from mechprobe.causal.outcomes import Readings
from mechprobe.causal.places.sites import SiteActs
from mechprobe.causal.verdicts.statistics import bootstrap_many, empirical_p
from mechprobe.causal.verdicts.strata import Baseline
from mechprobe.causal.writing.neutral import NeutralText, needed, neutral_change
from mechprobe.causal.writing.pushes import PushTable
from mechprobe.errors import ConfigError, DataError
from mechprobe.models.subject import Subject

TARGET_KL = 0.1
"""Nats a token; above it Arditi et al. (arXiv 2406.11717, section C) discard a direction."""
FIRST_STEP, LARGEST_STEP = 0.05, 20.0
"""Amounts that a search starts with and ends at, in mean lengths of the activations."""
GROWTH = 4.0
EQUAL_DAMAGE_COLUMNS = (
    *("indicator", "direction", "control", "draw", "n", "target_kl"),
    *("amount_adding", "kl_adding", "amount_removing", "kl_removing", "is_reached"),
    *("effect", "low", "high", "mass", "anti_share", "p_random"),
)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class IsoKl:
    """Amounts along directions that cost the same."""

    target: float
    """Wanted mean KL on neutral text, nats a token."""
    amounts: Float[np.ndarray, "direction"]
    kl: Float[np.ndarray, "direction"]
    """KL that was measured at the amount."""
    is_reached: Bool[np.ndarray, "direction"]
    """Whether it is within the tolerance; if not, the amount is the one nearest to the target that was tried."""
    n_passes: Int[np.ndarray, "direction"]

    def rows(self, index: Sequence[int]) -> "IsoKl":
        """Some of the directions."""
        chosen = list(index)
        return IsoKl(
            target=self.target,
            amounts=self.amounts[chosen],
            kl=self.kl[chosen],
            is_reached=self.is_reached[chosen],
            n_passes=self.n_passes[chosen],
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Calibrated:
    """Directions with the amounts that do equal damage both ways."""

    vectors: Float[Tensor, "direction d"]
    adding: IsoKl
    removing: IsoKl
    """Amounts along the vectors' opposites."""

    def rows(self, index: Sequence[int]) -> "Calibrated":
        """Some of the directions."""
        chosen = list(index)
        return Calibrated(
            vectors=self.vectors[chosen],
            adding=self.adding.rows(chosen),
            removing=self.removing.rows(chosen),
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class EqualDamage:
    """What a direction and random ones do to the outcome, each at its own amount of equal damage."""

    direction: Direction
    calibrated: Calibrated
    """The direction first, then the random ones."""
    effects: Float[np.ndarray, "direction case"]
    """Change of the outcome in natural gaps, positive = the way that the thought would move it."""
    readings: Readings
    clusters: tuple[str, ...]

    @property
    def p_random(self) -> float:
        """Where the direction's mean effect stands among the random ones'."""
        means = self.effects.mean(1)
        return empirical_p(float(means[0]), means[1:])


def iso_kl(
    subject: Subject,
    neutral: NeutralText | None,
    hook_name: str,
    directions: Float[Tensor, "direction d"],
    *,
    target: float = TARGET_KL,
    tolerance: float = 0.05,
    max_amount: float | None = None,
    max_passes: int = 20,
    progress: Callable[[int], object] | None = None,
) -> IsoKl:
    """Find the amount along each direction, added at all of the assistant's tokens, at which the KL is the target.

    Args:
        tolerance: share of the target by which the reached KL may miss it.
        max_amount: end of the search; None for twenty mean lengths of the activations.
        progress: told the number of passes after each round.

    Raises:
        ConfigError: the target or the tolerance is not above 0.
        DataError: there is no neutral text.
        ShapeError: the directions are not as wide as the hook point.
    """
    if not (target > 0 and 0 < tolerance < 1 and max_passes >= 1):
        raise ConfigError(
            f"target is {target} nats, tolerance {tolerance}, max_passes {max_passes}; the target must be above 0, the "
            "tolerance between 0 and 1, and there must be at least one pass."
        )
    text = needed(neutral)
    length = _mean_length(subject, text, hook_name)
    end = LARGEST_STEP * length if max_amount is None else max_amount
    searches = [
        _Search(target=target, tolerance=tolerance, end=end, amount=min(FIRST_STEP * length, end))
        for _ in directions
    ]
    for _ in range(max_passes):
        active = [i for i, search in enumerate(searches) if not search.is_done]
        if not active:
            break
        amounts = torch.tensor([searches[i].amount for i in active])
        pushes = PushTable.steering(hook_name, directions[active], amounts)
        for i, kl in zip(active, neutral_change(subject, text, pushes).kl.tolist(), strict=True):
            searches[i].see(kl)
        if progress is not None:
            progress(len(active))
    best = [search.best() for search in searches]
    return IsoKl(
        target=target,
        amounts=np.array([amount for amount, _kl in best]),
        kl=np.array([kl for _amount, kl in best]),
        is_reached=np.array([abs(kl - target) <= tolerance * target for _amount, kl in best]),
        n_passes=np.array([len(search.seen) for search in searches]),
    )


def calibrate(
    subject: Subject,
    neutral: NeutralText | None,
    hook_name: str,
    directions: Float[Tensor, "direction d"],
    *,
    target: float = TARGET_KL,
    progress: Callable[[int], object] | None = None,
) -> Calibrated:
    """Amounts of equal damage along directions and along their opposites.

    Raises:
        ConfigError, DataError, ShapeError: see `iso_kl`.
    """
    both = torch.cat([directions, -directions])
    found = iso_kl(subject, neutral, hook_name, both, target=target, progress=progress)
    n = len(directions)
    return Calibrated(
        vectors=directions, adding=found.rows(range(n)), removing=found.rows(range(n, 2 * n))
    )


def effects_at_equal_damage(
    subject: Subject,
    cases: Sequence[Case],
    outcome: str,
    acts: SiteActs,
    unedited: Baseline,
    direction: Direction,
    calibrated: Calibrated,
    *,
    batch_tokens: int = BATCH_TOKENS,
    progress: Callable[[int], object] | None = None,
) -> EqualDamage:
    """Steer cases at their site along a direction and random ones, each by its own amount of equal damage.

    Cases that lack the thought are steered towards it, cases that hold it away from it.

    Args:
        calibrated: the direction first, then the random ones.

    Raises:
        DataError: the outcome has no natural gap to measure in.
    """
    if not np.isfinite(unedited.scale) or unedited.scale == 0:
        raise DataError(
            f"outcome {outcome!r} has no natural gap ({unedited.scale}): all unedited runs fall on the same side. "
            "Give pairs of both kinds."
        )
    is_positive = np.array([case.side == "positive" for case in cases])
    adding, removing = calibrated.adding.amounts, calibrated.removing.amounts
    each = np.where(is_positive[None], -removing[:, None], adding[:, None])
    amounts = torch.from_numpy(each).float()[..., None].expand(*each.shape, acts.positions.shape[1])
    found = measure(
        subject,
        cases,
        outcome,
        plan=addition_plan(acts, calibrated.vectors, amounts),
        n_conditions=len(calibrated.vectors),
        batch_tokens=batch_tokens,
        progress=progress,
    )
    sign = np.where(is_positive, -1.0, 1.0)
    return EqualDamage(
        direction=direction,
        calibrated=calibrated,
        effects=sign * (found.logit_diff - unedited.base) / unedited.scale,
        readings=found,
        clusters=unedited.clusters,
    )


def equal_damage_rows(found: EqualDamage, *, seed: int = 0) -> Iterator[dict[str, object]]:
    """A row (EQUAL_DAMAGE_COLUMNS) for the direction and each random one."""
    bounds = bootstrap_many(found.effects.T, found.clusters, seed=seed)
    adding, removing = found.calibrated.adding, found.calibrated.removing
    for row, effects in enumerate(found.effects):
        is_own = row == 0
        yield {
            "indicator": found.direction.indicator,
            "direction": found.direction.name if is_own else "random",
            "control": "none" if is_own else "random",
            "draw": max(row - 1, 0),
            "n": len(effects),
            "target_kl": adding.target,
            "amount_adding": float(adding.amounts[row]),
            "kl_adding": float(adding.kl[row]),
            "amount_removing": float(removing.amounts[row]),
            "kl_removing": float(removing.kl[row]),
            "is_reached": bool(adding.is_reached[row] and removing.is_reached[row]),
            "effect": float(effects.mean()),
            "low": float(bounds[row, 0]),
            "high": float(bounds[row, 1]),
            "mass": float(found.readings.mass[row].mean()),
            "anti_share": float((effects < 0).mean()),
            "p_random": found.p_random if is_own else np.nan,
        }


@dataclass(kw_only=True, slots=True, eq=False)
class _Search:
    """One direction's search: step up until the target is passed, then close in on it."""

    target: float
    tolerance: float
    end: float
    amount: float
    """What to try next."""
    low: tuple[float, float] = (0.0, 0.0)
    """Largest amount below the target since the last step up, and its KL."""
    high: tuple[float, float] | None = None
    seen: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    is_done: bool = False

    def see(self, kl: float) -> None:
        """Take in the KL at the amount and choose the next one."""
        # Text that broke into NaN is past any target.
        kl = kl if np.isfinite(kl) else float("inf")
        self.seen.append((self.amount, kl))
        if abs(kl - self.target) <= self.tolerance * self.target:
            self.is_done = True
        elif kl > self.target:
            self.high = self.amount, kl
            self.amount = self._inside()
        elif self.high is not None:
            self.low = self.amount, kl
            self.amount = self._inside()
        elif self.amount >= self.end:
            self.is_done = True
        else:
            self.low = self.amount, kl
            # KL grows with the square of a small push.
            step = (self.target / max(kl, 1e-12)) ** 0.5
            self.amount = min(self.amount * min(max(step, 1.05), GROWTH), self.end)

    def best(self) -> tuple[float, float]:
        """The tried amount whose KL is nearest to the target."""
        return min(self.seen, key=lambda one: abs(one[1] - self.target))

    def _inside(self) -> float:
        """Between the bounds: where log KL crosses on a line in log amount, in turn with halving."""
        (low, low_kl), (high, high_kl) = self.low, self.high or self.low
        if low == 0:
            return high * min(max((self.target / high_kl) ** 0.5, 1 / GROWTH), 0.95)
        middle = (low * high) ** 0.5
        if low_kl <= 0 or not np.isfinite(high_kl) or len(self.seen) % 3 == 0:
            return middle
        share = np.log(self.target / low_kl) / np.log(high_kl / low_kl)
        return float(low * (high / low) ** min(max(share, 0.02), 0.98))


def _mean_length(subject: Subject, neutral: NeutralText, hook_name: str) -> float:
    acts = subject.capture(neutral.batch, [hook_name])[hook_name]
    case, slot = torch.nonzero(neutral.positions >= 0, as_tuple=True)
    return float(acts[case, neutral.positions[case, slot]].float().norm(dim=-1).mean())
