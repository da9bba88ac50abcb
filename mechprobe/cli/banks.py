"""`mechprobe bank show | import | export | geometry`: probes of this project and of others, as files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from mechprobe.cli.saying import say


@dataclass(frozen=True, kw_only=True, slots=True)
class ShowBank:
    """Print what a bank holds: its model, hook points and probes, and what their makers say of them."""

    folder: tyro.conf.Positional[Path]
    """A bank's folder, such as runs/organism/probes."""
    taxonomy: Path | None = None
    """A taxonomy file of your own."""

    def run(self) -> None:
        """Print."""
        from mechprobe.probes.exchange.artefact import Artefact
        from mechprobe.probes.exchange.bank_text import bank_lines
        from mechprobe.taxonomy import load_taxonomy

        for line in bank_lines(Artefact.load(self.folder), load_taxonomy(self.taxonomy)):
            print(line)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportBank:
    """Make a bank of probes that others fitted; nothing in their files is run."""

    source: tyro.conf.Positional[Path]
    """A folder of the paper's detector.pt files, of plain probe files, or one npz, safetensors, pt or JSON file."""
    out: Path
    """Folder for the bank."""
    hook_name: str | None = None
    """Where the probes read, such as blocks.26.hook_out; needed where the files do not say it."""
    model: str | None = None
    """Whose activations they read; by default what the files say."""
    indicators: tuple[str, ...] = ()
    """What each row of a weight detects, in order, where the files do not say it."""
    scorer: str | None = None
    """Name of the scorer in the bank."""
    taxonomy: Path | None = None
    """A taxonomy file of your own."""

    def run(self) -> None:
        """Import."""
        from mechprobe.probes.exchange.importing import Wanted, import_source
        from mechprobe.taxonomy import load_taxonomy

        wanted = Wanted(
            hook_name=self.hook_name,
            model=self.model,
            indicators=self.indicators,
            scorer=self.scorer,
        )
        found, lines = import_source(self.source, load_taxonomy(self.taxonomy), wanted)
        found.save(self.out)
        for line in lines:
            print(line)
        print(self.out)


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportBank:
    """Write a bank's linear probes as files that other programs read."""

    folder: tyro.conf.Positional[Path]
    """A bank's folder."""
    out: Path
    """Where to write."""
    format: Literal["plain", "npz", "probebench"] = "plain"
    """plain: safetensors and JSON for each probe; npz: one file for each hook point; probebench: that leaderboard's bundles."""
    scorer: str | None = None
    """Only this scorer's probes; by default all that are linear."""
    hook_name: str | None = None
    """Only the probes that read here."""
    author: str = ""
    """probebench: who submits."""
    license: str = "custom"
    """probebench: licence of the probes, by its name there."""
    tasks: tuple[str, ...] = ()
    """probebench: ids of the tasks to be evaluated on."""
    category: str | None = None
    """probebench: its category; by default sandbagging for that group and deception for the others."""
    taxonomy: Path | None = None
    """A taxonomy file of your own."""

    def run(self) -> None:
        """Export."""
        from mechprobe.probes.exchange.artefact import Artefact
        from mechprobe.probes.exchange.exporting import export_npz, export_plain, linear_part

        whole = Artefact.load(self.folder)
        artefact = linear_part(whole, self.scorer, self.hook_name)
        if left := len(whole.bank.sets) - len(artefact.bank.sets):
            say(
                f"{left} of {len(whole.bank.sets)} probe sets were not asked for, or are not linear"
            )
        if self.format == "probebench":
            from mechprobe.probes.exchange.probebench import Submission, export_probebench
            from mechprobe.taxonomy import load_taxonomy

            submission = Submission(
                author=self.author, license=self.license, tasks=self.tasks, category=self.category
            )
            taxonomy = load_taxonomy(self.taxonomy)
            written = export_probebench(artefact, self.out, submission, taxonomy)
        else:
            export = export_npz if self.format == "npz" else export_plain
            written = export(artefact, self.out)
        for path in written:
            print(path)


@dataclass(frozen=True, kw_only=True, slots=True)
class BankGeometry:
    """Print how the directions of a bank lie to each other, what they share, and what is left without it."""

    folder: tyro.conf.Positional[Path]
    """A bank's folder."""
    out: Path | None = None
    """A JSON file for the cosines, eigenvalues and loadings."""
    rows: Path | None = None
    """An npz of activations at the bank's hook point (X, labels, indicators) to score before and after the removal."""
    scorer: str | None = None
    """Only this scorer's probes."""
    hook_name: str | None = None
    """Only the probes that read here."""
    without_shared: Path | None = None
    """A folder for the bank with the shared direction of each set projected out."""
    taxonomy: Path | None = None
    """A taxonomy file of your own."""
    seed: int = 0
    """Of the random direction that the removal is compared with."""

    def run(self) -> None:
        """Compare."""
        from mechprobe.probes.comparison.bank_comparison import Comparison, compare_directions
        from mechprobe.taxonomy import load_taxonomy

        comparison = Comparison(
            rows=self.rows,
            scorer=self.scorer,
            hook_name=self.hook_name,
            out=self.out,
            without_shared=self.without_shared,
            seed=self.seed,
        )
        for line in compare_directions(self.folder, load_taxonomy(self.taxonomy), comparison):
            print(line)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bank:
    """Banks of probes: look at one, take probes in, give them out, compare their directions."""

    action: (
        Annotated[ShowBank, tyro.conf.subcommand("show")]
        | Annotated[ImportBank, tyro.conf.subcommand("import")]
        | Annotated[ExportBank, tyro.conf.subcommand("export")]
        | Annotated[BankGeometry, tyro.conf.subcommand("geometry")]
    )

    def run(self) -> None:
        """Do it."""
        self.action.run()
