"""Where a study's transcripts come from: an organism's world, or other people's files."""

from collections.abc import Mapping
from typing import Any

from mechprobe.models.organism.datasets import draw_pairs, draw_transcripts
from mechprobe.records import digest_file, digest_tree
from mechprobe.study.run import Run
from mechprobe.study.stages import Stage
from mechprobe.transcripts.importing import import_transcripts
from mechprobe.transcripts.jsonl import write_transcripts
from mechprobe.transcripts.pairs import write_pairs


def import_stage(run: Run) -> Stage:
    """The stage that writes `transcripts/transcripts.jsonl`, and for an organism `pairs/pairs.jsonl`."""
    folder = run.folder / "transcripts"
    transcripts = folder / "transcripts.jsonl"
    if run.config.kind == "organism":
        return Stage(
            name="import",
            folder=folder,
            config=run.settings("data"),
            inputs={"organism": run.model_digest},
            run=lambda: _draw(run),
            outputs=(transcripts, run.folder / "pairs" / "pairs.jsonl"),
            seed=run.config.data.seed,
        )
    source = run.config.transcripts
    assert source is not None, "StudyConfig refuses a transcripts study without a path"
    found = digest_tree(source) if source.is_dir() else _digest_if_there(run)
    return Stage(
        name="import",
        folder=folder,
        config={},
        inputs={"transcripts": found},
        run=lambda: _import(run),
        outputs=(transcripts,),
    )


def _digest_if_there(run: Run) -> str:
    """A missing file is left to the reader, whose error says more."""
    source = run.config.transcripts
    return digest_file(source) if source is not None and source.is_file() else ""


def _draw(run: Run) -> Mapping[str, Any]:
    roles, config = run.truth.roles, run.config.data
    n_transcripts = write_transcripts(
        run.folder / "transcripts" / "transcripts.jsonl", draw_transcripts(roles, config)
    )
    n_pairs = write_pairs(run.folder / "pairs" / "pairs.jsonl", draw_pairs(roles, config))
    return {"n_transcripts": n_transcripts, "n_pairs": n_pairs}


def _import(run: Run) -> Mapping[str, Any]:
    source = run.config.transcripts
    assert source is not None, "StudyConfig refuses a transcripts study without a path"
    report = import_transcripts(source, run.folder / "transcripts", taxonomy=run.taxonomy)
    run.say(str(report))
    return {"report": str(report)}
