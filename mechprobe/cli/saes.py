"""`mechprobe sae study | train | list | show`: SAEs that are trained here, and those that others trained."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from mechprobe.cli.saying import say
from mechprobe.cli.studies import Sae as SaeStudy
from mechprobe.saes.training.config import SaeConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainSae:
    """Train SAEs on an activation store, all in one pass over it; a killed run goes on where it was.

    Several hook points, widths, numbers of active features or seeds make an SAE for each combination, in folders named after
    them. One of each makes one SAE in OUT itself.
    """

    store: tyro.conf.Positional[Path]
    """Folder of an activation store, such as runs/organism/store."""
    out: Path
    """Folder for the SAE, or for the folders of several."""
    hook_names: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Hook point, may be given many times; by default all that the store holds."""
    widths: tuple[int, ...] = ()
    """Numbers of features, instead of d_sae."""
    ks: tuple[int, ...] = ()
    """Numbers of active features, instead of k."""
    seeds: tuple[int, ...] = ()
    """Seeds of the weights, instead of seed; the order of the tokens is that of the first."""
    config: SaeConfig = field(default_factory=SaeConfig)
    """How to train."""

    def run(self) -> None:
        """Train."""
        from mechprobe.activations.store import ActivationStore
        from mechprobe.saes.training.runs import train_saes
        from mechprobe.saes.training.sweeps import sweep

        store = ActivationStore.open(self.store)
        names = self.hook_names or store.hook_names
        jobs = sweep(self.config, self.out, names, widths=self.widths, ks=self.ks, seeds=self.seeds)
        for folder in train_saes(store, jobs):
            print(folder)


@dataclass(frozen=True, kw_only=True, slots=True)
class ListSaes:
    """List pretrained SAEs that sae-lens knows, without fetching anything."""

    model: str = ""
    """Part of a model's name, such as gemma-2-2b; by default all models."""
    release: str | None = None
    """List the SAEs of this release, with their ids."""

    def run(self) -> None:
        """Print."""
        from mechprobe.saes.pretrained.registry import find_release, find_releases

        if self.release is not None:
            for sae in find_release(self.release).saes:
                l0 = "" if sae.l0 is None else f"L0 {sae.l0:.4g}"
                explained = (
                    "" if sae.explained_variance is None else f"EV {sae.explained_variance:.3f}"
                )
                print(f"{self.release}:{sae.sae_id:<44} {l0:<10} {explained}".rstrip())
            return
        for found in find_releases(self.model):
            print(
                f"{found.name:<46} {found.model:<28} {len(found.saes):>5} SAEs  {found.repository}"
            )
        say(
            "`mechprobe sae list --release NAME` lists the SAEs of one; a study takes RELEASE:ID as sae_checkpoint"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ShowSae:
    """Load an SAE from a local folder or a release, and print what it reads and was trained on."""

    source: tyro.conf.Positional[str]
    """A folder or file in the format of SAELens, Gemma Scope, sparsify, dictionary_learning or Llama Scope, or RELEASE:ID."""

    def run(self) -> None:
        """Print."""
        from mechprobe.saes.checkpoints import load_sae
        from mechprobe.saes.pretrained.describing import sae_lines

        source, _, sae_id = self.source.partition(":")
        for line in sae_lines(load_sae(source, sae_id or None)):
            print(line)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sae:
    """SAEs: up to a study's own (sae STUDY.toml, or sae study), train some, list and show pretrained ones."""

    action: (
        Annotated[SaeStudy, tyro.conf.subcommand("study")]
        | Annotated[TrainSae, tyro.conf.subcommand("train")]
        | Annotated[ListSaes, tyro.conf.subcommand("list")]
        | Annotated[ShowSae, tyro.conf.subcommand("show")]
    )

    def run(self) -> None:
        """Do it."""
        self.action.run()


def study_named(arguments: list[str]) -> list[str]:
    """`sae STUDY.toml ...` as `sae study STUDY.toml ...`, which it is short for."""
    if arguments[:1] == ["sae"] and any(word.endswith(".toml") for word in arguments[1:2]):
        return ["sae", "study", *arguments[1:]]
    return arguments
