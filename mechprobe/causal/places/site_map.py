"""The site sweep: patch whole activations over hook points and tokens, and choose where to ask for verdicts."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from tqdm import tqdm

from mechprobe.causal.cases import SIDES, Case, RenderedPair
from mechprobe.causal.effects import BATCH_TOKENS, measure, patch_plan
from mechprobe.causal.places.sites import (
    POSITIONS,
    SIMPLEST_FIRST,
    Position,
    Site,
    SiteActs,
    sites_acts,
    tokens_at,
)
from mechprobe.causal.verdicts.statistics import bootstrap_many
from mechprobe.causal.verdicts.strata import Baseline, baseline, natural_gap
from mechprobe.errors import DataError
from mechprobe.models.subject import Subject

ALL = "all"
"""Indicator column of the rows that average over the indicators."""
TOLERANCE = 0.15
"""A smaller site is preferred when it lacks at most this share of the best one's effect."""
MIN_SHARE = 0.5
"""An indicator leaves the common site where that site does less than this share of its own best one's effect."""
MIN_RUNS = 4
"""Runs that an indicator's text flip must change before its own sweep may decide its site."""


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
        One row for each hook_name, position, outcome and indicator, with n runs, and the effect also by whether the
        thought is taken away (removing) or put in (adding); and for indicator "all" their mean, with n indicators.

    Raises:
        HookError: a hook point does not exist.
    """
    rows: list[dict[str, object]] = []
    for outcome in outcomes:
        cases = [
            Case(pair=pair, side=side)
            for pair in pairs
            for side in SIDES
            if outcome in pair.outcomes
        ]
        if not cases:
            continue
        unedited = _both_sides(subject, cases, outcome, batch_tokens)
        sites = _possible_sites(subject, cases, hook_names, positions, outcome)
        bar = tqdm(total=len(sites) * len(cases), desc=f"site sweep, {outcome}", disable=None)
        for acts in sites_acts(subject, cases, sites, outcome):
            patched = _patched(subject, cases, outcome, acts, batch_tokens, bar.update)
            rows += _site_rows(acts.site, outcome, cases, unedited, patched, n_boot, seed)
        bar.close()
    return pd.DataFrame(rows)


def best_site(sweep: pd.DataFrame, outcome: str = "behavior") -> Site:
    """The site with the largest mean effect in or right after the span; a smaller one if it does nearly as well.

    What counts is the outcome that verdicts are about; where its text flip changes nothing, all outcomes count.

    Raises:
        DataError: no site outside the decision token was measured on pairs where the text matters.
    """
    means = _mean_effects(sweep, [outcome]) or _mean_effects(sweep, None)
    if not means:
        raise DataError(
            "no site can be chosen: in no pair does flipping the text change an outcome. Give more pairs to "
            "the select split, or pairs whose behaviour depends on their indicator."
        )
    return _simplest(means)


def best_sites(sweep: pd.DataFrame, outcomes: Sequence[str] = ("behavior",)) -> dict[str, Site]:
    """The site of each indicator: the best one of all, or its own where that one does not reach its thought.

    One site for all would refuse a thought that is read elsewhere. A site must work both ways, taking the thought away
    and putting it in, so the lesser of the two effects counts. An indicator leaves the common site only if its own
    best does at least twice as much; the first of `outcomes` that its text flip changes in `MIN_RUNS` runs decides.

    Raises:
        DataError: no site outside the decision token was measured on pairs where the text matters.
    """
    common = best_site(sweep, outcomes[0])
    chosen: dict[str, Site] = {}
    for name in sorted({str(found) for found in sweep["indicator"]} - {ALL}):
        own = sweep.query("indicator == @name and n >= @MIN_RUNS")
        effects: dict[Site, float] = {}
        for outcome in outcomes:
            effects = effects or _lesser_effects(own, outcome)
        far = bool(effects) and effects.get(common, 0.0) < MIN_SHARE * max(effects.values())
        chosen[name] = _own_site(effects) if far else common
    return chosen


def _own_site(effects: Mapping[Site, float]) -> Site:
    """The best single token, if it does half of what all tokens of the span do: a direction belongs to one token."""
    good = [site for site in effects if effects[site] >= MIN_SHARE * max(effects.values())]
    return min(good, key=lambda site: (site.position == "span_all", -effects[site]))


def _simplest(effects: Mapping[Site, float]) -> Site:
    """The simplest position among the sites that do nearly as well as the best."""
    good = [site for site in effects if effects[site] >= (1 - TOLERANCE) * max(effects.values())]
    return min(good, key=lambda site: (SIMPLEST_FIRST.index(site.position), -effects[site]))


def _lesser_effects(sweep: pd.DataFrame, outcome: str) -> dict[Site, float]:
    """The lesser of the effects of removing and adding at each candidate site, for one indicator."""
    effects: dict[Site, float] = {}
    for row in cast("list[dict[str, Any]]", sweep.to_dict("records")):
        found = [row[side] for side in ("removing", "adding") if np.isfinite(row[side])]
        if row["position"] in SIMPLEST_FIRST and row["outcome"] == outcome and found:
            effects[Site(hook_name=row["hook_name"], position=row["position"])] = min(found)
    return effects


def _mean_effects(sweep: pd.DataFrame, outcomes: Sequence[str] | None) -> dict[Site, float]:
    """Mean effect of each candidate site over outcomes; None: over all."""
    effects: dict[Site, list[float]] = {}
    for row in cast("list[dict[str, Any]]", sweep.to_dict("records")):
        is_candidate = row["indicator"] == ALL and row["position"] in SIMPLEST_FIRST
        is_counted = outcomes is None or row["outcome"] in outcomes
        if is_candidate and is_counted and np.isfinite(row["effect"]):
            site = Site(hook_name=row["hook_name"], position=row["position"])
            effects.setdefault(site, []).append(row["effect"])
    return {site: float(np.mean(found)) for site, found in effects.items()}


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
    fires: list[Position] = [
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
    progress: Callable[[int], object],
) -> np.ndarray:
    plan = patch_plan(acts)
    return measure(
        subject, cases, outcome, plan=plan, batch_tokens=batch_tokens, progress=progress
    ).logit_diff[0]


def _site_rows(
    site: Site,
    outcome: str,
    cases: Sequence[Case],
    unedited: Baseline,
    patched: np.ndarray,
    n_boot: int,
    seed: int,
) -> list[dict[str, object]]:
    names = np.array([case.pair.indicator for case in cases])
    rows: list[dict[str, object]] = []
    effects: list[float] = []
    for name in sorted(set(names.tolist())):
        some = unedited.pick(names == name)
        shares = some.share_of_text_flip(patched[names == name])
        low, high = np.nan, np.nan
        sides = {"removing": np.nan, "adding": np.nan}
        if len(shares):
            clusters = np.array(some.clusters)[some.changed()].tolist()
            low, high = bootstrap_many(shares[:, None], clusters, n_boot=n_boot, seed=seed)[0]
            effects.append(float(shares.mean()))
            held = some.is_positive[some.changed()]
            for side, of_side in (("removing", held), ("adding", ~held)):
                if of_side.any():
                    sides[side] = float(shares[of_side].mean())
        effect = effects[-1] if len(shares) else np.nan
        figures = {"n": len(shares), "effect": effect, "low": float(low), "high": float(high)}
        rows.append({"indicator": name, **figures, **sides})
    mean = float(np.mean(effects)) if effects else np.nan
    rows.append(
        {
            "indicator": ALL,
            "n": len(effects),
            "effect": mean,
            **dict.fromkeys(("low", "high", "removing", "adding"), np.nan),
        }
    )
    place = {
        "hook_name": site.hook_name,
        "layer": layer_of(site.hook_name),
        "position": site.position,
        "outcome": outcome,
    }
    return [place | row for row in rows]


def layer_of(hook_name: str) -> int:
    """The block number in a hook name; -1 before the blocks."""
    parts = hook_name.split(".")
    numbers = [int(part) for part in parts if part.isdigit()]
    return numbers[0] if numbers else -1
