"""The workbench of a running study: its folder, and what several stages use, loaded once when first needed."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mechprobe.activations.store import ActivationStore
from mechprobe.models.organism.truth import OrganismTruth, read_truth
from mechprobe.models.subject import Subject
from mechprobe.records import digest_tree
from mechprobe.saes.checkpoints import load_sae
from mechprobe.study.chosen_sites import ChosenSites, read_sites
from mechprobe.study.config import StudyConfig
from mechprobe.study.shipped import find_model, find_organism
from mechprobe.taxonomy import Taxonomy, load_taxonomy
from mechprobe.transcripts.jsonl import read_transcripts
from mechprobe.transcripts.pairs import MatchedPair, read_pairs
from mechprobe.transcripts.transcript import Transcript


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """A study under way."""

    config: StudyConfig
    say: Callable[[str], None]
    """Takes one line for the person who waits."""

    @property
    def folder(self) -> Path:
        """Where everything goes."""
        return self.config.out

    @cached_property
    def model_source(self) -> str | Path:
        """What `Subject.load` gets."""
        if self.config.kind == "organism":
            return find_organism(self.config.organism)
        return find_model(self.config.model)

    @cached_property
    def model_digest(self) -> str:
        """Digest of a local model's files, or its hub name."""
        source = Path(self.model_source)
        return digest_tree(source) if source.is_dir() else str(self.model_source)

    @cached_property
    def subject(self) -> Subject:
        """The model."""
        self.say(f"loading {Path(self.model_source).name}")
        return Subject.load(self.model_source, **asdict(self.config.loading))

    @cached_property
    def truth(self) -> OrganismTruth:
        """What is known about an organism."""
        return read_truth(Path(self.model_source))

    @cached_property
    def taxonomy(self) -> Taxonomy:
        """The indicators."""
        return load_taxonomy()

    @cached_property
    def transcripts(self) -> list[Transcript]:
        """The transcripts that are captured."""
        found = list(read_transcripts(self.folder / "transcripts" / "transcripts.jsonl"))
        return found[: self.config.capture.limit]

    @cached_property
    def pairs(self) -> list[MatchedPair]:
        """The matched pairs."""
        return list(read_pairs(self.folder / "pairs" / "pairs.jsonl"))

    @cached_property
    def hook_names(self) -> tuple[str, ...]:
        """Canonical hook points of the capture."""
        wanted = self.config.capture.hook_names or tuple(
            f"blocks.{layer}.hook_out" for layer in range(self.subject.n_layers)
        )
        return tuple(self.subject.resolve(name) for name in wanted)

    @cached_property
    def store(self) -> ActivationStore:
        """The activations of the transcripts."""
        return ActivationStore.open(self.folder / "store")

    @cached_property
    def pair_store(self) -> ActivationStore:
        """The activations of both sides of every pair."""
        return ActivationStore.open(self.folder / "pairs" / "store")

    @cached_property
    def feature_hook(self) -> str:
        """Where the SAE stands: at the site of the verdicts, or the last hook point that was captured."""
        return (
            self.sites.common.hook_name if self.config.kind == "organism" else self.hook_names[-1]
        )

    @cached_property
    def sae(self) -> Any:
        """The SAE that the study uses: the one it trained, or the checkpoint it was given."""
        if not self.config.sae_checkpoint:
            return load_sae(self.folder / "saes" / self.feature_hook)
        source, _, sae_id = self.config.sae_checkpoint.partition(":")
        return load_sae(source, sae_id or None, self.config.loading.device)

    @cached_property
    def sites(self) -> ChosenSites:
        """Where directions, features and verdicts are asked for."""
        return read_sites(self.folder)

    def settings(self, *names: str) -> Mapping[str, Any]:
        """Some of the study's settings, as plain values for a record."""
        whole = asdict(self.config)
        # Where shards are made changes none of their bytes.
        del whole["capture"]["executor"]
        return {name: whole[name] for name in names}
