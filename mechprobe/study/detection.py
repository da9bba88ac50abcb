"""The stages that detect: probes and baselines on spans or turns, and the tables that a report shows."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from mechprobe.activations.rows import span_table
from mechprobe.activations.store import ActivationStore
from mechprobe.baselines.embedders import sentence_embedder, token_embedder, token_vectors
from mechprobe.baselines.embeddings import EMBEDDING_LAYER, SENTENCE_EMBEDDING, Embed
from mechprobe.evaluation.folds import TokenSource
from mechprobe.evaluation.gains import gain_table
from mechprobe.evaluation.results import Detection
from mechprobe.evaluation.spans.span_building import pair_examples, pair_transcripts, span_examples
from mechprobe.evaluation.spans.span_detection import detect_spans
from mechprobe.evaluation.turns.decomposition import unions_of
from mechprobe.evaluation.turns.scorer_names import sort_names
from mechprobe.evaluation.turns.turn_detection import study_turns
from mechprobe.evaluation.turns.turn_tables import TurnStudy
from mechprobe.probes.comparison.bank_comparison import geometries_of, groups_of, write_geometry
from mechprobe.probes.exchange.artefact import Artefact
from mechprobe.probes.labels.examples import MISALIGNED
from mechprobe.study.feature_tables import write_feature_tables
from mechprobe.study.heat_maps import write_heat_maps
from mechprobe.study.neutral import neutral_digest, neutral_folder, read_neutral_set
from mechprobe.study.reading import open_features
from mechprobe.study.run import Run
from mechprobe.study.stages import Stage

TABLES = ("detection.parquet", "roc.parquet", "scores.parquet", "differences.parquet")
TURN_TABLES = (
    "views.parquet",
    "thresholds.parquet",
    "calibration.parquet",
    "reliability.parquet",
    "decomposition.parquet",
    "gains.parquet",
)
"""What a study of transcripts says beyond the ranking."""
GEOMETRY = "geometry.json"
PAGES = ("examples.json", "features.parquet", "feature_examples.json")


def probe_stage(run: Run, sae_digest: str) -> Stage:
    """The stage that fits the probes and scores every unit: `probes/` and the detection tables."""
    is_organism = run.config.kind == "organism"
    setting, names = ("spans", TABLES) if is_organism else ("turns", (*TABLES, *TURN_TABLES))
    return Stage(
        name="probe",
        folder=run.folder / "probes",
        config=run.settings(setting),
        inputs={
            "features": sae_digest,
            "model": run.model_digest,
            **(
                {}
                if is_organism or not run.config.turns.neutral
                else {"neutral": neutral_digest(run)}
            ),
        },
        run=lambda: _detect(run),
        outputs=tuple(run.folder / name for name in (*names, GEOMETRY)),
        partial=(neutral_folder(run),),
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
    if run.config.kind == "organism":
        found = _detect_spans(run)
    else:
        study = _study_turns(run)
        found = study.detection
        _write_turn_tables(run, study)
    bank = replace(found.bank, model=run.model_digest)
    bank.save(run.folder / "probes")
    tables = (found.table, found.roc, found.scores, found.comparisons)
    for name, table in zip(TABLES, tables, strict=True):
        table.to_parquet(run.folder / name)
    compared = geometries_of(Artefact(bank=bank, origin="this study"))
    write_geometry(compared, groups_of(run.taxonomy), run.folder / GEOMETRY)
    return {"n_rows": len(found.table)}


def _write_turn_tables(run: Run, study: TurnStudy) -> None:
    config = run.config.turns
    gains = gain_table(
        study.detection.scores,
        # Everything that reads no activation of a block.
        (*config.text_scorers, *config.embeddings, *sort_names(config.estimators).tokens),
        (MISALIGNED,),
        n_boot=config.n_boot,
        seed=config.seed,
    )
    tables = (
        study.views,
        study.thresholds,
        study.calibration,
        study.reliability,
        study.decomposition,
        gains,
    )
    for name, table in zip(TURN_TABLES, tables, strict=True):
        table.to_parquet(run.folder / name)


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


def _study_turns(run: Run) -> TurnStudy:
    indicators = run.taxonomy.slugs
    return study_turns(
        run.store.tokens,
        span_table(run.store.tokens, run.transcripts),
        run.transcripts,
        indicators,
        turn_source(run),
        run.config.turns,
        unions=unions_of(run.taxonomy, indicators),
        embedders=_embedders(run),
        token_vectors=lambda token_ids: token_vectors(run.subject, token_ids),
        neutral=read_neutral_set(run),
    )


def _embedders(run: Run) -> dict[str, Embed]:
    """How the model itself embeds whole texts, for the baselines that the study asks for."""
    wanted = run.config.turns.embeddings
    makers = {SENTENCE_EMBEDDING: sentence_embedder, EMBEDDING_LAYER: token_embedder}
    return {name: makers[name](run.subject) for name in wanted}


def turn_source(run: Run) -> TokenSource:
    """How to read the transcripts' store at the hook point of the SAE."""
    return TokenSource(
        hook_name=run.feature_hook,
        acts=read_acts(run.store, run.feature_hook),
        features=read_features(run, "transcripts"),
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
