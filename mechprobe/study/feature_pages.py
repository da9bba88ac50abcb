"""What a finished run gives for feature pages: the browser page and the files for Neuronpedia."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mechprobe.activations.rows import span_table, span_tokens
from mechprobe.errors import DataError
from mechprobe.reports.feature_browser import BROWSER_NAME, FeatureFacts, write_feature_browser
from mechprobe.reports.run_files import FALSIFIERS, read_if_there
from mechprobe.saes.describing.company import IndicatorCompany, indicator_company
from mechprobe.saes.describing.descriptions import DescribingConfig, describe_features
from mechprobe.saes.describing.directions import LogitLens, logit_lens, nearest_rows, unembedding
from mechprobe.saes.describing.neuronpedia import DashboardSource, write_dashboards
from mechprobe.saes.examples import TokenContext
from mechprobe.saes.features import FeatureStore
from mechprobe.saes.lens import decoder_rows
from mechprobe.study.config import study_of
from mechprobe.study.heat_maps import token_words
from mechprobe.study.run import Run
from mechprobe.study.settings import read_settings

STUDY_NAME = "study.toml"
N_LENS = 10
"""Tokens that the logit lens shows."""


def open_run(folder: Path, say: Callable[[str], None]) -> Run:
    """A finished run, by its folder, wherever that was moved to.

    Raises:
        DataError: the folder is no run.
    """
    if not (folder / STUDY_NAME).is_file():
        raise DataError(
            f"{folder} is no run: it has no {STUDY_NAME}; name the folder that `mechprobe study` wrote."
        )
    config = study_of(read_settings(folder / STUDY_NAME))
    return Run(config=dataclasses.replace(config, out=folder), say=say)


def write_pages(
    run: Run,
    features: FeatureStore,
    ranking: pd.DataFrame,
    config: DescribingConfig | None = None,
) -> Path:
    """Write `features.html` into the run's folder: every feature, with the rankings of every indicator."""
    rows = decoder_rows(run.sae).detach()
    rankings: Mapping[str, Sequence[Mapping[str, Any]]] = {
        str(name): mine.to_dict("records")
        for name, mine in ranking.groupby("indicator", sort=False)
    }
    facts = FeatureFacts(
        company=_company(run, features),
        lens=_lens(run, features.hook_name),
        neighbours=nearest_rows(rows),
        rankings=rankings,
        falsified=_falsified(run.folder),
    )
    return write_feature_browser(
        run.folder / BROWSER_NAME,
        describe_features(features, TokenContext.of(run.store.tokens), config),
        words_of(run),
        title=run.config.title or run.config.name,
        hook_name=features.hook_name,
        facts=facts,
    )


def export_dashboards(
    run: Run, features: FeatureStore, out: Path, config: DescribingConfig | None = None
) -> list[Path]:
    """Write every active feature as Neuronpedia reads it."""
    config = config or DescribingConfig()
    source = DashboardSource(
        model_id=run.subject.name,
        layer=_layer(features.hook_name),
        sae_set=str(features.config["sae"]),
        dataset=run.config.name,
        n_prompts_total=len(run.transcripts),
        n_tokens_in_prompt=2 * config.context + 1,
    )
    described = describe_features(features, TokenContext.of(run.store.tokens), config)
    lens = _lens(run, features.hook_name)
    return write_dashboards(out, described, source, words_of(run), lens=lens)


def words_of(run: Run) -> Callable[[Sequence[int]], list[str]]:
    """Token ids -> how each reads in running text; every id is decoded once."""
    known: dict[int, str] = {}

    def words(ids: Sequence[int]) -> list[str]:
        if new := [token for token in dict.fromkeys(ids) if token not in known]:
            # The first of a text loses the space before it, so that one stands in front for it.
            known.update(zip(new, token_words(run, np.array([new[0], *new]))[1:], strict=True))
        return [known[token] for token in ids]

    return words


def _company(run: Run, features: FeatureStore) -> IndicatorCompany:
    spans: Any = span_table(run.store.tokens, run.transcripts)
    spans = spans[spans["present"].astype(bool)].reset_index(drop=True)
    inside = span_tokens(spans)
    names = spans["indicator"].to_numpy()[inside["span"].to_numpy()]
    rows = inside["row"].to_numpy()
    return indicator_company(
        features,
        {slug: np.isin(features.rows, rows[names == slug]) for slug in run.taxonomy.slugs},
    )


def _lens(run: Run, hook_name: str) -> LogitLens | None:
    unembed = unembedding(run.subject, hook_name)
    if unembed is None:
        return None
    return logit_lens(decoder_rows(run.sae).detach(), unembed, min(N_LENS, len(unembed)))


def _falsified(folder: Path) -> Mapping[int, Sequence[Mapping[str, Any]]]:
    """What the lexical falsifiers said of single features, where the run has them."""
    table = read_if_there(folder, FALSIFIERS)
    if table is None or "feature" not in table.columns:
        return {}
    single: Any = table[table["feature"] >= 0]
    single = single.assign(falsifier=single["falsifier"] + " " + single["variant"].astype(str))
    return {int(name): mine.to_dict("records") for name, mine in single.groupby("feature")}


def _layer(hook_name: str) -> int:
    parts = hook_name.split(".")
    return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0
