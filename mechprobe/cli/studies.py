"""Commands that run a study file, wholly or up to a stage, and the one that writes its report."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from mechprobe.cli.saying import say


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyFile:
    """What the commands that run a study take."""

    file: tyro.conf.Positional[Path]
    """The study's TOML file, such as analyses/organism.toml."""
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A setting to override, as key.path=value; may be given many times."""

    def overrides(self) -> tuple[str, ...]:
        """The settings to override."""
        return self.set

    def up_to(self, stage: Any) -> None:
        """Run the study's stages up to one, skipping those that are up to date."""
        from mechprobe.study.settings import read_settings, write_settings

        settings = read_settings(self.file, self.overrides())
        from mechprobe.study.config import study_of
        from mechprobe.study.pipeline import run_study

        text = write_settings(settings)
        print(run_study(study_of(settings), say, until=stage, study_text=text))


@dataclass(frozen=True, kw_only=True, slots=True)
class Study(StudyFile):
    """Run a whole study: transcripts, activations, SAE, probes, interventions, report."""

    def run(self) -> None:
        """Run every stage."""
        self.up_to("report")


@dataclass(frozen=True, kw_only=True, slots=True)
class Capture(StudyFile):
    """Run a study up to the activation store, in this process or on a Ray cluster."""

    limit: int | None = None
    """Only the first transcripts."""
    executor: Literal["local", "ray"] | None = None
    """Where shards are made, with the same bytes; "ray" needs pip install "mechprobe[ray]"."""
    workers: int | None = None
    """Ray: processes that work side by side, each with a model of its own."""
    address: str | None = None
    """Ray: "local" starts one on this machine, "auto" finds the running one, "ray://HOST:10001" is a cluster."""
    gpus_per_worker: float | None = None
    """Ray: GPUs that a worker takes; 0.5 puts two on one GPU."""

    def run(self) -> None:
        """Run up to the capture."""
        self.up_to("capture")

    def overrides(self) -> tuple[str, ...]:
        """The options as settings of the study."""
        given = {
            "limit": self.limit,
            "executor.kind": self.executor,
            "executor.workers": self.workers,
            "executor.address": self.address,
            "executor.gpus_per_worker": self.gpus_per_worker,
        }
        options = [
            f"capture.{name}={json.dumps(value)}"
            for name, value in given.items()
            if value is not None
        ]
        return (*self.set, *options)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sae(StudyFile):
    """Run a study up to the SAE, its features and its quality."""

    def run(self) -> None:
        """Run up to the SAE."""
        self.up_to("sae")


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe(StudyFile):
    """Run a study up to the probes and the detection tables."""

    def run(self) -> None:
        """Run up to the probes."""
        self.up_to("probe")


@dataclass(frozen=True, kw_only=True, slots=True)
class Falsify(StudyFile):
    """Run a study up to the falsifiers: what of its probes and features do words alone explain?"""

    def run(self) -> None:
        """Run up to the falsifiers."""
        self.up_to("falsify")


@dataclass(frozen=True, kw_only=True, slots=True)
class Causal(StudyFile):
    """Run a study up to the causal verdicts."""

    def run(self) -> None:
        """Run up to the verdicts."""
        self.up_to("causal")


@dataclass(frozen=True, kw_only=True, slots=True)
class Steer(StudyFile):
    """Run a study up to the text that is written under steering, beside random directions and a prompt."""

    def run(self) -> None:
        """Run up to the steered text."""
        self.up_to("steer")


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Write report.html of a run's folder."""

    folder: tyro.conf.Positional[Path]
    """The run's folder, such as runs/organism."""

    def run(self) -> None:
        """Write the page."""
        from mechprobe.reports.report import write_report

        print(write_report(self.folder))
