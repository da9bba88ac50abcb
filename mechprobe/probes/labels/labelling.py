"""What a probe is taught: which tokens are positive, which negative, and how the two are balanced.

The defaults are the rule by which the published probes of arXiv 2606.24251 were really fitted (their stored
training settings, not their read-me): positive are the tokens of spans in the reasoning; negative is every
assistant token of a turn without the indicator, reasoning or not; the rest of a positive turn is left out; no
class weights.
"""

from dataclasses import dataclass
from typing import Literal

from mechprobe.errors import ConfigError
from mechprobe.transcripts.transcript import SECTIONS, Section


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelRule:
    """How labelled text becomes labelled tokens."""

    mode: Literal["span", "turn"] = "span"
    """"span": the tokens of an indicator's spans are positive; "turn": all of a turn that has it."""
    positives: tuple[Section, ...] = ("reasoning",)
    """Sections whose tokens may be positive; spans elsewhere are left out."""
    rest_of_turn: Literal["left_out", "negative"] = "left_out"
    """What the other tokens of a turn with the indicator are."""
    balance: Literal["none", "draw", "weights"] = "none"
    """"draw" leaves out negatives of each indicator by chance until they are `negatives_per_positive`; "weights"
    keeps all and lets both classes of an indicator count the same."""
    negatives_per_positive: float = 1.0
    """For balance "draw"."""

    def __post_init__(self) -> None:
        if not self.positives or set(self.positives) - set(SECTIONS):
            raise ConfigError(
                f"positives is {self.positives}; name at least one of {', '.join(SECTIONS)}."
            )
        if not self.negatives_per_positive > 0:
            raise ConfigError(
                f"negatives_per_positive is {self.negatives_per_positive}; it must be > 0 (1.0 gives "
                "as many negatives as positives)."
            )


ANYWHERE = LabelRule(positives=SECTIONS)
"""The paper's rule, but for spans in the answer and in tool calls as well."""
