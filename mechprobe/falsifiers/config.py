"""What the falsifiers are asked to do, and the columns of the table that they write."""

from dataclasses import dataclass
from typing import Literal, get_args

from mechprobe.errors import ConfigError

Falsifier = Literal["injection", "paraphrase", "masking", "context", "keywords"]
FALSIFIERS: tuple[Falsifier, ...] = get_args(Falsifier)
Reading = Literal["last", "mean", "max"]
Strategy = Literal["append", "prepend", "replace"]
Ranking = Literal["score", "lift"]

SURVIVES, FAILS, UNCLEAR = "survives", "fails", "unclear"
NO_SIGNAL, TOO_FEW, NOT_JUDGED = "no signal", "too few", "not judged"
READINGS = (SURVIVES, FAILS, UNCLEAR, NO_SIGNAL, TOO_FEW, NOT_JUDGED)

FALSIFIER_COLUMNS = (
    "indicator",
    "scorer",
    "feature",
    "hook_name",
    "falsifier",
    "variant",
    "figure",
    "low",
    "high",
    "control",
    "control_low",
    "control_high",
    "natural",
    "natural_low",
    "natural_high",
    "gap",
    "auroc",
    "auroc_low",
    "auroc_high",
    "effect_size",
    "rank_correlation",
    "n_pos",
    "n_altered",
    "n_clusters",
    "words",
    "seed",
    "reading",
)
"""Columns of `falsifiers.parquet`, one row for each indicator, scorer, falsifier and variant.

    feature           number of the SAE feature that the scorer is, -1 for a probe
    figure            what the falsifier measures, with its interval (low, high):
                      injection, context   share of the natural gap that the words alone reproduce; small is good
                      paraphrase           mean change of a positive's score, in natural gaps; small is good
                      masking, keywords    share of the AUROC above one half that is left; large is good
    control           the same figure where the words are random ones of equal frequency or number
    natural           AUROC of the unaltered positives against the unaltered negatives
    gap               mean score of positives minus that of what they are compared with, in units of the score
    auroc             injection, context: altered benign text against the same text unaltered (one half: no effect);
                      the others: positives against negatives after the alteration
    effect_size       Cohen's d of that comparison
    rank_correlation  Spearman's, of scores before and after a paraphrase
    words             the words that were injected, masked or looked for
    reading           one of READINGS

Figures are NaN where the reading is "too few".
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class FalsifierConfig:
    """Which falsifiers to run, on how much text, and where their limits lie."""

    falsifiers: tuple[Falsifier, ...] = FALSIFIERS
    """Which to run."""
    scorers: tuple[str, ...] = ("dense_logistic", "sae_k_sparse", "random_direction")
    """Probe sets of a study that are tested, by name."""
    n_features: int = 1
    """Single features that are tested beside them, the best of each indicator."""
    paraphrases: str = ""
    """File of paraphrases for a study of transcripts, a pair a line with a tab between; an organism has its own."""
    reading: Reading = "last"
    """Score of a passage from those of its tokens: of its last token, their mean, or the highest. A study reads as its
    probes were fitted: "last" on an organism, "mean" on transcripts."""
    n_passages: int = 60
    """Positives, look-alikes, other negatives and benign passages of an indicator, at most, each."""
    n_sections: int = 20
    """Whole texts that are read with the quoted evidence masked, of each class at most."""
    n_injected: int = 3
    """Words that are injected into a benign passage."""
    strategies: tuple[Strategy, ...] = ("append", "replace")
    """Where injected words go: behind the passage, before it, or in the place of words of it."""
    rank_by: tuple[Ranking, ...] = ("score", "lift")
    """Which words are injected: those that score highest, or those that go with the label."""
    n_masked: int = 6
    """Words most telling of the label that are masked."""
    n_keywords: int = 4
    """Words most telling of the label that count as keywords, beside those of the taxonomy."""
    top_share: float = 0.1
    """Share of the passages that count as top-scoring in the keyword overlap."""
    short_words: int = 6
    """A grafted phrase of at most so many words is judged; a longer one takes its meaning with it."""
    max_share: float = 0.5
    """Share of the gap that words alone may reproduce, and change under paraphrase, in a scorer that survives."""
    min_kept: float = 0.5
    """Share of the AUROC above one half that must be left in a scorer that survives."""
    min_auroc: float = 0.6
    """Lower end of the natural AUROC below which there is no signal to falsify."""
    min_positives: int = 5
    """Positives, and transcripts with one, below which nothing is said."""
    n_boot: int = 1000
    """Draws of the bootstrap over transcripts."""
    batch_tokens: int = 4096
    """Padded tokens of a forward pass."""
    seed: int = 0
    """Of every draw: passages, words, places and resamples."""

    def __post_init__(self) -> None:
        for name in ("n_passages", "n_sections", "n_injected", "n_masked", "n_keywords", "n_boot"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        for name in ("max_share", "min_kept", "top_share"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be between 0 and 1.")
        if not 0.5 <= self.min_auroc < 1:
            raise ConfigError(f"min_auroc is {self.min_auroc}; it must be from 0.5 to below 1.")
        if self.n_features < 0:
            raise ConfigError(f"n_features is {self.n_features}; it must be at least 0.")
        if self.min_positives < 2:
            raise ConfigError(f"min_positives is {self.min_positives}; it must be at least 2.")
