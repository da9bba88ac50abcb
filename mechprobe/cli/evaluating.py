"""`mechprobe evaluate study | scores | compare`: figures of a study's probes, or of scores that anyone made."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from mechprobe.cli.studies import StudyFile


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """Print and write what the scores in a file are worth, with chance levels and intervals."""

    file: tyro.conf.Positional[Path]
    """A parquet or CSV file: columns scorer, score, turn, gt_misaligned, transcript_id (or dataset, variation, repetition)."""
    json: Path | None = None
    """Where to write every figure."""
    n_boot: int = 1000
    """Draws of whole transcripts for the intervals."""
    seed: int = 0
    """Of the draws."""

    def run(self) -> None:
        """Evaluate."""
        from mechprobe.evaluation.scores.score_figures import Resampling
        from mechprobe.evaluation.scores.score_file import read_scores
        from mechprobe.evaluation.scores.score_report import as_text, report_of, write_report

        resampling = Resampling(n_boot=self.n_boot, seed=self.seed)
        report = report_of(read_scores(self.file), resampling)
        if self.json is not None:
            write_report(report, self.json)
        print(as_text(report))


@dataclass(frozen=True, kw_only=True, slots=True)
class Compare:
    """Compare two scorers of one file on the turns that both scored."""

    file: tyro.conf.Positional[Path]
    """A file as `mechprobe evaluate scores` reads it."""
    first: str
    """A scorer: "name", "name@layer" or "name@layer/view"."""
    second: str
    """The scorer that is subtracted."""
    json: Path | None = None
    """Where to write the differences."""
    n_boot: int = 1000
    """Draws of whole transcripts for the intervals."""
    n_permutations: int = 10_000
    """Swaps of the two scorers within transcripts for the p-values."""
    seed: int = 0
    """Of the draws and swaps."""

    def run(self) -> None:
        """Compare."""
        from mechprobe.evaluation.scores.score_comparison import (
            Comparing,
            compare_scorers,
            comparison_text,
        )
        from mechprobe.evaluation.scores.score_file import read_scores

        comparing = Comparing(
            n_boot=self.n_boot, n_permutations=self.n_permutations, seed=self.seed
        )
        rows = compare_scorers(read_scores(self.file), self.first, self.second, comparing)
        if self.json is not None:
            self.json.parent.mkdir(parents=True, exist_ok=True)
            self.json.write_text(json.dumps(rows, indent=1, allow_nan=False) + "\n")
        print(comparison_text(rows))


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateStudy(StudyFile):
    """Run a study up to the heat-maps and feature tables."""

    def run(self) -> None:
        """Run up to the closer look."""
        self.up_to("evaluate")


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluate:
    """What detectors are worth: those of a study, or anyone's scores in a file."""

    action: (
        Annotated[EvaluateStudy, tyro.conf.subcommand("study")]
        | Annotated[Scores, tyro.conf.subcommand("scores")]
        | Annotated[Compare, tyro.conf.subcommand("compare")]
    )

    def run(self) -> None:
        """Do it."""
        self.action.run()
