"""Print the tables of the README from two finished runs, with the machine that made them.

python tools/readme_figures.py runs/organism runs/transcripts
"""

import json
import sys
from pathlib import Path

import pandas as pd

from mechprobe.records import read_record

SPAN_SCORERS = (
    "dense_logistic",
    "dense_diff_of_means",
    "sae_k_sparse",
    "tfidf",
    "tfidf_bigrams",
    "length",
    "random_direction",
    "shuffled_labels",
)
TURN_SCORERS = (
    "dense_logistic",
    "sae_logistic",
    "sae_k_sparse",
    "dense_diff_of_means",
    "tfidf_bigrams",
    "tfidf",
    "length",
    "random_direction",
    "shuffled_labels",
    "haiku",
    "qwen",
)


def main(organism: Path, transcripts: Path) -> None:
    """Print everything."""
    record = read_record(organism / "causal")
    print(f"Machine: {record.machine}; torch {record.packages['torch']}\n")
    for line in (*span_table(organism), "", *verdict_table(organism), "", *turn_table(transcripts)):
        print(line)


def span_table(run: Path) -> list[str]:
    """Mean and range of the AUROC over the indicators, at the site of the verdicts."""
    detection = pd.read_parquet(run / "detection.parquet")
    site = json.loads((run / "sites" / "site.json").read_text())["hook_name"]
    here = detection[detection["hook_name"].isin([site, ""])]
    lines = ["| scorer | twins with the same words | hard negatives |", "|---|---|---|"]
    for scorer in SPAN_SCORERS:
        cells = [
            _mean_and_range(here[(here["scorer"] == scorer) & (here["unit"] == unit)]["auroc"])
            for unit in ("matched_pair", "hard_negative")
        ]
        lines.append(f"| `{scorer}` | {' | '.join(cells)} |")
    return lines


def verdict_table(run: Path) -> list[str]:
    """How many verdicts are right for each kind of direction, and the false drivers among the controls."""
    verdicts = pd.read_parquet(run / "verdicts.parquet")
    selftest = json.loads((run / "selftest.json").read_text())
    lines = ["| direction | right | verdicts |", "|---|---|---|"]
    for direction in dict.fromkeys(verdicts["direction"]):
        mine = verdicts[verdicts["direction"] == direction]
        right = int((mine["verdict"] == mine["truth"]).sum())
        counts = ", ".join(f"{n} {name}" for name, n in mine["verdict"].value_counts().items())
        lines.append(f"| `{direction}` | {right} of {len(mine)} | {counts} |")
    controls = [key for key in selftest if key.startswith("false_driver_")]
    named = (f"{selftest[key]} {key.removeprefix('false_driver_')}" for key in controls)
    return [*lines, "", f"Called driver among directions that mean nothing: {', '.join(named)}."]


def turn_table(run: Path) -> list[str]:
    """AUROC of `misaligned` by unit, with the intervals of the turns."""
    detection = pd.read_parquet(run / "detection.parquet")
    asked = detection[detection["indicator"] == "misaligned"].set_index(["scorer", "unit"])
    chance = asked.xs("dense_logistic")["chance"]
    lines = [
        "| scorer | turn [95 %] | transcript | mixed (the paper's) |",
        "|---|---|---|---|",
        f"| chance | {chance['turn']:.2f} | {chance['transcript']:.2f} | {chance['mixed']:.2f} |",
    ]
    for scorer in TURN_SCORERS:
        if (scorer, "turn") in asked.index:
            rows = asked.xs(scorer)
            turn = rows.loc["turn"]
            interval = f"{turn['auroc']:.3f} [{turn['auroc_low']:.3f}, {turn['auroc_high']:.3f}]"
            rest = (f"{rows.loc[unit, 'auroc']:.3f}" for unit in ("transcript", "mixed"))
            lines.append(f"| `{scorer}` | {interval} | {' | '.join(rest)} |")
    return lines


def _mean_and_range(values: pd.Series) -> str:
    return f"{values.mean():.3f} ({values.min():.2f} to {values.max():.2f})"


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
