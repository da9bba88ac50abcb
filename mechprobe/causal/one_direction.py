"""One direction at a time, for a notebook: what interchange does along it, and what steering along it does.

`run_causal` does the same for all directions with every control and a verdict; these two are for looking.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from einops import einsum

from mechprobe.causal.cases import natural_cases, render_pairs
from mechprobe.causal.checks.controls import random_directions
from mechprobe.causal.directions import Direction
from mechprobe.causal.effects import addition_plan, interchange_plan, measure
from mechprobe.causal.places.sites import Site, site_acts
from mechprobe.causal.verdicts.statistics import bootstrap_many
from mechprobe.causal.verdicts.strata import baseline, natural_gap
from mechprobe.causal.verdicts.verdict import STRATA
from mechprobe.errors import DataError
from mechprobe.models.subject import Subject
from mechprobe.transcripts.pairs import MatchedPair, Side


def interchange_effect(
    subject: Subject,
    pairs: Sequence[MatchedPair],
    direction: Direction,
    site: Site,
    *,
    outcome: str = "behavior",
    n_random: int = 20,
    seed: int = 0,
) -> pd.DataFrame:
    """Swap the coordinate along a direction between the sides of each pair, beside random directions.

    Returns:
        A row for each stratum and direction (control "none" or "random"): n, effect in natural gaps of these
        pairs' outcome, low, high, flip_rate, mass.

    Raises:
        DataError: all natural runs fall on the same side of the outcome.
        ShapeError: the direction is not as wide as the site.
    """
    cases = natural_cases(render_pairs(subject, pairs))
    base = measure(subject, cases, outcome).logit_diff[0]
    unedited = baseline(cases, base, base, _gap(base, outcome))
    acts = site_acts(subject, cases, site, outcome)
    drawn = random_directions(n_random, len(direction.vector), seed=seed)
    vectors = torch.cat([direction.vector[None], drawn])
    found = measure(
        subject,
        cases,
        outcome,
        plan=interchange_plan(acts, vectors),
        n_conditions=len(vectors),
    )
    rows: list[dict[str, object]] = []
    for stratum in STRATA:
        moved = unedited.moved(stratum, found.logit_diff)
        if not moved.size:
            continue
        bounds = bootstrap_many(moved.T, unedited.clusters_of(stratum), seed=seed)
        flips = unedited.flips(stratum, found.logit_diff).mean(1)
        mass = found.mass[:, unedited.masks()[stratum]].mean(1)
        for draw, values in enumerate(moved):
            rows.append(
                {
                    "stratum": stratum,
                    "control": "none" if draw == 0 else "random",
                    "n": len(values),
                    "effect": float(values.mean()),
                    "low": float(bounds[draw, 0]),
                    "high": float(bounds[draw, 1]),
                    "flip_rate": float(flips[draw]),
                    "mass": float(mass[draw]),
                }
            )
    return pd.DataFrame(rows)


def steering_curve(
    subject: Subject,
    pairs: Sequence[MatchedPair],
    direction: Direction,
    site: Site,
    *,
    strengths: Sequence[float] = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0),
    outcome: str = "behavior",
    side: Side | None = None,
    n_random: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """Add strength * gap * direction at the site, beside random directions of the same length.

    Args:
        side: only the pairs whose natural side this is; None for all.

    Returns:
        A row for each strength and direction: the mean logit difference, the share of runs that misbehave and the
        probability mass on the outcome's answers.
    """
    chosen = [pair for pair in pairs if side in (None, pair.natural)]
    if not chosen:
        raise DataError(f"none of the {len(pairs)} pairs has its natural side {side!r}.")
    cases = natural_cases(render_pairs(subject, chosen))
    acts = site_acts(subject, cases, site, outcome)
    drawn = random_directions(n_random, len(direction.vector), seed=seed)
    vectors = torch.cat([direction.vector[None], drawn])
    doses = torch.tensor(list(strengths), dtype=torch.float32) * direction.gap
    rows_of = vectors.repeat_interleave(len(doses), 0)
    amounts = einsum(
        doses.repeat(len(vectors)),
        torch.ones(acts.positions.shape),
        "row, case site -> row case site",
    )
    found = measure(
        subject,
        cases,
        outcome,
        plan=addition_plan(acts, rows_of, amounts),
        n_conditions=len(rows_of),
    )
    return pd.DataFrame(
        {
            "strength": np.tile(np.array(strengths, dtype=float), len(vectors)),
            "control": np.repeat(["none"] + ["random"] * n_random, len(doses)),
            "draw": np.repeat([0, *range(n_random)], len(doses)),
            "n": len(cases),
            "logit_diff": found.logit_diff.mean(1),
            "misbehaves": (found.logit_diff > 0).mean(1),
            "mass": found.mass.mean(1),
        }
    )


def _gap(base: np.ndarray, outcome: str) -> float:
    gap = natural_gap(base)
    if not np.isfinite(gap):
        raise DataError(
            f"outcome {outcome!r} is constant: all {len(base)} natural runs fall on the same side, so an effect "
            "has no scale. Give pairs of both kinds."
        )
    return gap
