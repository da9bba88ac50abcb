"""The whole causal protocol: choose a site, fit directions there, run every condition, decide, test itself.

CAUSAL.md; the steps use disjoint data: directions come from the fit split, the site from the select split, and
verdicts from the test split.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from mechprobe.causal.cases import RenderedPair, natural_cases
from mechprobe.causal.checks.activation_checks import SiteChecks, site_checks
from mechprobe.causal.checks.conditions import control_directions
from mechprobe.causal.checks.remains import Remains, readable_after_removal
from mechprobe.causal.config import CausalConfig
from mechprobe.causal.directions import (
    Direction,
    SpanActs,
    fit_directions,
    refit_directions,
    span_acts,
)
from mechprobe.causal.keeping import kept
from mechprobe.causal.measuring import measure_indicator
from mechprobe.causal.pair_choice import ChosenPairs, choose_pairs, spread_over_sides
from mechprobe.causal.places.site_map import best_sites, site_sweep
from mechprobe.causal.places.sites import Site
from mechprobe.causal.readings import IndicatorReadings
from mechprobe.causal.runner import Runner
from mechprobe.causal.tables.results import (
    KnownTruth,
    dose_table,
    effects_table,
    remains_table,
    self_test,
    verdicts_table,
)
from mechprobe.causal.verdicts.evidence import Effort
from mechprobe.causal.verdicts.judging import Judgement, judge
from mechprobe.causal.verdicts.strata import Baseline, baseline, natural_gap
from mechprobe.causal.writing.resampling import Resampled, resample
from mechprobe.errors import DataError
from mechprobe.models.subject import Subject
from mechprobe.transcripts.pairs import MatchedPair
from mechprobe.transcripts.transcript import Transcript

DirectionSource = Callable[[SpanActs], Sequence[Direction]]
"""Labelled activations at the chosen site -> further directions to judge there, such as probe weights."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CausalResult:
    """The tables of a run, and what they were made from."""

    sites: Mapping[str, Site]
    """Indicator -> where its verdict was asked for."""
    sweep: pd.DataFrame
    """The site sweep; empty where the sites were given."""
    effects: pd.DataFrame
    dose: pd.DataFrame
    remains: pd.DataFrame
    """What fresh probes read of each indicator after its direction, and more, is taken out."""
    verdicts: pd.DataFrame
    selftest: Mapping[str, object]
    judgements: tuple[Judgement, ...]
    readings: tuple[IndicatorReadings, ...]


def run_causal(
    subject: Subject,
    pairs: Sequence[MatchedPair],
    transcripts: Sequence[Transcript],
    config: CausalConfig,
    *,
    further_directions: DirectionSource | None = None,
    sites: Site | Mapping[str, Site] | None = None,
    truth: KnownTruth | None = None,
    keep: Path | None = None,
) -> CausalResult:
    """Give every indicator of the pairs a verdict.

    Args:
        pairs: matched pairs of the splits "select" (the sites) and "test" (the verdicts).
        transcripts: those of split "fit" make the directions; those without held indicators measure damage.
        further_directions: more directions to judge than the differences of means; asked once for each site.
        sites: skip the sweep and ask for verdicts here, everywhere or by indicator.
        keep: a folder that holds what is measured, so that a killed run goes on with the next indicator.

    Raises:
        DataError: a split is empty, no outcome has the configured name, or an indicator has no site.
        ShapeError: a pair is of unequal length, or a direction is not as wide as the site.
    """
    truth = truth or KnownTruth()
    chosen = choose_pairs(subject, pairs, config, needs_select=sites is None)
    sweep = _sweep(subject, chosen.select, config) if sites is None else pd.DataFrame()
    outcomes = [config.behavior_outcome, *([config.audit_outcome] if config.audit_outcome else [])]
    places = _site_of_each(
        chosen.indicators, best_sites(sweep, outcomes) if sites is None else sites
    )
    fit = [transcript for transcript in transcripts if transcript.split == "fit"]
    readings = _measure_all(subject, chosen, places, fit, further_directions, config, keep)
    judgements = _judge_all(subject, chosen, readings, config, keep)
    return CausalResult(
        sites=places,
        sweep=sweep,
        effects=effects_table(readings, config),
        dose=dose_table(subject, readings, transcripts, config),
        remains=remains_table(readings),
        verdicts=verdicts_table(judgements, readings, truth),
        selftest=self_test(judgements, readings, truth, config),
        judgements=tuple(judgements),
        readings=tuple(readings),
    )


def _site_of_each(indicators: Sequence[str], sites: Site | Mapping[str, Site]) -> dict[str, Site]:
    if isinstance(sites, Site):
        return dict.fromkeys(indicators, sites)
    lacking = sorted(set(indicators) - set(sites))
    if lacking:
        raise DataError(
            f"no site is given for {', '.join(lacking)}; sites are given for {', '.join(sorted(sites))}. "
            "Sweep pairs of every indicator, or give one site for all."
        )
    return {name: sites[name] for name in indicators}


def _sweep(subject: Subject, select: Sequence[RenderedPair], config: CausalConfig) -> pd.DataFrame:
    blocks = [f"blocks.{layer}.hook_resid_post" for layer in range(subject.n_layers)]
    return site_sweep(
        subject,
        select,
        config.hook_names or blocks,
        positions=config.positions,
        outcomes=[name for name in (config.behavior_outcome, config.audit_outcome) if name],
        batch_tokens=config.batch_tokens,
        seed=config.seed,
    )


