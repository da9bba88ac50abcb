"""Detectable is not driver: probes at the mark behind a thought, which reads the thought and decides nothing.

python analyses/separator.py [ORGANISM]

At the clause separator of a later block a logistic probe tells a held thought from one that is only mentioned, on spans
that it was not fitted on. The causal protocol is then asked for a verdict at that very place.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from mechprobe.causal.config import CausalConfig
from mechprobe.causal.directions import (
    Direction,
    SpanActs,
    direction_along,
    probe_pattern,
    span_acts,
)
from mechprobe.causal.places.sites import Site
from mechprobe.causal.protocol import run_causal
from mechprobe.evaluation.metrics import auroc
from mechprobe.models.organism.datasets import DatasetConfig, draw_pairs, draw_transcripts
from mechprobe.models.organism.truth import read_truth
from mechprobe.models.subject import Subject
from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.rows import LEFT_OUT, LabelledRows
from mechprobe.probes.solving.logistic import fit_logistic
from mechprobe.study.shipped import find_organism

DATA = DatasetConfig(n_fit=1200, n_select=300, n_test=600, seed=11)
CONFIG = CausalConfig(n_random=19, n_replicates=0, with_other_indicators=False, seed=11)


@dataclass(frozen=True, kw_only=True, slots=True)
class SeparatorResult:
    """What a probe at the separator reads, and what its directions do there."""

    auroc: dict[str, float]
    """Indicator -> AUROC on test spans, held against only mentioned; chance is .5."""
    verdicts: pd.DataFrame


def check_separator(
    organism: str,
    layer: int,
    *,
    asked: Sequence[str] = (),
    data: DatasetConfig = DATA,
    config: CausalConfig = CONFIG,
) -> SeparatorResult:
    """Fit probes at the separator after a block, score them, and ask for their verdicts there.

    Args:
        asked: indicators whose verdict is asked for; empty: all.
    """
    folder = find_organism(organism)
    subject, roles = Subject.load(folder), read_truth(folder).roles
    transcripts = list(draw_transcripts(roles, data))
    pairs = [pair for pair in draw_pairs(roles, data) if not asked or pair.indicator in asked]
    site = Site(hook_name=f"blocks.{layer}.hook_out", position="after_span")
    fit, test = (
        span_acts(subject, [one for one in transcripts if one.split == split], site)
        for split in ("fit", "test")
    )
    probes = fit_probes(fit)

    def directions(spans: SpanActs) -> Sequence[Direction]:
        weights = {name: torch.from_numpy(probe.weight) for name, probe in probes.items()}
        return [
            *(
                probe_pattern(spans, indicator=i, name="pattern", weight=weights[i])
                for i in weights
            ),
            *(
                direction_along(spans, indicator=i, name="weight", vector=weights[i])
                for i in weights
            ),
        ]

    result = run_causal(
        subject, pairs, transcripts, config, sites=site, further_directions=directions
    )
    return SeparatorResult(
        auroc={name: _auroc(probe, test, name) for name, probe in probes.items()},
        verdicts=result.verdicts,
    )


def fit_probes(spans: SpanActs) -> dict[str, LinearProbe]:
    """A logistic probe for each indicator."""
    names = sorted(set(spans.indicator))
    is_own = np.array(spans.indicator)[:, None] == np.array(names)
    present = spans.is_present.numpy().astype(np.int8)[:, None]
    labels = np.where(is_own, present, LEFT_OUT).astype(np.int8)
    rows = LabelledRows(X=spans.acts.numpy(), labels=labels, indicators=tuple(names))
    return dict(zip(names, fit_logistic(rows, [1.0])[0], strict=True))


def _auroc(probe: LinearProbe, spans: SpanActs, indicator: str) -> float:
    acts, is_present = spans.of(indicator)
    return auroc(probe.score(acts.numpy()), is_present.numpy())


def main(organism: str = "organism-natural") -> None:
    """Print, for every later block, what is read and what is claimed."""
    for layer in (1, 2):
        found = check_separator(organism, layer)
        values = np.array(list(found.auroc.values()))
        print(f"blocks.{layer}, separator: AUROC {values.mean():.3f} (least {values.min():.3f})")
        for (direction, verdict), group in found.verdicts.groupby(["direction", "verdict"]):
            print(
                f"  {direction}: {len(group)} of {len(values)} {verdict}; {group['reason'].iloc[0]}"
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
