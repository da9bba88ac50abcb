"""Run every condition of one indicator: its directions, their controls, doses and the positive control."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import einsum
from jaxtyping import Float
from scipy.stats import mannwhitneyu
from torch import Tensor

from mechprobe.causal.cases import Case
from mechprobe.causal.complement import complement_plan
from mechprobe.causal.conditions import SHADOWS
from mechprobe.causal.config import CausalConfig
from mechprobe.causal.controls import random_directions
from mechprobe.causal.directions import Direction
from mechprobe.causal.effects import (
    EditPlan,
    addition_plan,
    coordinate_plan,
    interchange_plan,
    measure,
    patch_plan,
)
from mechprobe.causal.outcomes import Readings
from mechprobe.causal.pair_choice import spread_over_sides
from mechprobe.causal.readings import Control, DoseSide, IndicatorReadings, MadeSides, SideOutcome
from mechprobe.causal.sites import Site, SiteActs, site_acts
from mechprobe.causal.strata import Baseline, baseline
from mechprobe.models.subject import Subject


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Runner:
    """Reads outcomes of cases on one model, and tells how many runs are done."""

    subject: Subject
    batch_tokens: int
    progress: Callable[[int], object] | None = None

    def read(
        self,
        cases: Sequence[Case],
        outcome: str,
        plan: EditPlan | None = None,
        n_conditions: int = 1,
    ) -> Readings:
        """Outcomes under each condition of the plan, or unedited."""
        return measure(
            self.subject,
            cases,
            outcome,
            plan=plan,
            n_conditions=n_conditions,
            batch_tokens=self.batch_tokens,
            progress=self.progress,
        )


def measure_indicator(
    runner: Runner,
    cases: Sequence[Case],
    site: Site,
    directions: Sequence[Direction],
    controls: Sequence[Control],
    unedited_of: Mapping[str, Baseline],
    config: CausalConfig,
) -> IndicatorReadings:
    """Run an indicator's cases under all conditions.

    Args:
        unedited_of: outcome -> unedited runs; of the behaviour always, of the others where the cases have them.

    Raises:
        ShapeError: a direction is not as wide as the site.
        HookError: the site does not fire in a case.
    """
    outcome = config.behavior_outcome
    unedited = unedited_of[outcome]
    acts = site_acts(runner.subject, cases, site, outcome)
    vectors = torch.stack([direction.vector for direction in directions])
    stacked = torch.cat([vectors, *(control.vectors for control in controls)])
    interchanged = runner.read(cases, outcome, interchange_plan(acts, stacked), len(stacked))
    own, by_control = _split(interchanged, len(vectors), controls)
    shadows = [control for control in controls if control.name in SHADOWS]
    tried = torch.cat([vectors, *(control.vectors for control in shadows)])
    rest = runner.read(cases, outcome, complement_plan(acts, tried), len(tried))
    own_rest, rest_by_control = _split(rest, len(vectors), shadows)
    gains = {d.name: coordinate_figures(acts, cases, d.vector[None]) for d in directions}
    return IndicatorReadings(
        indicator=directions[0].indicator,
        site=site,
        cases=tuple(cases),
        directions=tuple(directions),
        unedited=unedited,
        patched=runner.read(cases, outcome, patch_plan(acts)),
        interchanged=own,
        complement=own_rest,
        mean_ablated=runner.read(
            cases, outcome, _class_mean_plan(acts, cases, vectors), len(vectors)
        ),
        fragility=_shove(runner, cases, acts, vectors[0], config),
        controls=by_control,
        control_complements=rest_by_control,
        dose=_doses(runner, cases, acts, directions, config),
        made=_made_sides(runner, cases, site, vectors, unedited, outcome),
        audit=_side_outcome(runner, cases, site, vectors, unedited_of, config.audit_outcome),
        unrelated=_side_outcome(
            runner, cases, site, vectors, unedited_of, config.unrelated_outcome
        ),
        auroc={name: float(figures.auroc[0]) for name, figures in gains.items()},
        moved={name: float(figures.moved[0]) for name, figures in gains.items()},
        control_moved={
            control.name: coordinate_figures(acts, cases, control.vectors).moved
            for control in controls
        },
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CoordinateFigures:
    """How directions tell the two sides of pairs apart."""

    auroc: Float[np.ndarray, "direction"]
    moved: Float[np.ndarray, "direction"]
    """Mean change of the coordinate by the interchange, in standard deviations of the coordinate."""


def coordinate_figures(
    acts: SiteActs, cases: Sequence[Case], directions: Float[Tensor, "direction d"]
) -> CoordinateFigures:
    """AUROC of the coordinates on the matched pairs, and how far the interchange moves them."""
    own, partner = (_coordinates(acts, side, directions) for side in (acts.own, acts.partner))
    is_positive = np.array([case.side == "positive" for case in cases])
    held = np.where(is_positive, own, partner)
    lacking = np.where(is_positive, partner, own)
    spread = np.concatenate([held, lacking], axis=1).std(axis=1)
    larger = mannwhitneyu(held, lacking, axis=1).statistic
    return CoordinateFigures(
        auroc=np.asarray(larger) / held.shape[1] ** 2,
        moved=np.abs(held - lacking).mean(axis=1) / np.maximum(spread, 1e-12),
    )


def _coordinates(
    acts: SiteActs, side: Float[Tensor, "case site d"], directions: Float[Tensor, "direction d"]
) -> Float[np.ndarray, "direction case"]:
    """Mean coordinate over the site's tokens."""
    along = einsum(side, directions, "case site d, direction d -> direction case site")
    is_token = (acts.positions >= 0).float()
    return ((along * is_token).sum(-1) / is_token.sum(-1)).double().numpy()


