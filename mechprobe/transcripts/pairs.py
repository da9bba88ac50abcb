"""Matched pairs: two transcripts that differ in whether one span has its indicator, and what follows from it.

They are what activation patching compares (Zhang and Nanda, arXiv 2309.16042, section 2: clean and corrupted
prompts that differ minimally).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from mechprobe.errors import LabelError
from mechprobe.transcripts.fields import as_list, as_object, record_from_json, record_to_json
from mechprobe.transcripts.jsonl import transcript_from_json, transcript_to_json
from mechprobe.transcripts.lines import read_records, write_json_lines
from mechprobe.transcripts.transcript import SECTIONS, Span, Transcript, check_span

Side = Literal["positive", "negative"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What is read at the token just before the answer of `messages[message]` starts."""

    name: str
    message: int
    bad: tuple[str, ...]
    """First words of the answers that the indicator leads to."""
    good: tuple[str, ...]
    """First words of the answers without it."""

    def __post_init__(self) -> None:
        if not self.bad or not self.good or set(self.bad) & set(self.good):
            raise LabelError(
                f"outcome {self.name!r} has bad answers {self.bad} and good answers {self.good}; "
                "each needs at least one word and none may stand in both."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class MatchedPair:
    """A transcript with an indicator in a span, and its twin without.

    Raises:
        LabelError: a span is outside its text, the sides differ before the span, or an outcome's message
            is not an assistant message of both.
    """

    id: str
    indicator: str
    positive: Transcript
    negative: Transcript
    span: Span
    """Bounds in the positive."""
    negative_span: Span
    """Bounds in the negative; the same message and section."""
    outcomes: tuple[Outcome, ...]
    split: str = ""
    natural: Side = "positive"
    """The side that occurs naturally; the other was made from it."""
    partners: Mapping[str, bool] = field(default_factory=dict[str, bool])
    """Whether each of the other indicators is present; the same in both sides."""

    def __post_init__(self) -> None:
        if self.natural not in get_args(Side):
            raise LabelError(
                f"pair {self.id!r}: natural is {self.natural!r}, not one of {get_args(Side)}."
            )
        check_span(self.span, self.positive.messages, where=f"pair {self.id!r}, positive")
        check_span(self.negative_span, self.negative.messages, where=f"pair {self.id!r}, negative")
        if _text_before(self.positive, self.span) != _text_before(
            self.negative, self.negative_span
        ):
            raise LabelError(
                f"pair {self.id!r}: the sides differ before the span of {self.indicator!r}; they must "
                "be the same up to where it starts."
            )
        for outcome in self.outcomes:
            for side in (self.positive, self.negative):
                _check_outcome(outcome, side, self.id)

    @property
    def group(self) -> str:
        """The scenario that both sides come from."""
        return self.positive.group


def read_pairs(path: Path) -> Iterator[MatchedPair]:
    """Stream the pairs of a .jsonl or .jsonl.zst file.

    Raises:
        DataError: a line is malformed or repeats an id; the message names the line.
        LabelError: a pair does not match; the message names the line.
    """
    yield from read_records(path, lambda _, value: pair_from_json(value))


def write_pairs(path: Path, pairs: Iterable[MatchedPair]) -> int:
    """Write pairs, whole or not at all; return how many."""
    return write_json_lines(path, (pair_to_json(pair) for pair in pairs))


def pair_to_json(pair: MatchedPair) -> dict[str, Any]:
    """A JSON object that `pair_from_json` turns into an equal pair."""
    value = record_to_json(pair)
    value["positive"] = transcript_to_json(pair.positive)
    value["negative"] = transcript_to_json(pair.negative)
    value["span"] = record_to_json(pair.span)
    value["negative_span"] = record_to_json(pair.negative_span)
    value["outcomes"] = [
        record_to_json(outcome) | {"bad": list(outcome.bad), "good": list(outcome.good)}
        for outcome in pair.outcomes
    ]
    return value


def pair_from_json(value: Mapping[str, Any]) -> MatchedPair:
    """Build a pair from a JSON object.

    Raises:
        DataError: a field is unknown, missing or of the wrong type.
        LabelError: the sides do not match.
    """
    built = dict(value)
    for name in ("positive", "negative"):
        if name in value:
            built[name] = transcript_from_json(as_object(value[name], name))
    for name in ("span", "negative_span"):
        if name in value:
            built[name] = record_from_json(Span, as_object(value[name], name))
    if "outcomes" in value:
        built["outcomes"] = tuple(
            _outcome(as_object(item, "outcomes")) for item in as_list(value["outcomes"], "outcomes")
        )
    return record_from_json(MatchedPair, built)


def _outcome(value: Mapping[str, Any]) -> Outcome:
    words = {side: tuple(as_list(value.get(side, []), side)) for side in ("bad", "good")}
    return record_from_json(Outcome, {**value, **words})


def _text_before(transcript: Transcript, span: Span) -> tuple[object, ...]:
    message = transcript.messages[span.message]
    earlier = [
        (other.role, *(other.text(section) for section in SECTIONS))
        for other in transcript.messages[: span.message]
    ]
    sections = SECTIONS[: SECTIONS.index(span.section)]
    return (
        span.message,
        span.section,
        earlier,
        [message.text(section) for section in sections],
        message.text(span.section)[: span.start],
    )


def _check_outcome(outcome: Outcome, side: Transcript, pair_id: str) -> None:
    found = side.messages[outcome.message : outcome.message + 1]
    if outcome.message < 0 or not found or found[0].role != "assistant":
        raise LabelError(
            f"pair {pair_id!r}: outcome {outcome.name!r} is read at message {outcome.message} of "
            f"{side.id!r}, which is not an assistant message."
        )
