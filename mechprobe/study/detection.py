"""The stages that detect: probes and baselines on spans or turns, and the tables that a report shows."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp

from mechprobe.activations.rows import span_table
from mechprobe.activations.store import ActivationStore
from mechprobe.evaluation.folds import TokenSource
from mechprobe.evaluation.results import Detection
from mechprobe.evaluation.span_building import pair_examples, pair_transcripts, span_examples
from mechprobe.evaluation.span_detection import detect_spans
from mechprobe.evaluation.turn_detection import detect_turns
from mechprobe.study.feature_tables import write_feature_tables
from mechprobe.study.heat_maps import write_heat_maps
from mechprobe.study.reading import open_features
from mechprobe.study.run import Run
from mechprobe.study.stages import Stage

TABLES = ("detection.parquet", "roc.parquet", "scores.parquet", "differences.parquet")
PAGES = ("examples.json", "features.parquet", "feature_examples.json")


def probe_stage(run: Run, sae_digest: str) -> Stage:
    """The stage that fits the probes and scores every unit: `probes/` and the detection tables."""
    setting = "spans" if run.config.kind == "organism" else "turns"
    return Stage(
        name="probe",
        folder=run.folder / "probes",
        config=run.settings(setting),
        inputs={"features": sae_digest},
        run=lambda: _detect(run),
        outputs=tuple(run.folder / name for name in TABLES),
        seed=run.config.seed,
    )


def evaluate_stage(run: Run, probe_digest: str) -> Stage:
    """The stage that looks closer: heat-maps of real examples, and what each indicator's features fire on."""
    return Stage(
        name="evaluate",
        folder=run.folder / "evaluate",
        config=run.settings("n_features", "n_examples"),
        inputs={"probes": probe_digest},
        run=lambda: _look_closer(run),
        outputs=tuple(run.folder / name for name in PAGES),
    )


def _detect(run: Run) -> Mapping[str, Any]:
    found = _detect_spans(run) if run.config.kind == "organism" else _detect_turns(run)
    found.bank.save(run.folder / "probes")
    tables = (found.table, found.roc, found.scores, found.comparisons)
    for name, table in zip(TABLES, tables, strict=True):
        table.to_parquet(run.folder / name)
    return {"n_rows": len(found.table)}


def _detect_spans(run: Run) -> Detection:
    """Spans of the transcripts and both sides of the pairs, at every hook point, the SAE's first."""
    indicators = run.taxonomy.slugs
    hook_names = sorted(run.hook_names, key=lambda name: name != run.feature_hook)
    stores = {"transcripts": run.store, "pairs": run.pair_store}
    acts = {
        which: {name: read_acts(store, name) for name in hook_names}
        for which, store in stores.items()
    }
    features = {
        which: {run.feature_hook: read_features(run, which)} for which in ("transcripts", "pairs")
    }
    examples = span_examples(
        run.store.tokens,
        span_table(run.store.tokens, run.transcripts),
        run.transcripts,
        indicators,
        acts["transcripts"],
        features["transcripts"],
    )
    pairs = pair_examples(
        run.pair_store.tokens,
        span_table(run.pair_store.tokens, pair_transcripts(run.pairs)),
        run.pairs,
        indicators,
        acts["pairs"],
        features["pairs"],
    )
    return detect_spans(examples, pairs, run.config.spans)


def _detect_turns(run: Run) -> Detection:
    hook_name = run.feature_hook
    source = TokenSource(
        hook_name=hook_name,
        acts=read_acts(run.store, hook_name),
        features=read_features(run, "transcripts"),
    )
    return detect_turns(
        run.store.tokens,
        span_table(run.store.tokens, run.transcripts),
        run.transcripts,
        run.taxonomy.slugs,
        source,
        run.config.turns,
    )


def _look_closer(run: Run) -> Mapping[str, Any]:
    n_examples = write_heat_maps(run)
    n_features = write_feature_tables(run)
    return {"n_examples": n_examples, "n_features": n_features}


def read_acts(store: ActivationStore, hook_name: str) -> Callable[[np.ndarray], np.ndarray]:
    """How to read some rows of a store at a hook point."""
    return lambda rows: store.acts(hook_name, rows).numpy()


def read_features(run: Run, which: str) -> Callable[[np.ndarray], sp.csr_matrix]:
    """How to read the SAE's features of some rows."""
    features = open_features(run, which)
    return lambda rows: features.csr(rows)
