"""The site sweep: patch whole activations over hook points and tokens, and choose where to ask for verdicts."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from tqdm import tqdm

from mechprobe.causal.cases import Case, RenderedPair
from mechprobe.causal.effects import BATCH_TOKENS, measure, patch_plan
from mechprobe.causal.sites import (
    POSITIONS,
    SIMPLEST_FIRST,
    Position,
    Site,
    SiteActs,
    sites_acts,
    tokens_at,
)
from mechprobe.causal.statistics import bootstrap_many
from mechprobe.causal.strata import Baseline, baseline, natural_gap
from mechprobe.errors import DataError
from mechprobe.models.subject import Subject

ALL = "all"
"""Indicator column of the rows that average over the indicators."""
TOLERANCE = 0.1
"""A smaller site is preferred when it does at most this much less than the best one."""


def site_sweep(
    subject: Subject,
    pairs: Sequence[RenderedPair],
    hook_names: Sequence[str],
    *,
    positions: Sequence[Position] = POSITIONS,
    outcomes: Sequence[str] = ("behavior",),
    batch_tokens: int = BATCH_TOKENS,
    n_boot: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """Share of the text flip's effect that patching each site brings, both ways, on pairs where the text matters.

    Returns:
        One row for each hook_name, position, outcome and indicator (and indicator "all": their mean).

    Raises:
        HookError: a hook point does not exist.
    """
    rows: list[dict[str, object]] = []
    for outcome in outcomes:
        cases = [
            Case(pair=pair, side=side)
            for pair in pairs
            for side in ("positive", "negative")
            if outcome in pair.outcomes
        ]
        if not cases:
            continue
        unedited = _both_sides(subject, cases, outcome, batch_tokens)
        sites = _possible_sites(subject, cases, hook_names, positions, outcome)
        bar = tqdm(total=len(sites) * len(cases), desc=f"site sweep, {outcome}", disable=None)
        for acts in sites_acts(subject, cases, sites, outcome):
            patched = _patched(subject, cases, outcome, acts, batch_tokens, bar)
            rows += _site_rows(subject, acts.site, outcome, cases, unedited, patched, n_boot, seed)
        bar.close()
    return pd.DataFrame(rows)


def best_site(sweep: pd.DataFrame) -> Site:
    """The site with the largest mean effect in or right after the span; a smaller one if it does nearly as well.

    Raises:
        DataError: no site outside the decision token was measured on pairs where the text matters.
    """
    mean = sweep[(sweep["indicator"] == ALL) & sweep["position"].isin(SIMPLEST_FIRST)]
    by_site = mean.groupby(["hook_name", "position"], sort=False)["effect"].mean().dropna()
    if by_site.empty:
        raise DataError(
            "no site can be chosen: in no pair does flipping the text change an outcome. Give more pairs to "
            "the select split, or pairs whose behaviour depends on their indicator."
        )
    best = float(by_site.max())
    for position in SIMPLEST_FIRST:
        here = by_site[by_site.index.get_level_values("position") == position]
        if len(here) and float(here.max()) >= best - TOLERANCE:
            hook_name = str(here.index[int(np.argmax(here.to_numpy()))][0])
            return Site(hook_name=hook_name, position=position)
    raise AssertionError("the best site is within the tolerance of itself")


def _both_sides(
    subject: Subject, cases: Sequence[Case], outcome: str, batch_tokens: int
) -> Baseline:
    """Cases stand as positive, negative, positive, ...: each one's neighbour is its partner."""
    base = measure(subject, cases, outcome, batch_tokens=batch_tokens).logit_diff[0]
    other = base.reshape(-1, 2)[:, ::-1].reshape(-1)
    return baseline(cases, base, other, natural_gap(base))


def _possible_sites(
    subject: Subject,
    cases: Sequence[Case],
    hook_names: Sequence[str],
    positions: Sequence[Position],
    outcome: str,
) -> list[Site]:
    fires = [
        position
        for position in positions
        if all(len(tokens_at(position, case.own, outcome)) for case in cases)
    ]
    return [
        Site(hook_name=subject.resolve(name), position=position)
        for name in hook_names
        for position in fires
    ]


def _patched(
    subject: Subject,
    cases: Sequence[Case],
    outcome: str,
    acts: SiteActs,
    batch_tokens: int,
    bar: tqdm,
) -> np.ndarray:
    plan = patch_plan(acts)
    return measure(
        subject, cases, outcome, plan=plan, batch_tokens=batch_tokens, progress=bar
    ).logit_diff[0]


def _site_rows(
    subject: Subject,
    site: Site,
    outcome: str,
    cases: Sequence[Case],
    unedited: Baseline,
    patched: np.ndarray,
    n_boot: int,
    seed: int,
) -> list[dict[str, object]]:
    names = np.array([case.pair.indicator for case in cases])
    common = {
        "hook_name": site.hook_name,
        "layer": layer_of(site.hook_name),
        "position": site.position,
        "outcome": outcome,
    }
    rows: list[dict[str, object]] = []
    for name in sorted(set(names.tolist())):
        mine = names == name
        some = unedited.pick(mine)
        shares = some.share_of_text_flip(patched[mine])
        clusters = np.array(some.clusters)[some.changed()].tolist()
        low, high = np.nan, np.nan
        if len(shares):
            low, high = bootstrap_many(shares[:, None], clusters, n_boot=n_boot, seed=seed)[0]
        effect = float(shares.mean()) if len(shares) else np.nan
        rows.append(
            common
            | {"indicator": name, "n": len(shares), "effect": effect, "low": low, "high": high}
        )
    known = [row for row in rows if np.isfinite(float(str(row["effect"])))]
    effects = [float(str(row["effect"])) for row in known]
    rows.append(
        common
        | {
            "indicator": ALL,
            "n": sum(int(str(row["n"])) for row in known),
            "effect": float(np.mean(effects)) if effects else np.nan,
            "low": np.nan,
            "high": np.nan,
        }
    )
    return rows


def layer_of(hook_name: str) -> int:
    """The block number in a hook name; -1 before the blocks."""
    parts = hook_name.split(".")
    numbers = [int(part) for part in parts if part.isdigit()]
    return numbers[0] if numbers else -1
