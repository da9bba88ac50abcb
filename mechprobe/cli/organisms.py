"""`mechprobe organism train | show | splits`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from mechprobe.cli.saying import say


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
    max_turns: int = 1
    """Above 1: conversations of one to so many tasks, each with its thoughts and its action."""
    n_steps: int = 2400
    """Optimiser steps of the natural organism."""

    def run(self) -> None:
        """Train."""
        from mechprobe.models.organism.training import OrganismConfig
        from mechprobe.study.organism import describe_organism, make_organism

        config = OrganismConfig(
            seed=self.seed,
            n_steps=self.n_steps,
            vocabularies=self.vocabularies,
            max_turns=self.max_turns,
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
