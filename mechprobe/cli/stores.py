"""`mechprobe store info | verify | export | import`: activations on disk."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True, kw_only=True, slots=True)
class Info:
    """Print what a store holds: shape, hook points, tokens by role and section, bytes, statistics."""

    folder: tyro.conf.Positional[Path]
    """A store's folder, such as runs/organism/store."""

    def run(self) -> None:
        """Print."""
        from mechprobe.activations.store import ActivationStore
        from mechprobe.activations.summary import summary_lines

        for line in summary_lines(ActivationStore.open(self.folder)):
            print(line)


@dataclass(frozen=True, kw_only=True, slots=True)
class Verify:
    """Read every byte of a store and say where it is not what was written; exit code 1 if anything is wrong."""

    folder: tyro.conf.Positional[Path]
    """A store's folder."""
    recompute: int = 0
    """Run the model again on so many random conversations, and compare their rows."""
    model: str | None = None
    """For recompute: the model's folder or hub name; by default the name in the store."""
    transcripts: Path | None = None
    """For recompute: the transcripts that were captured; by default transcripts/transcripts.jsonl beside the store."""
    device: str = "cpu"
    """For recompute: where the model runs."""
    seed: int = 0
    """For recompute: seed of the choice."""

    def run(self) -> None:
        """Verify."""
        from mechprobe.activations.store import ActivationStore
        from mechprobe.activations.verification import find_damage

        damage = find_damage(self.folder)
        for one in damage:
            print(one)
        if damage:
            print(f"{self.folder}: damaged in {len(damage)} places")
            sys.exit(1)
        store = ActivationStore.open(self.folder)
        print(f"{self.folder}: every byte of {len(store.shards)} shards is what was written")
        if not self.recompute:
            return
        from mechprobe.activations.recompute import load_subject, recompute
        from mechprobe.activations.transcript_file import TranscriptFile

        beside = self.folder.resolve().parent / "transcripts" / "transcripts.jsonl"
        transcripts_file = self.transcripts or beside
        transcripts = TranscriptFile.open(transcripts_file)
        subject = load_subject(store, self.model, device=self.device)
        found = recompute(store, subject, transcripts, self.recompute, seed=self.seed)
        for one in found:
            print(one)
        if not all(one.is_alike for one in found):
            sys.exit(1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Export:
    """Write a store as files that other programs read."""

    folder: tyro.conf.Positional[Path]
    """A store's folder."""
    out: Path
    """The file or folder to write."""
    format: Literal["safetensors", "sae-lens"] = "safetensors"
    """safetensors: one file with everything; sae-lens: one hook point as its cached activations."""
    hook_name: str | None = None
    """For sae-lens: the hook point, where the store has several."""
    context_size: int = 128
    """For sae-lens: rows of a sequence."""

    def run(self) -> None:
        """Export."""
        from mechprobe.activations.exchange import export_sae_lens, export_safetensors
        from mechprobe.activations.store import ActivationStore
        from mechprobe.errors import ConfigError

        store = ActivationStore.open(self.folder)
        if self.format == "safetensors":
            done = export_safetensors(store, self.out)
        else:
            name = self.hook_name or store.hook_names[0]
            if self.hook_name is None and len(store.hook_names) > 1:
                raise ConfigError(
                    f"{self.folder} holds {', '.join(store.hook_names)}; name one with --hook-name."
                )
            done = export_sae_lens(store, name, self.out, context_size=self.context_size)
        left = f", {done.n_left_out} left out that fill no sequence" if done.n_left_out else ""
        print(f"{done.path}: {done.n_rows:,} rows{left}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportStore:
    """Make a store of the activations that sae-lens cached; run again, it goes on where it was."""

    source: tyro.conf.Positional[Path]
    """The dataset's folder."""
    out: Path
    """Folder for the store."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """How to store."""
    model: str | None = None
    """The model they are of, for the record."""

    def run(self) -> None:
        """Import."""
        from mechprobe.activations.exchange import import_sae_lens

        config = {"model": self.model} if self.model else {}
        store = import_sae_lens(self.source, self.out, dtype=self.dtype, config=config)
        print(f"{self.out}: {store.n_tokens:,} rows of {', '.join(store.hook_names)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Store:
    """Activations on disk: look at them, check them, exchange them with other programs."""

    action: (
        Annotated[Info, tyro.conf.subcommand("info")]
        | Annotated[Verify, tyro.conf.subcommand("verify")]
        | Annotated[Export, tyro.conf.subcommand("export")]
        | Annotated[ImportStore, tyro.conf.subcommand("import")]
    )

    def run(self) -> None:
        """Do it."""
        self.action.run()
