"""From readings and judgements to the tables and the self-test of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
from tqdm import tqdm

from mechprobe.causal.checks.conditions import NULL_CONTROLS
from mechprobe.causal.checks.remains import REMAINS_COLUMNS, remains_rows
from mechprobe.causal.config import CausalConfig
from mechprobe.causal.directions import (
    REPLICATE,
)
from mechprobe.causal.readings import IndicatorReadings
from mechprobe.causal.tables.dose_table import DOSE_COLUMNS, dose_rows
from mechprobe.causal.tables.effect_table import EFFECT_COLUMNS, effect_rows
from mechprobe.causal.tables.rows import as_table
from mechprobe.causal.tables.verdict_table import VERDICT_COLUMNS, verdict_row
from mechprobe.causal.verdicts.evidence import Effort
from mechprobe.causal.verdicts.judging import Judgement, count_verdicts, replicates_of
from mechprobe.causal.verdicts.selftest import control_verdicts, false_drivers
from mechprobe.causal.writing.neutral import neutral_text
from mechprobe.models.subject import Subject
from mechprobe.transcripts.transcript import Transcript


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownTruth:
    """What is known beforehand about each indicator, where anything is."""

    roles: Mapping[str, str] = field(default_factory=dict[str, str])
    """Indicator -> its role in the world that made the data."""
    verdicts: Mapping[str, str] = field(default_factory=dict[str, str])
    """Indicator -> the verdict that would be right."""


def effects_table(readings: Sequence[IndicatorReadings], config: CausalConfig) -> pd.DataFrame:
    """`effects.parquet`."""
    rows = [
        row
        for one in readings
        for row in effect_rows(one, config.behavior_outcome, seed=config.seed)
    ]
    return as_table(rows, EFFECT_COLUMNS)


def dose_table(
    subject: Subject,
    readings: Sequence[IndicatorReadings],
    transcripts: Sequence[Transcript],
    config: CausalConfig,
) -> pd.DataFrame:
    """`dose.parquet`, with the damage done to the first transcripts without any held indicator."""
    neutral = neutral_text(subject, transcripts, config.n_neutral)
    bar = tqdm(readings, desc="dose curves", disable=None)
    rows = [row for one in bar for row in dose_rows(one, subject, neutral, seed=config.seed)]
    return as_table(rows, DOSE_COLUMNS)


def remains_table(readings: Sequence[IndicatorReadings]) -> pd.DataFrame:
    """`remains.parquet`: AUROC of fresh probes before and after removals."""
    rows = [row for one in readings if one.remains for row in remains_rows(one.remains)]
    return as_table(rows, REMAINS_COLUMNS)


def verdicts_table(
    judgements: Sequence[Judgement], readings: Sequence[IndicatorReadings], truth: KnownTruth
) -> pd.DataFrame:
    """`verdicts.parquet`, scored where the truth is known."""
    by_name = {one.indicator: one for one in readings}
    rows = [
        verdict_row(
            judgement,
            by_name[judgement.evidence.indicator],
            replicates=replicates_of(judgement, judgements),
            role=truth.roles.get(judgement.evidence.indicator, ""),
            truth=truth.verdicts.get(judgement.evidence.indicator, ""),
        )
        for judgement in judgements
        if REPLICATE not in judgement.evidence.direction
    ]
    return as_table(rows, VERDICT_COLUMNS)


def self_test(
    judgements: Sequence[Judgement],
    readings: Sequence[IndicatorReadings],
    truth: KnownTruth,
    config: CausalConfig,
) -> dict[str, object]:
    """Confusion of the first direction\'s verdicts with the truth, and how many null directions are called drivers."""
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
