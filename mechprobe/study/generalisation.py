"""The stage that trains on one domain and tests on others: behaviours of transcripts, splits of an organism's world."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from mechprobe.activations.rows import span_table
from mechprobe.evaluation.spans.span_building import span_examples
from mechprobe.evaluation.spans.span_examples import SpanExamples
from mechprobe.evaluation.transfers.domains import domain_names
from mechprobe.evaluation.transfers.generalisation import (
    GENERALISATION_COLUMNS,
    Cell,
    generalisation_table,
)
from mechprobe.evaluation.transfers.generalisation_spans import generalise_spans
from mechprobe.evaluation.transfers.generalisation_turns import generalise_turns
from mechprobe.evaluation.transfers.transfer import TRANSFER_COLUMNS, transfer_table
from mechprobe.models.organism.splits import draw_split
from mechprobe.saes.encoding import encode_store
from mechprobe.study.detection import read_acts, turn_source
from mechprobe.study.reading import capture_into
from mechprobe.study.run import Run
from mechprobe.study.stages import Stage

GENERALISATION = "generalisation.parquet"
TRANSFER = "transfer.parquet"


def generalise_stage(run: Run, sae_digest: str) -> Stage:
    """The stage that writes `generalisation.parquet` and `transfer.parquet`, and for an organism `splits/`."""
    folder = run.folder / "generalise"
    return Stage(
        name="generalise",
        folder=folder,
        config=run.settings("generalisation", "capture"),
        inputs={"features": sae_digest},
        run=lambda: _generalise(run),
        outputs=(run.folder / GENERALISATION, run.folder / TRANSFER),
        partial=(run.folder / "splits",),
        seed=run.config.generalisation.seed,
    )


def _generalise(run: Run) -> Mapping[str, Any]:
    config = run.config.generalisation
    found = _spans(run) if run.config.kind == "organism" else _turns(run)
    draws = {"n_boot": config.n_boot, "seed": config.seed}
    tables = [generalisation_table(cells, key, **draws) for key, cells in found.items()]
    means = [
        transfer_table(cells, key, config.text_scorers, **draws) for key, cells in found.items()
    ]
    table = _stacked(tables, GENERALISATION_COLUMNS)
    table.to_parquet(run.folder / GENERALISATION)
    _stacked(means, TRANSFER_COLUMNS).to_parquet(run.folder / TRANSFER)
    return {"n_rows": len(table), "keys": list(found)}


def _turns(run: Run) -> dict[str, list[Cell]]:
    config = run.config.generalisation
    for key in config.keys:
        if len(domain_names(run.transcripts, key)) < 2:
            run.say(f"generalise: all transcripts have one {key}, or none; no matrix for it")
    return generalise_turns(
        run.store.tokens,
        span_table(run.store.tokens, run.transcripts),
        run.transcripts,
        run.taxonomy.slugs,
        turn_source(run),
        config,
    )


def _spans(run: Run) -> dict[str, list[Cell]]:
    return {"split": generalise_spans(_split_spans(run), run.config.generalisation)}


def _split_spans(run: Run) -> SpanExamples:
    """Spans of freshly drawn transcripts of every configured split, read at the site of the verdicts."""
    config, hook_name = run.config.generalisation, run.feature_hook
    transcripts = [
        transcript
        for name in config.splits
        for transcript in draw_split(
            run.truth.roles, name, config.n_per_split, run.config.data.seed
        )
    ]
    folder = run.folder / "splits"
    store = capture_into(run, transcripts, folder / "store")
    features = encode_store(store, hook_name, run.sae, folder / "features")
    return span_examples(
        store.tokens,
        span_table(store.tokens, transcripts),
        transcripts,
        run.taxonomy.slugs,
        {hook_name: read_acts(store, hook_name)},
        {hook_name: features.csr},
    )


def _stacked(tables: list[pd.DataFrame], columns: tuple[str, ...]) -> pd.DataFrame:
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=list(columns))
