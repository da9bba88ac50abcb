"""Every scorer of misaligned turns on one table: probes, text baselines, judges and controls, each beside chance."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from mechprobe.baselines.tokens import TOKEN_BASELINES
from mechprobe.reports.estimates import NAN, Estimate, estimate_of, to_float, to_text
from mechprobe.reports.overview import held_out, units_of
from mechprobe.reports.rows import distinct, records, rows_where
from mechprobe.reports.tables import RunTables
from mechprobe.reports.wording import fusion_of, scorer_words

MISALIGNED = "misaligned"
LENGTH = "length"
CONTROL_PREFIXES = ("random_", "shuffled_")
TEXT_SCORERS = ("length", "tfidf", "tfidf_bigrams", *TOKEN_BASELINES)
"""Those of a run that made no table of gains."""
GROUPS: tuple[tuple[str, str], ...] = (
    ("acts", "Probes on activations"),
    ("features", "Probes on SAE features"),
    ("fused", "Fused from the indicators' probes"),
    ("text", "Text alone"),
    ("judge", "Others' scores"),
    ("control", "Controls, which should know nothing"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Gain:
    """What a scorer gains over a text baseline, on the same units."""

    difference: Estimate
    q_holm: float

    @property
    def answer(self) -> str:
        """ "yes", "no" or "not shown", by the interval and, where there is one, the corrected p-value."""
        if not self.difference.has_interval or self.q_holm > 0.05:
            return "not shown"
        if self.difference.low > 0:
            return "yes"
        return "no" if self.difference.high < 0 else "not shown"


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """What scorers are compared with, and how."""

    baseline: str
    comparison: str
    """"alone": in its place; "added": beside it."""
    question: str
    claim: str
    """How the question is answered."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScorerRow:
    """One scorer: its AUROC by unit, and what it gains over each baseline at the first unit."""

    scorer: str
    group: str
    hook_name: str
    aurocs: Mapping[str, Estimate]
    tpr_at_5pct: float
    n_pos: float
    n_neg: float
    gains: tuple[Gain | None, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ScorerTable:
    """All scorers of `misaligned`, in groups."""

    units: tuple[str, ...]
    chances: Mapping[str, float]
    comparisons: tuple[Comparison, ...]
    groups: tuple[tuple[str, tuple[ScorerRow, ...]], ...]
    n_probes: int
    """Scorers that are no baseline, no control and no judge."""
    better: tuple[tuple[str, ...], ...]
    """For each comparison the probes that are shown to gain, in words."""
    n_judges: int
    judges_better: tuple[tuple[str, ...], ...]
    """The same for others' scores."""


def scorer_table(tables: RunTables) -> ScorerTable | None:
    """The table, of a study that asks whether turns are misaligned; None for others."""
    detection = rows_where(held_out(tables.detection), indicator=MISALIGNED)
    if detection.empty:
        return None
    units = units_of(detection)
    gains = tables.detectors.gains
    mine = None if gains is None else rows_where(gains, indicator=MISALIGNED, unit=units[0])
    comparisons = _comparisons(detection, units[0], mine)
    texts = TEXT_SCORERS if mine is None else distinct(mine, "baseline")
    rows = [
        _row(rows_where(detection, scorer=scorer), units, texts, mine, comparisons)
        for scorer in distinct(detection, "scorer")
    ]
    probes = [row for row in rows if row.group in ("acts", "features", "fused")]
    judges = [row for row in rows if row.group == "judge"]
    return ScorerTable(
        units=tuple(units),
        chances={unit: _chance(detection, unit) for unit in units},
        comparisons=comparisons,
        groups=_grouped(rows, units[0]),
        n_probes=len(probes),
        better=_better(probes, len(comparisons)),
        n_judges=len(judges),
        judges_better=_better(judges, len(comparisons)),
    )


def _better(rows: Sequence[ScorerRow], n_comparisons: int) -> tuple[tuple[str, ...], ...]:
    """For each comparison the scorers whose gain is shown."""
    return tuple(
        tuple(
            scorer_words(row.scorer)
            for row in rows
            for gain in [row.gains[at]]
            if gain and gain.answer == "yes"
        )
        for at in range(n_comparisons)
    )


def group_of(scorer: str, hook_name: str, text_scorers: Collection[str]) -> str:
    """Which of GROUPS a scorer belongs to: what reads at no hook point reads text, or is somebody's opinion."""
    if scorer.startswith(CONTROL_PREFIXES):
        return "control"
    if not hook_name:
        return "text" if scorer in text_scorers else "judge"
    if fusion_of(scorer):
        return "fused"
    return "features" if scorer.startswith("sae_") else "acts"


def _row(
    detection: pd.DataFrame,
    units: Sequence[str],
    texts: Collection[str],
    gains: pd.DataFrame | None,
    comparisons: Sequence[Comparison],
) -> ScorerRow:
    """The first row of each unit: the evaluate stage lists the chosen site first."""
    rows = {to_text(row["unit"]): row for row in reversed(records(detection))}
    first = rows[next(unit for unit in units if unit in rows)]
    scorer, hook_name = to_text(first["scorer"]), to_text(first.get("hook_name"))
    return ScorerRow(
        scorer=scorer,
        group=group_of(scorer, hook_name, texts),
        hook_name=hook_name,
        aurocs={unit: estimate_of(rows[unit], "auroc") for unit in units if unit in rows},
        tpr_at_5pct=to_float(first.get("tpr_at_5pct")),
        n_pos=to_float(first["n_pos"]),
        n_neg=to_float(first["n_neg"]),
        gains=tuple(_gain(gains, scorer, comparison) for comparison in comparisons),
    )


def _gain(gains: pd.DataFrame | None, scorer: str, asked: Comparison) -> Gain | None:
    if gains is None:
        return None
    found = records(
        rows_where(gains, scorer=scorer, baseline=asked.baseline, comparison=asked.comparison)
    )
    if not found:
        return None
    return Gain(difference=estimate_of(found[0], "difference"), q_holm=to_float(found[0]["q_holm"]))


def _comparisons(
    detection: pd.DataFrame, unit: str, gains: pd.DataFrame | None
) -> tuple[Comparison, ...]:
    """With length, and with the strongest of the other baselines: in its place, and beside it."""
    if gains is None or gains.empty:
        return ()
    compared = distinct(gains, "baseline")
    scored = {
        to_text(row["scorer"]): to_float(row["auroc"])
        for row in records(rows_where(detection, unit=unit))
    }
    words = [name for name in compared if name != LENGTH and name in scored]
    found: list[Comparison] = []
    if LENGTH in compared:
        found.append(
            Comparison(
                baseline=LENGTH,
                comparison="alone",
                question="Better than length?",
                claim="By the AUROC of both on the same units.",
            )
        )
    if words:
        best = max(words, key=lambda name: scored[name])
        found += [
            Comparison(
                baseline=best,
                comparison="alone",
                question="Better than text?",
                claim=f"Its AUROC against that of the strongest text baseline, {scorer_words(best)}.",
            ),
            Comparison(
                baseline=best,
                comparison="added",
                question="Adds to text?",
                claim="The mean of both ranks against the text baseline alone.",
            ),
        ]
    return tuple(found)


def _chance(detection: pd.DataFrame, unit: str) -> float:
    return to_float(records(rows_where(detection, unit=unit))[0]["chance"])


def _grouped(rows: Sequence[ScorerRow], unit: str) -> tuple[tuple[str, tuple[ScorerRow, ...]], ...]:
    """The groups that occur, the best scorer of each first."""
    nothing = Estimate(value=NAN)

    def quality(row: ScorerRow) -> float:
        value = row.aurocs.get(unit, nothing).value
        return -value if value == value else 0.0

    grouped = {
        title: sorted((row for row in rows if row.group == name), key=quality)
        for name, title in GROUPS
    }
    return tuple((title, tuple(found)) for title, found in grouped.items() if found)
