"""The stages that intervene: where a thought acts, and the verdict on its direction."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
import torch

from mechprobe.causal.cases import render_pairs
from mechprobe.causal.directions import Direction, SpanActs, probe_pattern
from mechprobe.causal.pair_choice import take_pairs
from mechprobe.causal.places.heads import head_map
from mechprobe.causal.places.parts import part_map
from mechprobe.causal.places.site_map import best_site, best_sites, site_sweep
from mechprobe.causal.protocol import run_causal
from mechprobe.causal.tables.results import KnownTruth
from mechprobe.errors import DataError
from mechprobe.probes.bank import ProbeBank
from mechprobe.records import atomic_write_text
from mechprobe.study.chosen_sites import SITE_FILE, ChosenSites, write_sites
from mechprobe.study.replicates import (
    RETRAINED,
    best_features,
    feature_directions,
    refit_patterns,
    retrained_features,
)
from mechprobe.study.run import Run
from mechprobe.study.stages import Stage

TABLES = ("effects", "dose", "remains", "verdicts")
MAP_BOOT = 300
"""Resamples of an interval in the exploratory maps."""
KEPT = "kept"
"""What the causal stage has measured so far, until it is done."""
PROBE_SCORER = "dense_logistic"
PROBE_DIRECTION = "dense_logistic_pattern"
"""A probe's weight is a filter; what it detects lies along its pattern (Haufe et al. 2014)."""
SPARSE_SCORER = "sae_k_sparse"
FEATURE_DIRECTION = "sae_best_feature"
FEATURES_DIRECTION = "sae_k_sparse_features"


def sites_stage(run: Run, transcripts_digest: str) -> Stage:
    """The stage that writes `sites.parquet` and `sites/site.json`."""
    return Stage(
        name="sites",
        folder=run.folder / "sites",
        config={**run.settings("loading"), "causal": _sweep_settings(run)},
        inputs={"transcripts": transcripts_digest, "model": run.model_digest},
        run=lambda: _sweep(run),
        outputs=(
            *(run.folder / f"{name}.parquet" for name in ("sites", "parts", "heads")),
            run.folder / "sites" / SITE_FILE,
        ),
        seed=run.config.causal.seed,
    )


def causal_stage(run: Run, sites_digest: str, probe_digest: str) -> Stage:
    """The stage that writes the verdicts, the effects that they rest on, dose curves and the self-test."""
    names = (*(f"{name}.parquet" for name in TABLES), "selftest.json")
    return Stage(
        name="causal",
        folder=run.folder / "causal",
        config=run.settings("causal", "loading"),
        inputs={"site": sites_digest, "probes": probe_digest},
        run=lambda: _judge(run),
        outputs=tuple(run.folder / name for name in names),
        partial=(run.folder / "causal" / KEPT, run.folder / "causal" / RETRAINED),
        seed=run.config.causal.seed,
    )


def _sweep_settings(run: Run) -> Mapping[str, Any]:
    """Only what the sweep reads, so that other causal settings do not send it round again."""
    names = (
        "hook_names",
        "positions",
        "n_select_pairs",
        "n_map_pairs",
        "behavior_outcome",
        "audit_outcome",
        "seed",
    )
    whole = asdict(run.config.causal)
    return {name: whole[name] for name in names}


def _sweep(run: Run) -> Mapping[str, Any]:
    config = run.config.causal
    select = take_pairs(run.pairs, "select", config.n_select_pairs)
    if not select:
        raise DataError("no matched pair has split 'select'; the site is chosen on that split.")
    table = site_sweep(
        run.subject,
        render_pairs(run.subject, select),
        config.hook_names or run.hook_names,
        positions=config.positions,
        outcomes=[name for name in (config.behavior_outcome, config.audit_outcome) if name],
        batch_tokens=config.batch_tokens,
        seed=config.seed,
    )
    outcomes = [name for name in (config.behavior_outcome, config.audit_outcome) if name]
    chosen = ChosenSites(
        common=best_site(table, config.behavior_outcome), of=best_sites(table, outcomes)
    )
    table.to_parquet(run.folder / "sites.parquet")
    _write_maps(run)
    write_sites(run.folder, chosen)
    elsewhere = [f"{name} at {site}" for name, site in chosen.of.items() if site != chosen.common]
    run.say("; ".join([f"the thoughts act at {chosen.common}", *elsewhere]))
    return asdict(chosen)


def _write_maps(run: Run) -> None:
    """Exploratory maps of parts and heads: they choose nothing."""
    config = run.config.causal
    pairs = render_pairs(run.subject, take_pairs(run.pairs, "select", config.n_map_pairs))
    for name, make in (("parts", part_map), ("heads", head_map)):
        table = make(
            run.subject,
            pairs,
            outcomes=(config.behavior_outcome,),
            batch_tokens=config.batch_tokens,
            n_boot=MAP_BOOT,
            seed=config.seed,
        )
        table.to_parquet(run.folder / f"{name}.parquet")


def _judge(run: Run) -> Mapping[str, Any]:
    truth = KnownTruth(roles=run.truth.role_names(), verdicts=run.truth.verdicts())
    result = run_causal(
        run.subject,
        run.pairs,
        run.transcripts,
        run.config.causal,
        further_directions=lambda spans: _further_directions(run, spans),
        sites=run.sites.of,
        truth=truth,
        keep=run.folder / "causal" / KEPT,
    )
    tables: dict[str, pd.DataFrame] = {
        "effects": result.effects,
        "dose": result.dose,
        "remains": result.remains,
        "verdicts": result.verdicts,
    }
    for name, table in tables.items():
        table.to_parquet(run.folder / f"{name}.parquet")
    atomic_write_text(run.folder / "selftest.json", json.dumps(result.selftest, indent=2) + "\n")
    shutil.rmtree(run.folder / "causal" / KEPT)
    return {"selftest": result.selftest}


def _further_directions(run: Run, spans: SpanActs) -> Sequence[Direction]:
    """The dense probe's pattern and, where the SAE stands, its best feature and those of the k-sparse probe."""
    bank = ProbeBank.load(run.folder / "probes")
    hook_name = spans.site.hook_name
    probes = bank.find(PROBE_SCORER, hook_name)
    found = [
        probe_pattern(
            spans,
            indicator=name,
            name=PROBE_DIRECTION,
            weight=torch.from_numpy(probes.probe(name).weight),
        )
        for name in probes.indicators
    ]
    n = run.config.causal.n_replicates
    strengths = {name: probes.probe(name).strength for name in probes.indicators}
    found += refit_patterns(spans, strengths, PROBE_DIRECTION, n, seed=run.config.causal.seed)
    # A feature is read off one token's activation, so it has no place where spans are averaged.
    if hook_name != run.feature_hook or spans.site.position == "span_all":
        return found
    best = best_features(pd.read_parquet(run.folder / "features.parquet"))
    found += feature_directions(spans, run.sae, FEATURE_DIRECTION, best)
    if not run.config.sae_checkpoint:
        found += retrained_features(run, FEATURE_DIRECTION, spans, n)
    sparse = bank.find(SPARSE_SCORER, hook_name)
    read = {name: np.flatnonzero(sparse.probe(name).weight).tolist() for name in sparse.indicators}
    return found + feature_directions(spans, run.sae, FEATURES_DIRECTION, read)
