"""Run every condition of one indicator: its directions, their controls, doses and the positive control."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from mechprobe.causal.cases import Case
from mechprobe.causal.checks.activation_checks import SiteChecks, check_directions
from mechprobe.causal.checks.conditions import SHADOWS
from mechprobe.causal.checks.controls import random_directions
from mechprobe.causal.config import CausalConfig
from mechprobe.causal.coordinates import coordinates_along, coordinates_of
from mechprobe.causal.directions import Direction
from mechprobe.causal.dosing import doses
from mechprobe.causal.effects import (
    EditPlan,
    addition_plan,
    coordinate_plan,
    interchange_plan,
    patch_plan,
)
from mechprobe.causal.outcomes import Readings
from mechprobe.causal.places.sites import Site, SiteActs, site_acts
from mechprobe.causal.readings import Control, IndicatorReadings, MadeSides, SideOutcome
from mechprobe.causal.runner import Runner
from mechprobe.causal.swaps import along, complement_plan, parts_of, swap_plan
from mechprobe.causal.verdicts.strata import Baseline, baseline


def measure_indicator(
    runner: Runner,
    cases: Sequence[Case],
    site: Site,
    directions: Sequence[Direction],
    controls: Sequence[Control],
    checks: SiteChecks,
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
    parts = parts_of(acts, directions)
    nulls = torch.cat([control.vectors for control in controls])
    shadows = [control for control in controls if control.name in SHADOWS]
    overlapping = torch.cat([vectors[:0], *(control.vectors for control in shadows)])
    read = coordinates_of(acts, cases, directions)
    names = [direction.name for direction in directions]
    return IndicatorReadings(
        indicator=directions[0].indicator,
        site=site,
        cases=tuple(cases),
        directions=tuple(replace(direction, part_of=None) for direction in directions),
        unedited=unedited,
        patched=runner.read(cases, outcome, patch_plan(acts)),
        interchanged=runner.read(cases, outcome, swap_plan(acts, parts), len(vectors)),
        complement=runner.read(cases, outcome, complement_plan(acts, parts), len(vectors)),
        mean_ablated=runner.read(
            cases, outcome, _class_mean_plan(acts, cases, vectors), len(vectors)
        ),
        fragility=_shove(runner, cases, acts, vectors[0], config),
        controls=_split(
            runner.read(cases, outcome, interchange_plan(acts, nulls), len(nulls)), controls
        ),
        control_complements=_split(
            runner.read(
                cases, outcome, complement_plan(acts, along(acts, overlapping)), len(overlapping)
            ),
            shadows,
        ),
        dose=doses(runner, cases, acts, directions, config),
        made=_made_sides(runner, cases, site, directions, unedited, outcome),
        audit=_side_outcome(runner, cases, site, directions, unedited_of, config.audit_outcome),
        unrelated=_side_outcome(
            runner, cases, site, directions, unedited_of, config.unrelated_outcome
        ),
        checks=check_directions(runner.subject, cases, acts, directions, checks, unedited, outcome),
        auroc=dict(zip(names, read.auroc().tolist(), strict=True)),
        moved=dict(zip(names, read.moved().tolist(), strict=True)),
        control_moved={
            control.name: coordinates_along(acts, cases, control.vectors).moved()
            for control in controls
        },
    )


def _split(readings: Readings, controls: Sequence[Control]) -> dict[str, Readings]:
    """Take the stacked conditions apart again."""
    by_control: dict[str, Readings] = {}
    start = 0
    for control in controls:
        stop = start + len(control.vectors)
        by_control[control.name] = readings.rows(start, stop)
        start = stop
    return by_control


def _class_mean_plan(
    acts: SiteActs, cases: Sequence[Case], vectors: Float[Tensor, "direction d"]
) -> EditPlan:
    """N2: towards the mean coordinate of the sides that the case does not belong to."""
    held, lacking = (side.mean(1) for side in coordinates_along(acts, cases, vectors).by_label())
    is_positive = torch.tensor([case.side == "positive" for case in cases])
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


def _made_sides(
    runner: Runner,
    cases: Sequence[Case],
    site: Site,
    directions: Sequence[Direction],
    unedited: Baseline,
    outcome: str,
) -> MadeSides:
    made = [case.flipped for case in cases]
    acts = site_acts(runner.subject, made, site, outcome)
    return MadeSides(
        unedited=baseline(made, unedited.other, unedited.base, unedited.scale),
        interchanged=runner.read(
            made, outcome, swap_plan(acts, parts_of(acts, directions)), len(directions)
        ),
    )


def _side_outcome(
    runner: Runner,
    cases: Sequence[Case],
    site: Site,
    directions: Sequence[Direction],
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
            cases, outcome, swap_plan(acts, parts_of(acts, directions)), len(directions)
        ).logit_diff,
    )
