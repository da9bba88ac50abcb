"""The figures of every series in a score file, whole and broken down, as JSON and as a table to read."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from mechprobe.errors import LabelError
from mechprobe.evaluation.detection import MIN_POSITIVES
from mechprobe.evaluation.scores.score_figures import (
    FPR_TARGETS,
    UNITS,
    Figures,
    Resampling,
    figures_of,
)
from mechprobe.evaluation.scores.score_file import SERIES, ScoreFile

NOTES = {
    "mixed": "the highest turn of each positive transcript against every negative turn (arXiv 2606.24251); "
    "mixed_chance is its expected value for turn scores drawn independently, in closed form "
    "(mixed_chance_across: against turns of other transcripts alone, the mean of n / (n + 1))",
    "turn": "each turn against each turn",
    "transcript": "the highest turn of each transcript against that of each; transcript_chance holds for scores "
    "drawn once a transcript, transcript_chance_of_turns for scores drawn turn by turn",
    "intervals": "95 %, bootstrap of whole transcripts, widened to the exact binomial one where fewer than ten "
    "transcripts hold a class; _se is the clustered DeLong standard error (Obuchowski 1997)",
    "tpr@": "the authors' rule, on the mixed units: an interpolated quantile, fired at and above, so that the "
    "measured fpr may exceed the target",
    "tpr_at_fpr": "fired above the threshold, ties together, and the measured fpr is at most the target; chance is "
    "the rate of turn scores drawn independently (mixed) or the measured fpr",
    "relaxed": "positive turns against turns of transcripts without one; prior_fire leaves out misses after an "
    "earlier hit in the same transcript",
    "left out": "excluded transcripts, turns without a label, turns without a score (NaN): counted by series",
    "status": f"'too few': fewer than {MIN_POSITIVES} positives, so no figure is given",
}


def report_of(file: ScoreFile, resampling: Resampling | None = None) -> Figures:
    """Figures of every scorer x indicator x layer x view, and of each by behaviour, data set, model and split.

    Raises:
        LabelError: no series can be ranked, since each has one class only or equal scores.
    """
    figures_of_rows = _Remembered(resampling or Resampling())
    series = list(SERIES)
    groups = dict(iter(file.rows.groupby(series, sort=True)))
    results: list[Figures] = []
    for left_out in tqdm(file.left_out.to_dict("records"), desc="series", disable=None):
        rows = groups.get(tuple(left_out[name] for name in series))
        figures = {"status": "nothing scored"} if rows is None else figures_of_rows(rows)
        results.append({str(name): _plain(value) for name, value in left_out.items()} | figures)
    _refuse_useless(results)
    return {
        "notes": NOTES,
        **asdict(figures_of_rows.resampling),
        "behavior_from": file.behavior_from,
        "results": results,
        "by": {name: _broken_down(file, name, figures_of_rows) for name in file.breakdowns},
    }


@dataclass(frozen=True, kw_only=False, slots=True)
class _Remembered:
    """Figures of rows; a breakdown with one value has the rows of the whole, and is not computed again."""

    resampling: Resampling
    known: dict[bytes, Figures] = field(default_factory=dict[bytes, Figures])

    def __call__(self, rows: pd.DataFrame) -> Figures:
        key = rows.index.to_numpy().tobytes()
        if key not in self.known:
            self.known[key] = figures_of(rows, self.resampling)
        return self.known[key]


def _broken_down(file: ScoreFile, column: str, figures_of_rows: _Remembered) -> list[Figures]:
    """Figures of each series within each value of a column."""
    names = [*SERIES, column]
    return [
        {name: _plain(rows[name].iloc[0]) for name in names} | figures_of_rows(rows)
        for _, rows in file.rows.groupby(names, sort=True)
    ]


def write_report(report: Figures, out: Path) -> None:
    """Write the figures as JSON; what has no figure is null."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")


def table_of(results: list[Figures]) -> pd.DataFrame:
    """Results as short text for reading: a column for each unit, with its interval and its chance level."""
    return pd.DataFrame([_cells(result) for result in results])


def as_text(report: Figures) -> str:
    """The tables of a report, one below the other, each under a heading."""
    results, by = report["results"], report["by"]
    assert isinstance(results, list) and isinstance(by, dict)
    parts = ["AUROC [95 % interval] (chance)", _aligned(results)]
    parts += [
        f"{result['scorer']}: {result['n_excluded']} rows excluded, {result['n_unlabelled']} without a label, "
        f"{result['n_not_scored']} without a score"
        for result in results
        if result["n_excluded"] or result["n_unlabelled"] or result["n_not_scored"]
    ]
    for name, rows in by.items():
        if len(rows) == len(results):
            continue  # one value each: the same figures again
        parts += ["", f"by {name}", _aligned(rows)]
    return "\n".join(parts)


def _aligned(results: list[Figures]) -> str:
    return table_of(results).to_string(index=False, justify="left")


def _cells(result: Figures) -> dict[str, str]:
    shown = [n for n in ("behavior", "dataset", "target_model", "split") if n in result]
    cells = {name: str(result[name]) for name in [*SERIES, *shown] if result[name] != ""}
    cells |= {"n+": str(result.get("n_pos", 0)), "n-": str(result.get("n_neg", 0))}
    for unit in UNITS:
        cells[unit] = _auroc_cell(result, unit)
    rates = result.get("tpr_at_fpr")
    if isinstance(rates, dict):
        for target, rate in zip(FPR_TARGETS, rates["mixed"], strict=True):
            text = "-" if rate["tpr"] is None else f"{rate['tpr']:.3f} ({rate['chance']:.2f})"
            cells[f"TPR@{100 * target:g}%"] = text
    return cells


def _auroc_cell(result: Figures, unit: str) -> str:
    value = result.get(f"{unit}_auroc")
    if value is None:
        return str(result.get(f"{unit}_status", result["status"]))
    low, high, chance = (result[f"{unit}_{name}"] for name in ("auroc_low", "auroc_high", "chance"))
    return f"{value:.3f} [{low:.3f} {high:.3f}] ({chance:.2f})"


def _refuse_useless(results: list[Figures]) -> None:
    """Raise if nothing can be said about any series; too few positives is something that can be said."""
    reasons = [(str(result["scorer"]), str(result["status"])) for result in results]
    if all(
        status in ("one class only", "all scores equal", "nothing scored") for _, status in reasons
    ):
        said = "; ".join(f"{scorer}: {status}" for scorer, status in reasons[:5])
        raise LabelError(
            f"none of {len(reasons)} series can be ranked ({said}); a ranking needs positive and negative turns "
            "with differing scores."
        )


def _plain(value: object) -> object:
    """A value of a table as one of JSON."""
    return value.item() if isinstance(value, np.generic) else value
