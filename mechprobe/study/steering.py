"""The stage that lets the model write under an edit: rates, damage, equal damage, and a prompt beside them."""

from collections.abc import Mapping
from typing import Any

from mechprobe.causal.directions import Direction, fit_directions, span_acts
from mechprobe.causal.writing.free_text import FreeTextTables, run_free_text
from mechprobe.causal.writing.prompting import with_words
from mechprobe.models.organism.written import writes_thought
from mechprobe.study.run import Run
from mechprobe.study.stages import Stage

TABLES = ("rates", "generations", "damage", "equal_damage")
CALM = {"pressure high": "pressure low"}
"""The organism's only instruction: under low pressure it misbehaves less by itself."""


def steering_stage(run: Run, sites_digest: str) -> Stage:
    """The stage that writes `rates`, `generations`, `damage` and `equal_damage`."""
    return Stage(
        name="steer",
        folder=run.folder / "steer",
        config=run.settings("free_text", "loading"),
        inputs={"site": sites_digest},
        run=lambda: _steer(run),
        outputs=tuple(run.folder / f"{name}.parquet" for name in TABLES),
        seed=run.config.free_text.seed,
    )


def _steer(run: Run) -> Mapping[str, Any]:
    found: FreeTextTables = run_free_text(
        run.subject,
        run.pairs,
        run.transcripts,
        _directions(run),
        run.sites.of,
        run.config.free_text,
        plan=writes_thought,
        rewordings={"pressure low": with_words(CALM)},
    )
    for name in TABLES:
        getattr(found, name).to_parquet(run.folder / f"{name}.parquet")
    counts = {name: len(getattr(found, name)) for name in TABLES}
    return {**counts, "writing_hooks": dict(found.writing_hooks)}


def _directions(run: Run) -> dict[str, Direction]:
    """The difference of means of each indicator at its own site, as the verdicts use it."""
    fit = [transcript for transcript in run.transcripts if transcript.split == "fit"]
    found: dict[str, Direction] = {}
    for site in dict.fromkeys(run.sites.of.values()):
        here = [name for name, own in run.sites.of.items() if own == site]
        spans = span_acts(run.subject, fit, site, max_spans=run.config.causal.n_fit_spans)
        found |= {one.indicator: one for one in fit_directions(spans, here)}
    return {name: found[name] for name in run.sites.of}
