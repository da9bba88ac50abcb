"""How much free text a causal run writes; all of it goes into the run's record."""

from dataclasses import dataclass

from mechprobe.causal.writing.free_prompts import Where
from mechprobe.causal.writing.free_runs import Writing
from mechprobe.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class FreeTextConfig:
    """How much free text to write. The defaults take under a minute for 18 indicators of a small model."""

    outcome: str = "behavior"
    """Name of the outcome whose answers are read."""
    audit_outcome: str = "audit"
    """Name of the questions that accuracy is measured on; "" for none."""
    writing_hook: str = ""
    """Hook point at which the writing of a thought is steered; "": the block that does most on the select split."""
    target_kl: float = 0.05
    """Damage of steered writing, nats a token on neutral text; at .1 a fifth of a small model's texts break."""
    equal_kl: float = 0.1
    """Damage at which directions are compared at their site, nats a token on neutral text."""
    n_prompts: int = 48
    """Prompts before the reasoning, the same for all indicators."""
    n_select_prompts: int = 16
    """Prompts of the select split on which the hook point of writing is chosen."""
    n_site_prompts: int = 16
    """Prompts of each indicator and natural side that end after its thought."""
    n_random: int = 2
    """Random directions beside each direction in free text."""
    n_equal_random: int = 19
    """Random directions in the comparison at equal damage."""
    n_equal_pairs: int = 24
    """Pairs of each indicator in that comparison."""
    n_neutral: int = 8
    """Transcripts without any held indicator."""
    n_questions: int = 36
    """Questions about other indicators."""
    n_writing_transcripts: int = 600
    """Transcripts that writing directions are fitted on."""
    n_samples: int = 1
    """Texts of each prompt."""
    max_new_tokens: int = 64
    """Longest text."""
    n_most_changed: int = 5
    """Texts of each edit that are kept, the most changed ones."""
    seed: int = 0
    """Seed of texts and random directions."""

    def __post_init__(self) -> None:
        for name in (
            "n_prompts",
            "n_select_prompts",
            "n_site_prompts",
            "n_neutral",
            "n_equal_pairs",
            "n_samples",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1.")

    def writing(self, where: Where) -> Writing:
        """The settings of texts that are edited at some tokens."""
        return Writing(
            where=where,
            n_samples=self.n_samples,
            max_new_tokens=self.max_new_tokens,
            seed=self.seed,
        )
