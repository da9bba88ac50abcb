"""Where a labeller's quotation stands in a transcript: exact, else by its words alone.

Labellers (people and language models) drop markdown, change quotes and case, and quote from another turn:
of the published spans of arXiv 2606.24251 about three quarters are exact.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from mechprobe.transcripts.transcript import SECTIONS, Match, Message, Section, Span

_ESCAPE = r'\\+(?:u[0-9a-fA-F]{4}|["/bfnrt])?'
"""As JSON writes line ends and quotes in the arguments of tool calls; no part of a word."""
_WORD = re.compile(rf"{_ESCAPE}|([^\W_]+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Location:
    """Characters `start` to `end` (excluded) of one section of one message."""

    message: int
    section: Section
    start: int
    end: int
    match: Match

    def span(self, indicator: str, *, present: bool = True) -> Span:
        """The span of an indicator at this place."""
        return Span(
            indicator=indicator,
            message=self.message,
            section=self.section,
            start=self.start,
            end=self.end,
            present=present,
            match=self.match,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class WordText:
    """A text reduced to its case-folded words, which knows where each word stood."""

    folded: str
    """The words with one space before, between and after them."""
    folded_starts: Sequence[int]
    starts: Sequence[int]
    ends: Sequence[int]

    @classmethod
    def of(cls, text: str) -> "WordText":
        """Reduce a text."""
        words = [match for match in _WORD.finditer(text) if match[1]]
        folded, folded_starts, length = [""], list[int](), 1
        for word in words:
            folded.append(word[1].casefold())
            folded_starts.append(length)
            length += len(folded[-1]) + 1
        return cls(
            folded=" ".join([*folded, ""]),
            folded_starts=folded_starts,
            starts=[word.start() for word in words],
            ends=[word.end() for word in words],
        )

    def find(self, quote: "WordText") -> tuple[int, int] | None:
        """Character bounds, in the original text, of the first place with the quote's words."""
        if not quote.starts:
            return None
        at = self.folded.find(quote.folded)
        if at < 0:
            return None
        first = bisect_left(self.folded_starts, at)
        last = bisect_right(self.folded_starts, at + len(quote.folded) - 2) - 1
        return self.starts[first], self.ends[last]


class QuoteFinder:
    """Finds quotations in the assistant's texts of one transcript; keeps what it prepared."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self._messages = messages
        self._turns = {
            turn: tuple(indices)
            for turn, indices in groupby(
                (i for i, message in enumerate(messages) if message.role == "assistant"),
                key=lambda index: messages[index].turn,
            )
        }
        self._words: dict[tuple[int, Section], WordText] = {}

    def find(self, quote: str, *, turn: int | None = None) -> Location | None:
        """The first place of a quotation: exact, then by words, each in reasoning, answer, tool call.

        Args:
            turn: where to look first; the other turns follow, the nearest first, and what is found there
                is marked "other_turn". None looks at all turns alike.
        """
        if not quote.strip():
            return None
        if turn is None:
            return self._find_in([i for indices in self._turns.values() for i in indices], quote)
        found = self._find_in(self._turns.get(turn, ()), quote)
        if found is not None:
            return found
        for other in sorted(self._turns.keys() - {turn}, key=lambda at: (abs(at - turn), at)):
            found = self._find_in(self._turns[other], quote)
            if found is not None:
                return Location(
                    message=found.message,
                    section=found.section,
                    start=found.start,
                    end=found.end,
                    match="other_turn",
                )
        return None

    def _find_in(self, indices: Sequence[int], quote: str) -> Location | None:
        places: list[tuple[int, Section]] = [(i, section) for section in SECTIONS for i in indices]
        for index, section in places:
            start = self._messages[index].text(section).find(quote)
            if start >= 0:
                return _location(index, section, (start, start + len(quote)), "exact")
        words = WordText.of(quote)
        for index, section in places:
            bounds = self._words_of(index, section).find(words)
            if bounds is not None:
                return _location(index, section, bounds, "normalised")
        return None

    def _words_of(self, index: int, section: Section) -> WordText:
        if (index, section) not in self._words:
            self._words[index, section] = WordText.of(self._messages[index].text(section))
        return self._words[index, section]


def locate(messages: Sequence[Message], turn: int | None, quote: str) -> Location | None:
    """The first place of one quotation (`QuoteFinder` is faster for several); None if there is none."""
    return QuoteFinder(messages).find(quote, turn=turn)


def _location(index: int, section: Section, bounds: tuple[int, int], match: Match) -> Location:
    return Location(message=index, section=section, start=bounds[0], end=bounds[1], match=match)
