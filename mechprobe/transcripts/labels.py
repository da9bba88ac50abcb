"""From a labeller's words to labels: names to slugs, quotations to spans, truth words to true or false."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from mechprobe.errors import LabelError
from mechprobe.taxonomy import Taxonomy, load_taxonomy
from mechprobe.transcripts.locate import QuoteFinder
from mechprobe.transcripts.transcript import LostSpan, Message, Span

LostPolicy = Literal["keep", "error"]

_TRUE = {"1", "1.0", "true", "yes", "misaligned", "deceptive", "dishonest", "positive", "harmful"}
_FALSE = {"0", "0.0", "false", "no", "benign", "honest", "aligned", "negative", "harmless", "none"}
_EMPTY = {"", "nan", "null"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Quote:
    """What a labeller quoted as (not) holding an indicator."""

    indicator: str
    text: str
    turn: int | None = None
    """None: the labeller named no turn."""
    present: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelReader:
    """How a reader takes labels, and the count of what it had to leave out."""

    taxonomy: Taxonomy = field(default_factory=load_taxonomy)
    lost: LostPolicy = "error"
    """What to do with a quotation that is found nowhere: keep it as a LostSpan, or raise."""
    left_out: Counter[str] = field(default_factory=Counter[str])
    """Reason -> how often."""

    def slug(self, name: str) -> str:
        """The slug of an indicator's name; LabelError with near names if there is none."""
        return self.taxonomy.find(name).slug

    def place(
        self, messages: Sequence[Message], quotes: Iterable[Quote]
    ) -> tuple[tuple[Span, ...], tuple[LostSpan, ...]]:
        """The spans of quotations, and those that are lost; the same span twice is left out.

        Raises:
            LabelError: a quotation is found nowhere, and `lost` is "error".
        """
        finder = QuoteFinder(messages)
        spans: dict[Span, Span] = {}
        lost: list[LostSpan] = []
        for quote in quotes:
            slug = self.slug(quote.indicator)
            place = finder.find(quote.text, turn=quote.turn)
            if place is None:
                lost.append(self._lost(quote, slug))
                continue
            span = place.span(slug, present=quote.present)
            here = replace(span, match="given")
            if here in spans:
                self.left_out["quotation repeated in the same place"] += 1
            if here not in spans or spans[here].match == "other_turn":
                spans[here] = span
        return tuple(spans.values()), tuple(lost)

    def _lost(self, quote: Quote, slug: str) -> LostSpan:
        if self.lost == "error":
            turn = "any turn" if quote.turn is None else f"turn {quote.turn} or another"
            raise LabelError(
                f"the span {quote.text[:80]!r} of {slug!r} is not in the assistant's text of {turn}; "
                'mend the quotation, or import with lost="keep" to keep and count such spans.'
            )
        return LostSpan(
            indicator=slug, turn=quote.turn or 0, text=quote.text, present=quote.present
        )


def is_truth(value: object) -> bool:
    """Whether a value is a word for true, false or unknown."""
    return _word(value) in _TRUE | _FALSE | _EMPTY


def parse_truth(value: object) -> bool | None:
    """Whether a label says misaligned; None where it is empty.

    Raises:
        LabelError: the label is no word for true or false.
    """
    word = _word(value)
    if word in _EMPTY:
        return None
    if word not in _TRUE | _FALSE:
        raise LabelError(
            f"the label {value!r} is neither of the words for misaligned ({', '.join(sorted(_TRUE))}) "
            f"nor of those for not ({', '.join(sorted(_FALSE))})."
        )
    return word in _TRUE


def _word(value: object) -> str:
    return "" if value is None else str(value).strip().lower()
