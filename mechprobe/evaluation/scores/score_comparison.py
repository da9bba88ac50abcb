"""Two scorers of one score file, compared on the turns that both scored."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from mechprobe.errors import DataError, LabelError
from mechprobe.evaluation.differences import difference_of, holm
from mechprobe.evaluation.scores.score_figures import UNITS, Figures, units_of, why_no_figure
from mechprobe.evaluation.scores.score_file import ScoreFile


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparing:
    """How two scorers are compared."""

    n_boot: int = 1000
    """Draws of whole transcripts, for the intervals."""
    n_permutations: int = 10_000
    """Swaps of the two scorers within transcripts, for the p-values."""
    seed: int = 0


def compare_scorers(
    file: ScoreFile, first: str, second: str, comparing: Comparing | None = None
) -> list[Figures]:
    """Differences of AUROC, a row for each indicator and unit; p_holm is adjusted over the indicators of a unit.

    Args:
        first: a scorer's name, with its layer and view where those are needed: "name", "name@23", "name@23/full".

    Raises:
        DataError: a name fits no series or several, or no turn is scored by both.
        LabelError: the two disagree on the label of a turn.
    """
    comparing = comparing or Comparing()
    both, n_unpaired = _paired(file.rows, first, second)
    rows: list[Figures] = [
        {"indicator": str(indicator), "first_scorer": first, "second_scorer": second, **row}
        for indicator, group in both.groupby("indicator", sort=True)
        for row in _differences(group, comparing)
    ]
    for unit in UNITS:
        family = [row for row in rows if row["unit"] == unit]
        tested = [
            np.nan if row["p_value"] is None else float(str(row["p_value"])) for row in family
        ]
        for row, adjusted in zip(family, holm(tested), strict=True):
            row["p_holm"] = adjusted if np.isfinite(adjusted) else None
            row["n_unpaired"] = n_unpaired
    return rows


def find_series(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows of the series that a name fits.

    Raises:
        DataError: it fits none, or several.
    """
    labels = [
        (str(scorer), f"{scorer}@{layer}", f"{scorer}@{layer}/{view}")
        for scorer, layer, view in rows[["scorer", "layer", "view"]].to_numpy()
    ]
    fits = np.array([name in label for label in labels])
    found = sorted({label[-1] for label, fit in zip(labels, fits, strict=True) if fit})
    if not found:
        there = ", ".join(sorted({label[-1] for label in labels}))
        raise DataError(f"no scorer is called {name}; the file has {there}.")
    if len(found) > 1:
        raise DataError(f"{name} fits {', '.join(found)}; name one of them.")
    return rows.loc[fits]


def _paired(rows: pd.DataFrame, first: str, second: str) -> tuple[pd.DataFrame, int]:
    """The turns that both scored, with both scores, and how many rows have no partner."""
    one, other = find_series(rows, first), find_series(rows, second)
    if len(set(one["indicator"])) == len(set(other["indicator"])) == 1:
        # What a scorer was made of ("max_over_18"), rather than what it looks for.
        other = other.assign(indicator=one["indicator"].iloc[0])
    keys = ["indicator", "transcript", "turn"]
    both = one.merge(other, on=keys, suffixes=("", "_second"))
    if both.empty:
        raise DataError(
            f"no turn is scored by both {first} ({len(one)} turns) and {second} ({len(other)} turns); a paired "
            "difference needs the same transcripts."
        )
    n_torn = int(np.sum(both["is_positive"].to_numpy() != both["is_positive_second"].to_numpy()))
    if n_torn:
        raise LabelError(
            f"{n_torn} of {len(both)} turns have another label beside {second} than beside {first}; a paired "
            "difference needs the same labels."
        )
    return both, len(one) + len(other) - 2 * len(both)


def comparison_text(rows: list[Figures]) -> str:
    """The differences as a table to read."""
    cells = [
        {
            "indicator": str(row["indicator"]) or "-",
            "unit": row["unit"],
            "n+": row["n_pos"],
            "n-": row["n_neg"],
            **_difference_cells(row),
        }
        for row in rows
    ]
    heading = f"AUROC of {rows[0]['first_scorer']} minus that of {rows[0]['second_scorer']} [95 % interval]"
    tail = f"{rows[0]['n_unpaired']} rows are scored by one of the two only and left out"
    return "\n".join([heading, pd.DataFrame(cells).to_string(index=False, justify="left"), tail])


def _differences(both: pd.DataFrame, comparing: Comparing) -> list[Figures]:
    """A row for each kind of unit; without figures where either scorer can have none."""
    first = units_of(both)
    second = units_of(both.assign(score=both["score_second"]))
    found: list[Figures] = []
    for unit in UNITS:
        n_pos = int(first[unit].is_positive.sum())
        row: Figures = {
            "unit": unit,
            "n_pos": n_pos,
            "n_neg": len(first[unit].scores) - n_pos,
            "status": why_no_figure(first[unit]) or why_no_figure(second[unit]) or "ok",
        }
        figures = dict.fromkeys(
            ("first", "second", "value", "low", "high", "p_value", "p_delong", "n_clusters")
        )
        if row["status"] == "ok":
            figures = _json_values(
                asdict(difference_of(first[unit], second[unit], **asdict(comparing)))
            )
        found.append(row | figures)
    return found


def _json_values(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if np.isfinite(value) else None for name, value in values.items()}


def _difference_cells(row: Figures) -> dict[str, object]:
    if row["status"] != "ok":
        return {"difference": row["status"]}
    return {
        "first": f"{row['first']:.3f}",
        "second": f"{row['second']:.3f}",
        "difference": f"{row['value']:+.3f} [{row['low']:+.3f} {row['high']:+.3f}]",
        "p": f"{row['p_value']:.4f}",
        "p (Holm)": f"{row['p_holm']:.4f}",
        "p (DeLong)": "-" if row["p_delong"] is None else f"{row['p_delong']:.4f}",
    }
