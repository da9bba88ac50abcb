"""The stage that asks what an untrained model and an untrained SAE would show in the same place."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from mechprobe.causal.cases import Case, natural_cases, render_pairs
from mechprobe.causal.checks.untrained import feature_table, model_figures, model_table
from mechprobe.causal.directions import span_acts
from mechprobe.causal.effects import measure
from mechprobe.causal.pair_choice import take_pairs
from mechprobe.causal.places.sites import site_acts
from mechprobe.causal.verdicts.strata import Baseline, baseline, natural_gap
from mechprobe.models.subject import Subject
from mechprobe.models.untrained import load_untrained
from mechprobe.saes.random_decoder import random_decoder_sae
from mechprobe.study.run import Run
from mechprobe.study.stages import Stage

TABLES = ("untrained_models", "untrained_saes")
N_PAIRS = 16
"""Pairs of each indicator."""
N_BOOT = 300


def untrained_stage(run: Run, sites_digest: str, sae_digest: str) -> Stage:
    """The stage that writes `untrained_models.parquet` and `untrained_saes.parquet`, at the common site."""
    return Stage(
        name="untrained",
        folder=run.folder / "untrained",
        config={**run.settings("loading"), "causal": asdict(run.config.causal)},
        inputs={"site": sites_digest, "sae": sae_digest},
        run=lambda: _compare(run),
        outputs=tuple(run.folder / f"{name}.parquet" for name in TABLES),
        seed=run.config.causal.seed,
    )


def _compare(run: Run) -> Mapping[str, Any]:
    outcome, seed = run.config.causal.behavior_outcome, run.config.causal.seed
    cases = natural_cases(render_pairs(run.subject, take_pairs(run.pairs, "test", N_PAIRS)))
    whole = _unedited(run.subject, cases, outcome)
    untrained = load_untrained(run.model_source, seed=seed, **asdict(run.config.loading))
    models = {"trained": run.subject, f"untrained {seed}": untrained}
    figures = {name: _models(run, model, cases, whole.scale) for name, model in models.items()}
    tables = dict(zip(TABLES, (model_table(figures), _saes(run, cases, whole)), strict=True))
    for name, table in tables.items():
        table.to_parquet(run.folder / f"{name}.parquet")
    return {name: len(table) for name, table in tables.items()}


def _models(run: Run, subject: Subject, cases: Sequence[Case], scale: float) -> list[Any]:
    fit = [transcript for transcript in run.transcripts if transcript.split == "fit"]
    spans = span_acts(subject, fit, run.sites.common, max_spans=run.config.causal.n_fit_spans)
    return [
        model_figures(
            subject,
            spans,
            name,
            [case for case in cases if case.pair.indicator == name],
            run.config.causal.behavior_outcome,
            scale=scale,
            n_boot=N_BOOT,
            seed=run.config.causal.seed,
        )
        for name in tqdm(run.sites.of, desc="trained and untrained", disable=None)
    ]


def _saes(run: Run, cases: Sequence[Case], whole: Baseline) -> pd.DataFrame:
    seed, site = run.config.causal.seed, run.sites.common
    saes = {"trained": run.sae, f"random {seed}": random_decoder_sae(run.sae, seed)}
    fit = [transcript for transcript in run.transcripts if transcript.split == "fit"]
    spans = span_acts(run.subject, fit, site, max_spans=run.config.causal.n_fit_spans)
    names = np.array([case.pair.indicator for case in cases])
    tables: list[pd.DataFrame] = []
    for name in tqdm(run.sites.of, desc="trained and random decoders", disable=None):
        mine = [case for case in cases if case.pair.indicator == name]
        outcome = run.config.causal.behavior_outcome
        acts = site_acts(run.subject, mine, site, outcome)
        unedited = whole.pick(names == name)
        tables.append(
            feature_table(
                run.subject,
                saes,
                spans,
                name,
                mine,
                acts,
                unedited,
                outcome,
                n_boot=N_BOOT,
                seed=seed,
            )
        )
    return pd.concat(tables, ignore_index=True)


def _unedited(subject: Subject, cases: Sequence[Case], outcome: str) -> Baseline:
    flipped = [case.flipped for case in cases]
    base, other = (measure(subject, some, outcome).logit_diff[0] for some in (cases, flipped))
    return baseline(cases, base, other, natural_gap(base))
