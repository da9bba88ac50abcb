"""The settings of a detection study on turns."""

from dataclasses import dataclass, field
from typing import Literal

from mechprobe.errors import ConfigError
from mechprobe.evaluation.turns.scorer_names import sort_names
from mechprobe.evaluation.turns.turn_fusion import FUSIONS, Fusion
from mechprobe.probes.labels.labelling import LabelRule
from mechprobe.probes.scoring.aggregation import PoolingRule, Reduction, View
from mechprobe.probes.scoring.thresholds import ThresholdRule

EmbeddingName = Literal["sentence_embedding", "embedding_layer"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TurnDetectionConfig:
    """Which scorers to run, how to label, fold and pool, and how to resample."""

    estimators: tuple[str, ...] = (
        "dense_logistic",
        "dense_diff_of_means",
        "random_direction",
        "sae_k_sparse",
        "sae_logistic",
    )
    """Probes of tokens (`probes.estimators.ESTIMATORS`), probes of whole turns
    (`probes.kinds.sequence_estimators.SEQUENCE_ESTIMATORS`) and baselines at tokens (`baselines.tokens.TOKEN_BASELINES`);
    those of features run where there is an SAE."""
    text_scorers: tuple[str, ...] = ("length", "tfidf", "tfidf_bigrams")
    """Names in `baselines.text.BASELINES`."""
    embeddings: tuple[EmbeddingName, ...] = ()
    """Baselines that read whole texts embedded by the model; a long text costs a forward pass of its own."""
    labels: LabelRule = field(default_factory=LabelRule)
    """Which tokens are positive and which negative; by default as the paper's probes were fitted."""
    n_folds: int = 5
    """Folds; each is scored by probes fitted on the others, of which one chooses strengths."""
    fold_by: Literal["scenario", "transcript"] = "scenario"
    """What stands in one fold only. By transcript, twins of one scenario are fitted on and tested."""
    max_negatives: int | None = 200
    """Tokens outside all spans that are fitted on, of each transcript; None: all."""
    unit_tokens: int | None = 128
    """Tokens of a turn that probes of whole turns are fitted on, evenly spaced; whole turns are scored. None: all."""
    neutral: str = ""
    """Transcripts that hold nothing and are not tested, on which thresholds are tuned: a file or folder in any format
    that `mechprobe import` reads. Empty: thresholds are tuned on the neutral turns of other folds."""
    min_words: int = 5
    """Words that a sentence needs to count."""
    pool_tokens: Reduction = "mean"
    """What a sentence makes of its tokens."""
    pool_sentences: Reduction = "max"
    """What a turn makes of its sentences."""
    views: tuple[View, ...] = ("full", "reasoning", "answer")
    """What of a turn is scored; "full" must be among them."""
    fusions: tuple[Fusion, ...] = FUSIONS
    """How the indicators' probes become one score of `misaligned`."""
    fpr_targets: tuple[float, ...] = (0.01, 0.05, 0.1)
    """False-positive rates that thresholds are tuned to on neutral turns."""
    threshold_rule: ThresholdRule = "conformal"
    """How thresholds are tuned; see `probes.scoring.thresholds`."""
    n_boot: int = 1000
    """Draws of the bootstrap over transcripts."""
    seed: int = 0
    """Of folds, drawn negatives, random directions, shuffled labels and the bootstrap."""

    def __post_init__(self) -> None:
        sort_names(self.estimators)
        if self.unit_tokens is not None and self.unit_tokens < 1:
            raise ConfigError(f"unit_tokens is {self.unit_tokens}; it must be at least 1.")
        if "full" not in self.views:
            raise ConfigError(
                f"views is {self.views}; it must have 'full', which the other views stand beside."
            )
        if not all(0 < target < 1 for target in self.fpr_targets):
            raise ConfigError(
                f"fpr_targets is {self.fpr_targets}; each must be > 0 and < 1, for instance 0.01."
            )

    @property
    def pooling(self) -> PoolingRule:
        """How token scores become turn scores."""
        return PoolingRule(
            tokens=self.pool_tokens, sentences=self.pool_sentences, min_words=self.min_words
        )