def _split(
    readings: Readings, n_own: int, controls: Sequence[Control]
) -> tuple[Readings, dict[str, Readings]]:
    """Take the stacked conditions apart again."""
    by_control: dict[str, Readings] = {}
    start = n_own
    for control in controls:
        stop = start + len(control.vectors)
        by_control[control.name] = readings.rows(start, stop)
        start = stop
    return readings.rows(0, n_own), by_control


def _class_mean_plan(
    acts: SiteActs, cases: Sequence[Case], vectors: Float[Tensor, "direction d"]
) -> EditPlan:
    """N2: towards the mean coordinate of the sides that the case does not belong to."""
    own = torch.from_numpy(_coordinates(acts, acts.own, vectors)).float()
    partner = torch.from_numpy(_coordinates(acts, acts.partner, vectors)).float()
    is_positive = torch.tensor([case.side == "positive" for case in cases])
    held = torch.where(is_positive, own, partner).mean(1)
    lacking = torch.where(is_positive, partner, own).mean(1)
    target = torch.where(is_positive[None], lacking[:, None], held[:, None])
    values = target[..., None].expand(*target.shape, acts.positions.shape[1])
    return coordinate_plan(acts, vectors, values)


def _shove(
    runner: Runner,
    cases: Sequence[Case],
    acts: SiteActs,
    vector: Float[Tensor, "d"],
    config: CausalConfig,
) -> Readings:
    """Add what the interchange adds along the direction, along random directions instead."""
    drawn = random_directions(config.n_fragility, len(vector), seed=config.seed + 1)
    change = einsum(acts.partner - acts.own, vector, "case site d, d -> case site")
    amounts = change.expand(config.n_fragility, *change.shape)
    return runner.read(
        cases, config.behavior_outcome, addition_plan(acts, drawn, amounts), config.n_fragility
    )


def _doses(
    runner: Runner,
    cases: Sequence[Case],
    acts: SiteActs,
    directions: Sequence[Direction],
    config: CausalConfig,
) -> tuple[DoseSide, ...]:
    chosen = spread_over_sides([case.side for case in cases], config.n_dose_pairs)
    sides: list[DoseSide] = []
    for is_removing in (True, False):
        held = [i for i in chosen if (cases[i].side == "positive") == is_removing]
        doses = [s for s in config.strengths if (s < 0 if is_removing else s > 0)]
        if held:
            sides.append(
                _dose_side(runner, cases, acts, directions, held, doses, is_removing, config)
            )
    return tuple(sides)


def _dose_side(
    runner: Runner,
    cases: Sequence[Case],
    acts: SiteActs,
    directions: Sequence[Direction],
    chosen: list[int],
    strengths: list[float],
    is_removing: bool,
    config: CausalConfig,
) -> DoseSide:
    drawn = random_directions(config.n_dose_random, acts.own.shape[-1], seed=config.seed + 2)
    vectors = torch.cat([torch.stack([d.vector for d in directions]), drawn])
    gaps = [d.gap for d in directions] + [abs(directions[0].gap)] * config.n_dose_random
    amounts = einsum(
        torch.tensor(gaps), torch.tensor(strengths), "direction, dose -> direction dose"
    )
    some = acts.pick(chosen)
    rows = vectors.repeat_interleave(len(strengths), 0)
    steered = runner.read(
        [cases[i] for i in chosen],
        config.behavior_outcome,
        addition_plan(some, rows, amounts.reshape(-1, 1, 1).expand(-1, *some.positions.shape)),
        len(rows),
    )
    parts = [
        steered.rows(start, start + len(strengths)) for start in range(0, len(rows), len(strengths))
    ]
    return DoseSide(
        is_removing=is_removing,
        strengths=tuple(strengths),
        cases=tuple(chosen),
        by_direction={d.name: part for d, part in zip(directions, parts, strict=False)},
        random=tuple(parts[len(directions) :]),
    )


def _made_sides(
    runner: Runner,
    cases: Sequence[Case],
    site: Site,
    vectors: Float[Tensor, "direction d"],
    unedited: Baseline,
    outcome: str,
) -> MadeSides:
    made = [
        Case(pair=case.pair, side="negative" if case.side == "positive" else "positive")
        for case in cases
    ]
    acts = site_acts(runner.subject, made, site, outcome)
    return MadeSides(
        unedited=baseline(made, unedited.other, unedited.base, unedited.scale),
        interchanged=runner.read(made, outcome, interchange_plan(acts, vectors), len(vectors)),
    )


def _side_outcome(
    runner: Runner,
    cases: Sequence[Case],
    site: Site,
    vectors: Float[Tensor, "direction d"],
    unedited_of: Mapping[str, Baseline],
    outcome: str,
) -> SideOutcome | None:
    """The same interchange, read at another outcome; None where the cases lack it."""
    if outcome not in unedited_of:
        return None
    acts = site_acts(runner.subject, cases, site, outcome)
    return SideOutcome(
        unedited=unedited_of[outcome],
        patched=runner.read(cases, outcome, patch_plan(acts)).logit_diff[0],
        interchanged=runner.read(
            cases, outcome, interchange_plan(acts, vectors), len(vectors)
        ).logit_diff,
    )
