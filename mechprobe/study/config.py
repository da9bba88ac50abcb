"""What a study file may say: one table for each stage, checked when read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mechprobe.activations.selection import TokenSelection
from mechprobe.causal.config import CausalConfig
from mechprobe.causal.writing.free_text import FreeTextConfig
from mechprobe.errors import ConfigError
from mechprobe.evaluation.spans.span_detection import SpanDetectionConfig
from mechprobe.evaluation.transfers.generalisation_turns import GeneralisationConfig
from mechprobe.evaluation.turns.turn_detection import TurnDetectionConfig
from mechprobe.executors.settings import ExecutorSettings
from mechprobe.falsifiers.config import FalsifierConfig
from mechprobe.models.organism.datasets import DatasetConfig
from mechprobe.saes.training.config import SaeConfig
from mechprobe.study.settings import build_config, read_settings


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSettings:
    """How a model is loaded."""

    device: str = "cpu"
    """Where it runs: "cpu", "cuda", "cuda:1", "mps"; "auto" spreads the layers of a large model over all GPUs."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Type of the weights."""
    chat_template: str | None = None
    """None for the tokenizer's own, "plain", or the path of a Jinja file."""
    window: int | None = None
    """Tokens that the model reads at once, for models with few positions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptureSettings:
    """What is stored of the model's activations."""

    hook_names: tuple[str, ...] = ()
    """Hook points; empty: the residual stream after every block."""
    select: TokenSelection = field(default_factory=TokenSelection)
    """Which tokens are kept."""
    dtype: Literal["bfloat16", "float32", "float16"] = "float32"
    """Type on disk."""
    batch_tokens: int = 2048
    """Padded tokens of a forward pass."""
    limit: int | None = None
    """Only the first transcripts."""
    executor: ExecutorSettings = field(default_factory=ExecutorSettings)
    """Where shards are made; the store is the same, so no stage runs again when this changes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyConfig:
    """A whole study."""

    name: str
    """What the study is called."""
    kind: Literal["organism", "transcripts"]
    """"organism": every stage, on a model whose truth is known. "transcripts": detection on transcripts from elsewhere."""
    out: Path
    """The run's folder."""
    title: str = ""
    """Headline of the report."""
    question: str = ""
    """What the study asks, in a sentence."""
    seed: int = 0
    """Seed of every stage that has none of its own."""
    organism: str = "organism-natural"
    """Kind "organism": a folder, or the name of a shipped one."""
    transcripts: Path | None = None
    """Kind "transcripts": file or folder in any format that `mechprobe import` reads."""
    model: str = ""
    """Kind "transcripts": hub name or folder of the model that reads them."""
    loading: ModelSettings = field(default_factory=ModelSettings)
    """How the model is loaded."""
    data: DatasetConfig = field(default_factory=DatasetConfig)
    """Kind "organism": how many transcripts and pairs are drawn."""
    capture: CaptureSettings = field(default_factory=CaptureSettings)
    """What is stored."""
    sae: SaeConfig = field(default_factory=SaeConfig)
    """How the SAE is trained."""
    sae_checkpoint: str = ""
    """Use this SAE instead of training one: a folder, or a release and its id as "release:id"."""
    spans: SpanDetectionConfig = field(default_factory=SpanDetectionConfig)
    """Kind "organism": scorers of spans."""
    turns: TurnDetectionConfig = field(default_factory=TurnDetectionConfig)
    """Kind "transcripts": scorers of turns."""
    falsifiers: FalsifierConfig = field(default_factory=FalsifierConfig)
    """How probes and features are tried against their words."""
    generalisation: GeneralisationConfig = field(default_factory=GeneralisationConfig)
    """What is trained on one domain and tested on others."""
    causal: CausalConfig = field(default_factory=CausalConfig)
    """Kind "organism": interventions and verdicts."""
    free_text: FreeTextConfig = field(default_factory=FreeTextConfig)
    """Kind "organism": what is written under an edit."""
    n_features: int = 5
    """Features shown for each indicator."""
    n_examples: int = 4
    """Spans shown as heat-maps for each indicator and kind."""

    def __post_init__(self) -> None:
        if self.kind == "transcripts" and self.transcripts is None:
            raise ConfigError(
                "this study reads transcripts from a path that you give: --set transcripts=PATH."
            )
        if self.kind == "transcripts" and not self.model:
            raise ConfigError("a study of transcripts needs a model: --set model=NAME_OR_FOLDER.")


SEEDED = ("data", "sae", "spans", "turns", "falsifiers", "generalisation", "causal", "free_text")


def read_study(path: Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """Read a study file with overrides of the form key.path=value.

    Raises:
        DataError: the file is missing or no TOML.
        ConfigError: a setting is unknown, missing, or of the wrong type.
    """
    return study_of(read_settings(path, overrides))


def study_of(settings: Mapping[str, Any]) -> StudyConfig:
    """The study that settings describe; a stage without a seed of its own gets the study's.

    Raises:
        ConfigError: a setting is unknown, missing, or of the wrong type.
    """
    seeded = dict(settings)
    for name in SEEDED:
        stage = seeded.get(name, {})
        if "seed" in settings and isinstance(stage, Mapping) and "seed" not in stage:
            seeded[name] = {**stage, "seed": settings["seed"]}
    return build_config(StudyConfig, seeded)
