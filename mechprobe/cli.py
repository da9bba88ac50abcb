"""`mechprobe <command>`: one dataclass for each command, no logic of its own.

Exit codes: 0 done, 1 a mistake that one line explains, 130 stopped by the user. Everything heavy is imported by the
command that needs it, so that `mechprobe --help` answers at once.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

# Spinning OpenMP threads cost 8-17x on busy machines; both must be set before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("WANDB_MODE", "disabled")

import tyro

from mechprobe.errors import MechprobeError


def say(line: str) -> None:
    """Tell the person who waits."""
    print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyFile:
    """What the commands that run a study take."""

    file: tyro.conf.Positional[Path]
    """The study's TOML file, such as analyses/organism.toml."""
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A setting to override, as key.path=value; may be given many times."""

    def up_to(self, stage: Any) -> None:
        """Run the study's stages up to one, skipping those that are up to date."""
        from mechprobe.study.settings import read_settings, write_settings

        settings = read_settings(self.file, self.set)
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
    """Run a study up to the activation store."""

    def run(self) -> None:
        """Run up to the capture."""
        self.up_to("capture")


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
class Evaluate(StudyFile):
    """Run a study up to the heat-maps and feature tables."""

    def run(self) -> None:
        """Run up to the closer look."""
        self.up_to("evaluate")


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
class Import:
    """Read transcripts of any known format into transcripts.jsonl, with a report of what was found."""

    source: tyro.conf.Positional[Path]
    """A file or folder: native or chat JSONL, CSV, XLSX, Parquet, a Bloom result folder."""
    out: Path
    """Folder for transcripts.jsonl and import.json."""
    format: Literal["auto", "native", "chat", "bloom", "normalised", "table"] = "auto"
    """What the source is; "auto" looks."""
    lost: Literal["keep", "error"] | None = None
    """What to do with a quoted span that is found nowhere; by default Bloom's are kept and counted."""
    taxonomy: Path | None = None
    """A taxonomy file of your own."""
    text: str = "text"
    """Tables: the column with the text."""
    label: str = "label"
    """Tables: the column with the label."""

    def run(self) -> None:
        """Import."""
        from mechprobe.taxonomy import load_taxonomy
        from mechprobe.transcripts.importing import import_transcripts
        from mechprobe.transcripts.readers.tables import TableColumns

        report = import_transcripts(
            self.source,
            self.out,
            format=self.format,
            taxonomy=load_taxonomy(self.taxonomy),
            columns=TableColumns(text=self.text, label=self.label),
            lost=self.lost,
        )
        print(report)


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Write report.html of a run's folder."""

    folder: tyro.conf.Positional[Path]
    """The run's folder, such as runs/organism."""

    def run(self) -> None:
        """Write the page."""
        from mechprobe.reports.report import write_report

        print(write_report(self.folder))


@dataclass(frozen=True, kw_only=True, slots=True)
class Train:
    """Train an organism, and measure what its thoughts really do."""

    out: Path
    """A new folder for the model, truth.json and record.json."""
    seed: int = 0
    """Decides the roles (unless they are given), the data and the weights."""
    roles: Path | None = None
    """A role file: a JSON list of {"indicator", "role", "behavior", "partner"}."""
    variant: Literal["natural", "planted", "null", "obfuscated"] = "natural"
    """natural; planted: thoughts pass through known directions; null: no thought decides; obfuscated: hidden from a probe."""
    base: Path | None = None
    """A natural organism that a variant is made from; without one it is trained first."""
    vocabularies: Literal[1, 2] = 1
    """2: half of the scenes are thought in a second surface vocabulary."""
    n_steps: int = 2400
    """Optimiser steps of the natural organism."""

    def run(self) -> None:
        """Train."""
        from mechprobe.models.organism.training import OrganismConfig
        from mechprobe.study.organism import describe_organism, make_organism

        config = OrganismConfig(
            seed=self.seed, n_steps=self.n_steps, vocabularies=self.vocabularies
        )
        made = make_organism(config, self.out, self.roles, variant=self.variant, base=self.base)
        for line in describe_organism(made.folder):
            say(line)
        say(
            f"actions right {made.action_accuracy:.3f}, audits right {made.audit_accuracy:.3f}; thoughts that do "
            f"something else than planned: {', '.join(made.disagreements) or 'none'}"
        )
        for name, value in made.figures.items():
            say(f"{name} {value:.3f}")
        print(made.folder)


@dataclass(frozen=True, kw_only=True, slots=True)
class Show:
    """Print an organism's roles and what its thoughts were measured to do."""

    organism: tyro.conf.Positional[str] = "organism-natural"
    """A folder, or the name of a shipped one."""

    def run(self) -> None:
        """Print."""
        from mechprobe.study.organism import describe_organism
        from mechprobe.study.shipped import find_organism

        for line in describe_organism(find_organism(self.organism)):
            print(line)


@dataclass(frozen=True, kw_only=True, slots=True)
class Splits:
    """Print how many actions an organism gets right on each out-of-distribution split, turn by turn."""

    organism: tyro.conf.Positional[str] = "organism-natural"
    """A folder, or the name of a shipped one."""
    n: int = 400
    """Transcripts a split."""
    seed: int = 0
    """Seed of the draws."""

    def run(self) -> None:
        """Print."""
        from mechprobe.study.organism import measure_splits
        from mechprobe.study.shipped import find_organism

        found = measure_splits(find_organism(self.organism), self.n, seed=self.seed)
        for name, turns in found.items():
            print(f"{name:<24}{'  '.join(f'{right:.3f}' for right in turns.values())}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Organism:
    """A small model whose truth is known: train one, or look at one."""

    action: (
        Annotated[Train, tyro.conf.subcommand("train")]
        | Annotated[Show, tyro.conf.subcommand("show")]
        | Annotated[Splits, tyro.conf.subcommand("splits")]
    )

    def run(self) -> None:
        """Train or show."""
        self.action.run()


Command = (
    Annotated[Study, tyro.conf.subcommand("study")]
    | Annotated[Import, tyro.conf.subcommand("import")]
    | Annotated[Capture, tyro.conf.subcommand("capture")]
    | Annotated[Sae, tyro.conf.subcommand("sae")]
    | Annotated[Probe, tyro.conf.subcommand("probe")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Causal, tyro.conf.subcommand("causal")]
    | Annotated[Steer, tyro.conf.subcommand("steer")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Organism, tyro.conf.subcommand("organism")]
)


def main(arguments: list[str] | None = None) -> None:
    """Run the command that was typed."""
    command: Any = tyro.cli(
        Command,  # pyright: ignore[reportArgumentType]
        prog="mechprobe",
        description="Which internal directions of a language model go with misaligned reasoning, and which drive it.",
        args=arguments,
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
    )
    try:
        command.run()
    except MechprobeError as error:
        print(f"mechprobe: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        say("stopped; the same command goes on where it was")
        sys.exit(130)


if __name__ == "__main__":
    main()
