"""Directions from other fits of the same thing: does a verdict stand when the probe, or the SAE, is another one?"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from mechprobe.causal.directions import REPLICATE, Direction, SpanActs, probe_pattern
from mechprobe.causal.swaps import feature_direction
from mechprobe.errors import ShapeError
from mechprobe.probes.rows import LabelledRows
from mechprobe.probes.solving.logistic import fit_logistic
from mechprobe.saes.checkpoints import load_sae
from mechprobe.saes.encoding import encode_rows
from mechprobe.saes.training.runs import train_sae
from mechprobe.study.feature_tables import rank_features
from mechprobe.study.run import Run

RETRAINED = "saes"
"""Where the causal stage keeps SAEs of other seeds."""


def refit_patterns(
    spans: SpanActs, strengths: Mapping[str, float], name: str, n: int, *, seed: int
) -> list[Direction]:
    """Patterns of logistic probes that are fitted on random halves of the spans, n for each indicator.

    Args:
        strengths: indicator -> the L2 strength that its probe was fitted with.
        name: of the direction that they are replicates of.
    """
    rng = np.random.default_rng(seed)
    names = np.array(spans.indicator)
    acts, is_present = spans.acts.numpy(), spans.is_present.numpy()
    found: list[Direction] = []
    for indicator, strength in strengths.items():
        classes = [
            np.flatnonzero((names == indicator) & (is_present == held)) for held in (True, False)
        ]
        for replicate in range(1, n + 1):
            halves = [rng.permutation(own)[: (len(own) + 1) // 2] for own in classes]
            half = np.concatenate(halves)
            rows = LabelledRows(
                X=acts[half],
                labels=is_present[half, None].astype(np.int8),
                indicators=(indicator,),
            )
            weight = fit_logistic(rows, [strength], seed=seed)[0][0].weight
            found.append(
                probe_pattern(
                    spans,
                    indicator=indicator,
                    name=f"{name}{REPLICATE}{replicate}",
                    weight=torch.from_numpy(weight),
                )
            )
    return found


def retrained_features(run: Run, name: str, spans: SpanActs, n: int) -> list[Direction]:
    """The best feature of every indicator in each of n SAEs of other seeds, trained as the study's own."""
    found: list[Direction] = []
    for replicate in range(1, n + 1):
        sae, best = _retrained(run, replicate)
        found += feature_directions(spans, sae, f"{name}{REPLICATE}{replicate}", best)
    return found


def _retrained(run: Run, replicate: int) -> tuple[Any, dict[str, list[int]]]:
    hook_name, config = run.feature_hook, run.config.sae
    folder = run.folder / "causal" / RETRAINED / str(replicate)
    train_sae(run.store, hook_name, replace(config, seed=config.seed + replicate), folder)
    sae = load_sae(folder)
    table = rank_features(run, lambda rows: encode_rows(sae, run.store.acts(hook_name, rows)))
    return sae, best_features(table)


def best_features(table: pd.DataFrame) -> dict[str, list[int]]:
    """Indicator -> its feature of rank 1, in a list."""
    rows: Any = table[table["rank"] == 1]
    return {row.indicator: [int(row.feature)] for row in rows.itertuples()}


def feature_directions(
    spans: SpanActs, sae: Any, name: str, features: Mapping[str, Sequence[int]]
) -> list[Direction]:
    """Features as directions, where they fire on the indicator at all."""
    found: list[Direction] = []
    for indicator, chosen in features.items():
        with suppress(ShapeError):
            found.append(
                feature_direction(spans, sae, indicator=indicator, name=name, features=chosen)
            )
    return found
