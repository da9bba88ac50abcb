"""Which pairs a run uses, of which split, and as which cases."""

from collections.abc import Sequence
from dataclasses import dataclass

from mechprobe.causal.cases import Case, RenderedPair, natural_cases, render_pairs
from mechprobe.causal.config import CausalConfig
from mechprobe.errors import DataError
from mechprobe.models.subject import Subject
from mechprobe.transcripts.pairs import MatchedPair, Side


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ChosenPairs:
    """The pairs that choose the sites, and the ones that verdicts rest on."""

    select: list[RenderedPair]
    test: list[RenderedPair]

    @property
    def indicators(self) -> list[str]:
        """Indicators of the test pairs, in their order."""
        return list(dict.fromkeys(pair.indicator for pair in self.test))

    def of(self, indicator: str) -> list[RenderedPair]:
        """An indicator's test pairs."""
        return [pair for pair in self.test if pair.indicator == indicator]

    def cases(self, indicator: str, outcome: str) -> list[Case]:
        """An indicator's natural runs that have the outcome."""
        return natural_cases([pair for pair in self.of(indicator) if outcome in pair.outcomes])


def choose_pairs(
    subject: Subject, pairs: Sequence[MatchedPair], config: CausalConfig, *, needs_select: bool
) -> ChosenPairs:
    """Take the configured numbers of pairs and render them.

    Raises:
        DataError: a split is empty, or no outcome has the configured name.
        ShapeError: the sides of a pair have unequal numbers of tokens.
    """
    select = take_pairs(pairs, "select", config.n_select_pairs) if needs_select else []
    test = take_pairs(pairs, "test", config.n_test_pairs)
    if not test or (needs_select and not select):
        lacking = "test" if not test else "select"
        raise DataError(
            f"no matched pair has split {lacking!r} and an outcome; the {len(pairs)} pairs given have splits "
            f"{sorted({pair.split for pair in pairs})}. Assign splits to the pairs."
        )
    names = {outcome.name for pair in test for outcome in pair.outcomes}
    if config.behavior_outcome not in names:
        raise DataError(
            f"no pair has an outcome named {config.behavior_outcome!r}; they have {sorted(names)}. "
            "Set behavior_outcome to one of these."
        )
    return ChosenPairs(select=render_pairs(subject, select), test=render_pairs(subject, test))


def take_pairs(pairs: Sequence[MatchedPair], split: str, n: int) -> list[MatchedPair]:
    """Up to `n` pairs of each indicator, of both natural sides as far as they last."""
    by_indicator: dict[str, list[MatchedPair]] = {}
    for pair in pairs:
        if pair.split == split:
            by_indicator.setdefault(pair.indicator, []).append(pair)
    return [
        found[i]
        for found in by_indicator.values()
        for i in spread_over_sides([pair.natural for pair in found], n)
    ]


def spread_over_sides(natural: Sequence[Side], n: int) -> list[int]:
    """The numbers of up to `n` pairs, alternating between the natural sides as far as both last."""
    sides = [[i for i, one in enumerate(natural) if one == s] for s in ("positive", "negative")]
    longest = max(len(side) for side in sides)
    mixed = [side[rank] for rank in range(longest) for side in sides if rank < len(side)]
    return sorted(mixed[:n])
