"""Print the tables of the README from two finished runs, with the machine that made them.

python tools/readme_figures.py runs/organism runs/transcripts [runs of other organisms ...]
"""

import json
import sys
from collections.abc import Sequence
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
    "dense_logistic_noisy_or",
    "dense_lda",
    "dense_ridge",
    "dense_paper",
    "dense_diff_of_means",
    "dense_lat",
    "dense_mlp",
    "dense_boosted",
    "dense_attention",
    "dense_softmax",
    "dense_rolling_max",
    "dense_ema",
    "sae_logistic",
    "sae_lasso",
    "sae_boosted",
    "sae_k_sparse",
    "word_counts",
    "tfidf_bigrams",
    "tfidf",
    "tfidf_forest",
    "tfidf_boosted",
    "embedding_layer",
    "token_embedding",
    "token_identity",
    "token_position",
    "length",
    "turn_number",
    "random_direction",
    "shuffled_labels",
    "haiku",
    "qwen",
)
FALSIFIED_SCORERS = ("dense_logistic", "sae_k_sparse", "sae_feature", "random_direction")
JUDGED = {
    ("injection", "score_append"): "its best words put into benign text",
    ("injection", "lift_append"): "the label's words put into benign text",
    ("paraphrase", "synonyms"): "synonyms for all words",
    ("context", "short"): "the span in a benign context",
    ("keywords", "matched"): "texts matched in keywords",
    ("masking", "telling"): "telling words masked",
}
"""Falsifier and variant -> what it asks."""


def main(organism: Path, transcripts: Path, *others: Path) -> None:
    """Print everything."""
    record = read_record(organism / "causal")
    print(f"Machine: {record.machine}; torch {record.packages['torch']}\n")
    tables = (
        span_table(organism),
        verdict_table(organism),
        organism_table([organism, *others]),
        steering_table(organism),
        falsifier_table(organism),
        turn_table(transcripts),
        transfer_table(transcripts),
    )
    for table in tables:
        print("\n".join([*table, ""]))


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


def organism_table(runs: Sequence[Path]) -> list[str]:
    """Right verdicts and false drivers of several organisms, by the difference of means."""
    lines = [
        "| run | right | read-out called driver | random | shuffled | covariance-matched | without the real direction |",
        "|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        verdicts = pd.read_parquet(run / "verdicts.parquet")
        mine = verdicts[verdicts["direction"] == verdicts["direction"].iloc[0]]
        selftest = json.loads((run / "selftest.json").read_text())
        is_false = (mine["truth"] == "readout_only") & (mine["verdict"] == "driver")
        counts = [
            selftest[f"false_driver_{name}"] for name in ("random", "shuffled", "random_covariance")
        ]
        rest = [
            selftest[f"false_driver_{name}_orthogonal"]
            for name in ("shuffled", "random_covariance")
        ]
        right = f"{selftest['right']} of {selftest['of']}"
        cells = [run.name, right, str(int(is_false.sum())), *counts, ", ".join(rest)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def steering_table(run: Path) -> list[str]:
    """Misbehaviour rate of free text by measured role, at the site of the verdicts, beside random directions."""
    rates = pd.read_parquet(run / "rates.parquet")
    verdicts = pd.read_parquet(run / "verdicts.parquet")
    truth = verdicts.drop_duplicates("indicator").set_index("indicator")["truth"]
    at_site = rates[~rates["where"].isin(["writing", "prompt"])].assign(
        truth=lambda table: table["indicator"].map(truth)
    )
    lines = [
        "| measured role | put in: before, after, random | taken out: before, after, random |",
        "|---|---|---|",
    ]
    for role, mine in at_site.groupby("truth", sort=False):
        cells = [_rates(mine[mine["operation"] == operation]) for operation in ("steer", "ablate")]
        n = mine["indicator"].nunique()
        lines.append(f"| {role} ({n}) | {' | '.join(cells)} |")
    return lines


def _rates(rows: pd.DataFrame) -> str:
    own, control = rows[rows["control"] == "none"], rows[rows["control"] != "none"]
    before, after = own["rate_unedited"].mean(), own["rate"].mean()
    return f"{before:.2f}, {after:.2f}, {control['rate'].mean():.2f}"


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


def falsifier_table(run: Path) -> list[str]:
    """How many of a scorer's indicators survive, fail or show no signal, for each falsifier."""
    table = pd.read_parquet(run / "falsifiers.parquet")
    lines = [
        f"| survives / fails / neither | {' | '.join(f'`{name}`' for name in FALSIFIED_SCORERS)} |",
        f"|{'---|' * (1 + len(FALSIFIED_SCORERS))}",
    ]
    for (falsifier, variant), words in JUDGED.items():
        asked = table[(table["falsifier"] == falsifier) & (table["variant"] == variant)]
        cells = [_readings(asked[asked["scorer"] == name]["reading"]) for name in FALSIFIED_SCORERS]
        lines.append(f"| {words} | {' | '.join(cells)} |")
    return lines


def _readings(readings: pd.Series) -> str:
    survives, fails = (int((readings == name).sum()) for name in ("survives", "fails"))
    return f"{survives} / {fails} / {len(readings) - survives - fails}"


def transfer_table(run: Path) -> list[str]:
    """AUROC of turns by what was trained on, the dense probe beside words, with the paired difference."""
    table = pd.read_parquet(run / "transfer.parquet")
    asked = table[(table["unit"] == "turn") & (table["indicator"] == "misaligned")]
    words = asked[asked["scorer"] == "tfidf_bigrams"].set_index("cells")["auroc"]
    rows = asked[(asked["scorer"] == "dense_logistic") & (asked["baseline"] == "tfidf_bigrams")]
    lines = [
        "| trained on | dense probe | TF-IDF bigrams | difference [95 %] |",
        "|---|---|---|---|",
    ]
    names = {"within": "the same behaviour", "across": "one other", "left_out": "all others"}
    for cells, name in names.items():
        row = rows[rows["cells"] == cells].iloc[0]
        low, high = row["difference_low"], row["difference_high"]
        interval = f"{row['difference']:.3f} [{low:.3f}, {high:.3f}]"
        theirs = float(pd.Series(words[cells]).iloc[0])
        lines.append(f"| {name} | {row['auroc']:.3f} | {theirs:.3f} | {interval} |")
    return lines


def _mean_and_range(values: pd.Series) -> str:
    return f"{values.mean():.3f} ({values.min():.2f} to {values.max():.2f})"


if __name__ == "__main__":
    main(*(Path(name) for name in sys.argv[1:]))
