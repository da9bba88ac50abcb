"""Sizes, outcomes and thresholds of a causal run; all of it goes into the run's record."""

from dataclasses import dataclass, field

from mechprobe.causal.effects import BATCH_TOKENS
from mechprobe.causal.places.sites import POSITIONS, Position
from mechprobe.causal.verdicts.verdict import VerdictRule
from mechprobe.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class CausalConfig:
    """How much to measure. The defaults judge 18 indicators of a small model in about a minute on two cores."""

    behavior_outcome: str = "behavior"
    """Name of the outcome that verdicts are about."""
    audit_outcome: str = "audit"
    """Name of the positive control: a question whose answer the thought must move; "" if there is none."""
    unrelated_outcome: str = "unrelated"
    """Name of the negative control: an outcome that the thought must not move; "" if there is none."""
    hook_names: tuple[str, ...] = ()
    """Hook points of the site sweep; empty: what enters the first block and what each block puts out."""
    positions: tuple[Position, ...] = POSITIONS
    """Tokens of the site sweep, relative to the span."""
    n_select_pairs: int = 10
    """Pairs of each indicator in the site sweep."""
    n_map_pairs: int = 6
    """Pairs of each indicator in the exploratory maps of parts and heads."""
    n_test_pairs: int = 48
    """Pairs of each indicator that its verdict rests on."""
    n_fit_spans: int = 300
    """Spans of each indicator and label that its direction is fitted on."""
    n_replicates: int = 2
    """Further fits of each direction (other halves of the spans, SAEs of other seeds): does the verdict stand?"""
    n_random: int = 100
    """Operation-matched random directions; 19 are the least that can reach p = .05."""
    n_covariance_matched: int = 2
    """Random directions drawn as the activations vary; reported beside the null."""
    n_shuffled: int = 6
    """Directions fitted to permuted labels."""
    n_fragility: int = 2
    """Random directions for the shove of the real one's length."""
    with_other_indicators: bool = True
    """Whether each indicator's pairs also get the other indicators' directions (the effect matrix)."""
    strengths: tuple[float, ...] = (-2.0, -1.5, -1.0, -0.5, 0.5, 1.0, 1.5, 2.0)
    """Doses of steering, in natural gaps; below 0 where the indicator is held, above 0 where it is not."""
    n_dose_pairs: int = 32
    """Pairs of each indicator in the dose curve."""
    n_dose_random: int = 3
    """Random directions in the dose curve."""
    n_neutral: int = 16
    """Transcripts without any held indicator on which steering's damage (KL) is measured."""
    n_resampled_pairs: int = 40
    """Pairs whose later text is written anew, where an indicator has no effect with the text fixed."""
    n_samples: int = 2
    """Generations of each side of such a pair."""
    max_new_tokens: int = 96
    """Longest generation."""
    n_boot: int = 2000
    """Bootstrap resamples of an interval."""
    n_permutations: int = 5000
    """Sign flips of a test."""
    batch_tokens: int = BATCH_TOKENS
    """Tokens of one forward pass."""
    seed: int = 0
    """Seed of the random directions, resamples and generations."""
    rule: VerdictRule = field(default_factory=VerdictRule)
    """Thresholds of the verdicts."""

    def __post_init__(self) -> None:
        least = round(1 / self.rule.alpha) - 1
        if self.n_random < least:
            raise ConfigError(
                f"n_random is {self.n_random}; with fewer than {least} random directions no effect can reach "
                f"p = {self.rule.alpha}."
            )
        below = [strength for strength in self.strengths if -1 <= strength < 0]
        above = [strength for strength in self.strengths if 0 < strength <= 1]
        if 1.0 not in above or min(len(below), len(above)) < 2:
            raise ConfigError(
                f"strengths are {self.strengths}; 1 must be among them (one natural gap), and two or more in "
                "[-1, 0) and in (0, 1], or no dose curve can be seen to rise."
            )
        if self.n_test_pairs < 2 * self.rule.min_items:
            raise ConfigError(
                f"n_test_pairs is {self.n_test_pairs}; at least {2 * self.rule.min_items} are needed to fill "
                f"two strata of min_items = {self.rule.min_items}."
            )
