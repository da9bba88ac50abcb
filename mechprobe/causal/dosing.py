"""The dose curve: additive steering by several strengths, along the directions and along random ones."""

from collections.abc import Sequence

import torch
from einops import einsum

from mechprobe.causal.cases import Case
from mechprobe.causal.checks.controls import random_directions
from mechprobe.causal.config import CausalConfig
from mechprobe.causal.directions import Direction
from mechprobe.causal.effects import addition_plan
from mechprobe.causal.pair_choice import spread_over_sides
from mechprobe.causal.places.sites import SiteActs
from mechprobe.causal.readings import DoseSide
from mechprobe.causal.runner import Runner


def doses(
    runner: Runner,
    cases: Sequence[Case],
    acts: SiteActs,
    directions: Sequence[Direction],
    config: CausalConfig,
) -> tuple[DoseSide, ...]:
    """Steer the cases of each natural side the way that they have room to move."""
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
