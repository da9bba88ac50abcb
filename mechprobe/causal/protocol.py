"""The whole causal protocol: choose a site, fit directions there, run every condition, decide, test itself.

CAUSAL.md; the steps use disjoint data: directions come from the fit split, the site from the select split, and
verdicts from the test split.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from tqdm import tqdm

from mechprobe.causal.cases import Case, RenderedPair, natural_cases, render_pairs
from mechprobe.causal.config import CausalConfig
from mechprobe.causal.controls import (
    covariance_matched_directions,
    random_directions,
    shuffled_label_directions,
    without,
)
from mechprobe.causal.directions import Direction, SpanActs, fit_directions, span_acts
from mechprobe.causal.evidence import Effort
from mechprobe.causal.judging import OTHER, Judgement, count_verdicts, judge
from mechprobe.causal.measuring import Runner, measure_indicator, spread_over_sides
from mechprobe.causal.neutral import neutral_text
from mechprobe.causal.readings import Control, IndicatorReadings
from mechprobe.causal.resampling import Resampled, resample
from mechprobe.causal.selftest import control_verdicts, false_drivers
from mechprobe.causal.site_map import best_site, site_sweep
from mechprobe.causal.sites import Site
from mechprobe.causal.strata import Baseline, baseline, natural_gap
from mechprobe.causal.tables import (
    DOSE_COLUMNS,
    EFFECT_COLUMNS,
    VERDICT_COLUMNS,
    as_table,
    dose_rows,
    effect_rows,
    verdict_row,
)
from mechprobe.errors import DataError
from mechprobe.models.subject import Subject
from mechprobe.transcripts.pairs import MatchedPair
from mechprobe.transcripts.transcript import Transcript

ORTHOGONAL = "_orthogonal"
"""Suffix of a control whose directions have the real one taken out."""
NULL_CONTROLS = (
    "random",
    "random_covariance",
    f"random_covariance{ORTHOGONAL}",
    "shuffled",
    f"shuffled{ORTHOGONAL}",
)

DirectionSource = Callable[[SpanActs], Sequence[Direction]]
"""Labelled activations at the chosen site -> further directions to judge there, such as probe weights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownTruth:
    """What is known beforehand about each indicator, where anything is."""

    roles: Mapping[str, str] = field(default_factory=dict[str, str])
    """Indicator -> its role in the world that made the data."""
    verdicts: Mapping[str, str] = field(default_factory=dict[str, str])
    """Indicator -> the verdict that would be right."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CausalResult:
    """The tables of a run, and what they were made from."""

    site: Site
    sites: pd.DataFrame
    effects: pd.DataFrame
    dose: pd.DataFrame
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
    site: Site | None = None,
    truth: KnownTruth | None = None,
) -> CausalResult:
    """Give every indicator of the pairs a verdict.

    Args:
        pairs: matched pairs of the splits "select" (the site) and "test" (the verdicts).
        transcripts: those of split "fit" make the directions; those without held indicators measure damage.
        further_directions: more directions to judge than the differences of means.
        site: skip the sweep and ask for verdicts here.

    Raises:
        DataError: a split is empty, or no outcome has the configured name.
        ShapeError: a pair is of unequal length, or a direction is not as wide as the site.
    """
    truth = truth or KnownTruth()
    chosen = _chosen_pairs(subject, pairs, config, needs_select=site is None)
    sites = _sweep(subject, chosen.select, config) if site is None else pd.DataFrame()
    site = best_site(sites, config.behavior_outcome) if site is None else site
    fit = [transcript for transcript in transcripts if transcript.split == "fit"]
    spans = span_acts(subject, fit, site, max_spans=config.n_fit_spans)
    directions = _directions(spans, chosen.indicators, further_directions)
    readings = _measure_all(subject, chosen, site, spans, directions, config)
    judgements = _judge_all(subject, chosen, readings, config)
    return CausalResult(
        site=site,
        sites=sites,
        effects=_effects(readings, config),
        dose=_dose(subject, readings, transcripts, config),
        verdicts=_verdicts(judgements, readings, truth),
        selftest=_selftest(judgements, readings, truth, config),
        judgements=tuple(judgements),
        readings=tuple(readings),
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _ChosenPairs:
    select: list[RenderedPair]
    test: list[RenderedPair]

    @property
    def indicators(self) -> list[str]:
        return list(dict.fromkeys(pair.indicator for pair in self.test))

    def of(self, indicator: str) -> list[RenderedPair]:
        return [pair for pair in self.test if pair.indicator == indicator]


def _chosen_pairs(
    subject: Subject, pairs: Sequence[MatchedPair], config: CausalConfig, *, needs_select: bool
) -> _ChosenPairs:
    select = take_pairs(pairs, "select", config.n_select_pairs) if needs_select else []
    test = take_pairs(pairs, "test", config.n_test_pairs)
    if not test or (needs_select and not select):
        lacking = "test" if not test else "select"
        raise DataError(
            f"no matched pair has split {lacking!r} and an outcome; the {len(pairs)} pairs given have splits "
            f"{sorted({pair.split for pair in pairs})}. Assign splits to the pairs."
        )
    names = {outcome.name for pair in test for outcome in pair.outcomes}
    if config.behavior_outcome not in names:
        raise DataError(
            f"no pair has an outcome named {config.behavior_outcome!r}; they have {sorted(names)}. "
            "Set behavior_outcome to one of these."
        )
    return _ChosenPairs(select=render_pairs(subject, select), test=render_pairs(subject, test))


def take_pairs(pairs: Sequence[MatchedPair], split: str, n: int) -> list[MatchedPair]:
    """Up to `n` pairs of each indicator, of both natural sides as far as they last."""
    by_indicator: dict[str, list[MatchedPair]] = {}
    for pair in pairs:
        if pair.split == split:
            by_indicator.setdefault(pair.indicator, []).append(pair)
    return [
        found[i]
        for found in by_indicator.values()
        for i in spread_over_sides([pair.natural for pair in found], n)
    ]


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


def _directions(
    spans: SpanActs, indicators: Sequence[str], further: DirectionSource | None
) -> dict[str, list[Direction]]:
    directions = {one.indicator: [one] for one in fit_directions(spans, indicators)}
    for one in further(spans) if further else ():
        if one.indicator in directions:
            directions[one.indicator].append(one)
    return directions


def _measure_all(
    subject: Subject,
    chosen: _ChosenPairs,
    site: Site,
    spans: SpanActs,
    directions: Mapping[str, Sequence[Direction]],
    config: CausalConfig,
) -> list[IndicatorReadings]:
    bar = tqdm(desc="interventions", unit=" runs", disable=None)
    runner = Runner(subject=subject, batch_tokens=config.batch_tokens, progress=bar.update)
    unedited = _unedited(runner, chosen, config.behavior_outcome)
    audits = _unedited(runner, chosen, config.audit_outcome) if config.audit_outcome else {}
    readings: list[IndicatorReadings] = []
    for indicator in tqdm(chosen.indicators, desc="indicators", disable=None):
        cases = _cases(chosen, indicator, config.behavior_outcome)
        has_audit = all(config.audit_outcome in case.pair.outcomes for case in cases)
        readings.append(
            measure_indicator(
                runner,
                cases,
                site,
                directions[indicator],
                _controls(indicator, spans, directions, config),
                unedited[indicator],
                audits.get(indicator) if has_audit else None,
                config,
            )
        )
    bar.close()
    return readings


def _cases(chosen: _ChosenPairs, indicator: str, outcome: str) -> list[Case]:
    return natural_cases([pair for pair in chosen.of(indicator) if outcome in pair.outcomes])


def _unedited(runner: Runner, chosen: _ChosenPairs, outcome: str) -> dict[str, Baseline]:
    """Both sides of every pair; the scale is the natural gap over all indicators."""
    pairs = [pair for pair in chosen.test if outcome in pair.outcomes]
    if not pairs:
        return {}
    own = natural_cases(pairs)
    flipped = [
        Case(pair=case.pair, side="negative" if case.side == "positive" else "positive")
        for case in own
    ]
    base = runner.read(own, outcome).logit_diff[0]
    other = runner.read(flipped, outcome).logit_diff[0]
    whole = baseline(own, base, other, natural_gap(base))
    names = np.array([pair.indicator for pair in pairs])
    return {name: whole.pick(names == name) for name in dict.fromkeys(names.tolist())}


def _controls(
    indicator: str,
    spans: SpanActs,
    directions: Mapping[str, Sequence[Direction]],
    config: CausalConfig,
) -> list[Control]:
    acts, is_present = spans.of(indicator)
    own = directions[indicator][0].vector
    width, seed = acts.shape[-1], config.seed + 101 * (1 + list(directions).index(indicator))
    covariance = covariance_matched_directions(spans.acts, config.n_covariance_matched, seed=seed)
    shuffled = shuffled_label_directions(acts, is_present, config.n_shuffled, seed=seed)
    # Some of these hold a good part of the real direction. Both are run: as drawn, and without it.
    found = {
        "random": random_directions(config.n_random, width, seed=seed),
        "random_covariance": covariance,
        f"random_covariance{ORTHOGONAL}": without(covariance, own),
        "shuffled": shuffled,
        f"shuffled{ORTHOGONAL}": without(shuffled, own),
    }
    controls = [Control(name=name, vectors=vectors) for name, vectors in found.items()]
    if config.with_other_indicators:
        controls += [
            Control(name=f"{OTHER}{name}", vectors=found[0].vector[None])
            for name, found in directions.items()
            if name != indicator
        ]
    return [control for control in controls if len(control.vectors)]


def _judge_all(
    subject: Subject,
    chosen: _ChosenPairs,
    readings: Sequence[IndicatorReadings],
    config: CausalConfig,
) -> list[Judgement]:
    names = list(dict.fromkeys(d.name for one in readings for d in one.directions))
    regenerated: dict[str, Resampled] = {}

    def resample_once(indicator: str) -> Resampled | None:
        if config.n_samples == 0 or config.n_resampled_pairs == 0:
            return None
        if indicator not in regenerated:
            pairs = chosen.of(indicator)
            kept = spread_over_sides([pair.natural for pair in pairs], config.n_resampled_pairs)
            regenerated[indicator] = resample(
                subject,
                [pairs[i] for i in kept],
                config.behavior_outcome,
                n_samples=config.n_samples,
                max_new_tokens=config.max_new_tokens,
                seed=config.seed,
            )
        return regenerated[indicator]

    effort = Effort(n_boot=config.n_boot, n_permutations=config.n_permutations, seed=config.seed)
    return [
        judgement
        for name in tqdm(names, desc="verdicts", disable=None)
        for judgement in judge(readings, name, config.rule, effort, resample_once)
    ]


def _effects(readings: Sequence[IndicatorReadings], config: CausalConfig) -> pd.DataFrame:
    rows = [
        row
        for one in readings
        for row in effect_rows(one, config.behavior_outcome, seed=config.seed)
    ]
    return as_table(rows, EFFECT_COLUMNS)


def _dose(
    subject: Subject,
    readings: Sequence[IndicatorReadings],
    transcripts: Sequence[Transcript],
    config: CausalConfig,
) -> pd.DataFrame:
    neutral = neutral_text(subject, transcripts, config.n_neutral)
    bar = tqdm(readings, desc="dose curves", disable=None)
    rows = [row for one in bar for row in dose_rows(one, subject, neutral, seed=config.seed)]
    return as_table(rows, DOSE_COLUMNS)


def _verdicts(
    judgements: Sequence[Judgement], readings: Sequence[IndicatorReadings], truth: KnownTruth
) -> pd.DataFrame:
    by_name = {one.indicator: one for one in readings}
    rows = [
        verdict_row(
            judgement,
            by_name[judgement.evidence.indicator],
            role=truth.roles.get(judgement.evidence.indicator, ""),
            truth=truth.verdicts.get(judgement.evidence.indicator, ""),
        )
        for judgement in judgements
    ]
    return as_table(rows, VERDICT_COLUMNS)


def _selftest(
    judgements: Sequence[Judgement],
    readings: Sequence[IndicatorReadings],
    truth: KnownTruth,
    config: CausalConfig,
) -> dict[str, object]:
    effort = Effort(
        n_boot=config.n_boot,
        n_permutations=config.n_permutations,
        seed=config.seed,
        is_printed=False,
    )
    main = judgements[0].evidence.direction
    mine = [judgement for judgement in judgements if judgement.evidence.direction == main]
    found = count_verdicts(mine, truth.verdicts)
    for name in NULL_CONTROLS:
        verdicts = control_verdicts(readings, name, config.rule, effort)
        found[f"false_driver_{name}"] = false_drivers(verdicts)
    return found