def _measure_all(
    subject: Subject,
    chosen: ChosenPairs,
    sites: Mapping[str, Site],
    fit: Sequence[Transcript],
    further: DirectionSource | None,
    config: CausalConfig,
    keep: Path | None,
) -> list[IndicatorReadings]:
    """The readings of each indicator, site by site, in the order of the indicators."""
    with tqdm(desc="interventions", unit=" runs", disable=None) as bar:
        runner = Runner(subject=subject, batch_tokens=config.batch_tokens, progress=bar.update)
        unedited = {
            outcome: _unedited(runner, chosen, outcome)
            for outcome in (config.behavior_outcome, config.audit_outcome, config.unrelated_outcome)
            if outcome
        }
        found: dict[str, IndicatorReadings] = {}
        for site in dict.fromkeys(sites.values()):
            spans = span_acts(subject, fit, site, max_spans=config.n_fit_spans)
            directions = _directions(spans, chosen.indicators, further, config)
            checks = site_checks(subject, spans, seed=config.seed)
            here = [name for name in chosen.indicators if sites[name] == site]
            for name in tqdm(here, desc=f"indicators at {site}", disable=None):
                found[name] = kept(
                    keep,
                    f"readings-{name}",
                    partial(
                        _measure_one,
                        runner,
                        chosen,
                        name,
                        spans,
                        directions,
                        checks,
                        unedited,
                        config,
                    ),
                )
    return [found[name] for name in chosen.indicators]


def _measure_one(
    runner: Runner,
    chosen: ChosenPairs,
    indicator: str,
    spans: SpanActs,
    directions: Mapping[str, Sequence[Direction]],
    checks: SiteChecks,
    unedited: Mapping[str, Mapping[str, Baseline]],
    config: CausalConfig,
) -> IndicatorReadings:
    cases = chosen.cases(indicator, config.behavior_outcome)
    shared = {
        outcome: found[indicator]
        for outcome, found in unedited.items()
        if all(outcome in case.pair.outcomes for case in cases) and indicator in found
    }
    measured = measure_indicator(
        runner,
        cases,
        spans.site,
        directions[indicator],
        control_directions(indicator, spans, directions, config),
        checks,
        shared,
        config,
    )
    return replace(measured, remains=_remains(spans, indicator, config))


def _remains(spans: SpanActs, indicator: str, config: CausalConfig) -> Remains | None:
    """What fresh probes find of the indicator without its direction; None with too few spans to halve."""
    try:
        return readable_after_removal(spans, indicator, None, seed=config.seed)
    except DataError:
        return None


def _directions(
    spans: SpanActs,
    indicators: Sequence[str],
    further: DirectionSource | None,
    config: CausalConfig,
) -> dict[str, list[Direction]]:
    directions = {one.indicator: [one] for one in fit_directions(spans, indicators)}
    again = refit_directions(spans, indicators, config.n_replicates, seed=config.seed)
    for one in (*again, *(further(spans) if further else ())):
        if one.indicator in directions:
            directions[one.indicator].append(one)
    return directions


def _unedited(runner: Runner, chosen: ChosenPairs, outcome: str) -> dict[str, Baseline]:
    """Both sides of every pair; the scale is the natural gap over all indicators."""
    pairs = [pair for pair in chosen.test if outcome in pair.outcomes]
    if not pairs:
        return {}
    own = natural_cases(pairs)
    flipped = [case.flipped for case in own]
    base = runner.read(own, outcome).logit_diff[0]
    other = runner.read(flipped, outcome).logit_diff[0]
    whole = baseline(own, base, other, natural_gap(base))
    names = np.array([pair.indicator for pair in pairs])
    return {name: whole.pick(names == name) for name in dict.fromkeys(names.tolist())}


def _judge_all(
    subject: Subject,
    chosen: ChosenPairs,
    readings: Sequence[IndicatorReadings],
    config: CausalConfig,
    keep: Path | None,
) -> list[Judgement]:
    names = list(dict.fromkeys(d.name for one in readings for d in one.directions))
    regenerated: dict[str, Resampled] = {}

    def resample_once(indicator: str) -> Resampled | None:
        if config.n_samples == 0 or config.n_resampled_pairs == 0:
            return None
        if indicator not in regenerated:
            pairs = chosen.of(indicator)
            some = spread_over_sides([pair.natural for pair in pairs], config.n_resampled_pairs)
            regenerated[indicator] = kept(
                keep,
                f"resampled-{indicator}",
                lambda: resample(
                    subject,
                    [pairs[i] for i in some],
                    config.behavior_outcome,
                    n_samples=config.n_samples,
                    max_new_tokens=config.max_new_tokens,
                    seed=config.seed,
                ),
            )
        return regenerated[indicator]

    effort = Effort(n_boot=config.n_boot, n_permutations=config.n_permutations, seed=config.seed)
    return [
        judgement
        for name in tqdm(names, desc="verdicts", disable=None)
        for judgement in judge(readings, name, config.rule, effort, resample_once)
    ]
