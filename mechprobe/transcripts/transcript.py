"""Conversations with their labels, as text: messages, spans of indicators, misaligned turns.

A turn is what follows one user message: several assistant messages (tool steps) may share it. Turn 0 is
what stands before the first user message. The counting is that of the paper's labels (arXiv 2606.24251).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from mechprobe.errors import DataError, LabelError

Role = Literal["system", "user", "assistant", "tool"]
Section = Literal["reasoning", "answer", "tool_call"]
Match = Literal["exact", "normalised", "other_turn", "given"]

ROLES: tuple[Role, ...] = get_args(Role)
SECTIONS: tuple[Section, ...] = get_args(Section)
MATCHES: tuple[Match, ...] = get_args(Match)


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolCall:
    """One call of a tool by the assistant."""

    name: str
    arguments: str = ""
    """As written by the model, usually JSON."""
    id: str | None = None
    """What the tool's message refers to in its `tool_call_id`."""

    @property
    def text(self) -> str:
        """The call as one line of text; spans of section "tool_call" refer to it."""
        return f"{self.name}: {self.arguments}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One message; `reasoning` and `tool_calls` belong to the assistant only."""

    role: Role
    content: str = ""
    """The visible text."""
    reasoning: str = ""
    """What the assistant thought before the visible text, without think tags."""
    tool_calls: tuple[ToolCall, ...] = ()
    turn: int = 0
    """How many user messages there are up to this one, itself included."""
    tool_call_id: str | None = None
    """The call that a tool message answers."""

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise DataError(f"a message has role {self.role!r}; it must be one of {list(ROLES)}.")
        if self.role != "assistant" and (self.reasoning or self.tool_calls):
            raise DataError(
                f"a {self.role} message has reasoning or tool calls; only the assistant may have them."
            )

    def text(self, section: Section) -> str:
        """The text that spans of `section` refer to; tool calls stand one after another, a line each."""
        if section == "reasoning":
            return self.reasoning
        if section == "answer":
            return self.content
        return "\n".join(call.text for call in self.tool_calls)


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """Where an indicator stands: characters `start` to `end` (excluded) of one section of one message."""

    indicator: str
    message: int
    """Index into the transcript's messages."""
    section: Section
    start: int
    end: int
    present: bool = True
    """False marks a hard negative: text that looks like the indicator and must not be flagged."""
    match: Match = "given"
    """How the labeller's quotation was found: exactly, by its words, or in another turn than named.
    "given": the labeller named the characters."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LostSpan:
    """What a labeller quoted and what was found nowhere in the transcript."""

    indicator: str
    turn: int
    """The turn that the labeller named; 0 if none."""
    text: str
    present: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Transcript:
    """One conversation with everything that is known about it.

    Raises:
        DataError: turns are not the count of user messages, or a score is not a finite number.
        LabelError: a span is outside its text, or a label names a turn without an assistant message.
    """

    id: str
    messages: tuple[Message, ...]
    spans: tuple[Span, ...] = ()
    lost_spans: tuple[LostSpan, ...] = ()
    turn_indicators: Mapping[int, frozenset[str]] = field(default_factory=dict[int, frozenset[str]])
    """Turn -> slugs of the indicators present, for the turns that were labelled."""
    misaligned_turns: frozenset[int] | None = None
    """None: no one judged the turns."""
    is_misaligned: bool | None = None
    """The transcript's label; follows from `misaligned_turns` where those are known."""
    group: str = ""
    """The scenario; transcripts of one group never stand on both sides of a split."""
    behavior: str = ""
    dataset: str = ""
    model: str = ""
    split: str = ""
    """"fit", "select", "test", empty, or a name of the user's."""
    excluded: bool = False
    """True: its labels are doubtful; it stays out of fitting and evaluation."""
    scores: Mapping[str, Mapping[int, float]] = field(
        default_factory=dict[str, Mapping[int, float]]
    )
    """Other people's scores: scorer -> turn -> score."""
    meta: Mapping[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        if not self.id:
            raise DataError("a transcript has an empty id; give each transcript its own.")
        if self.misaligned_turns is not None:
            object.__setattr__(self, "is_misaligned", bool(self.misaligned_turns))
        self._check_turns()
        for span in self.spans:
            check_span(span, self.messages, where=f"transcript {self.id!r}")
        self._check_labelled_turns()

    def _check_turns(self) -> None:
        for index, (message, numbered) in enumerate(
            zip(self.messages, number_turns(self.messages), strict=True)
        ):
            if message.turn != numbered.turn:
                raise DataError(
                    f"transcript {self.id!r}: message {index} ({message.role}) has turn "
                    f"{message.turn}, but {numbered.turn} user messages stand up to there; "
                    "number the messages with number_turns()."
                )

    def _check_labelled_turns(self) -> None:
        turns = set(self.turns)
        labelled = [("turn_indicators", self.turn_indicators)]
        labelled += [(f"scores[{scorer!r}]", scores) for scorer, scores in self.scores.items()]
        for name, keys in [*labelled, ("misaligned_turns", self.misaligned_turns or ())]:
            if lost := sorted(set(keys) - turns):
                raise LabelError(
                    f"transcript {self.id!r}: {name} names turn {lost[0]}, which has no assistant "
                    f"message; turns with one: {sorted(turns)}."
                )
        for scorer, scores in self.scores.items():
            for turn, score in scores.items():
                if not math.isfinite(score):
                    raise DataError(
                        f"transcript {self.id!r}: {scorer!r} scores turn {turn} as {score}; "
                        "leave out turns without a finite score."
                    )

    @property
    def turns(self) -> tuple[int, ...]:
        """Turns with an assistant message, in order."""
        return tuple(
            dict.fromkeys(message.turn for message in self.messages if message.role == "assistant")
        )

    @property
    def is_labelled(self) -> bool:
        """Whether indicators were looked for, even if none was found."""
        return bool(self.turn_indicators or self.spans or self.lost_spans)

    def assistant_messages(self, turn: int) -> tuple[int, ...]:
        """Indices of the assistant messages of a turn."""
        return tuple(
            index
            for index, message in enumerate(self.messages)
            if message.role == "assistant" and message.turn == turn
        )

    def indicators(self, turn: int) -> frozenset[str]:
        """Slugs of the indicators present in a turn; where the turn has no label, those of its spans."""
        if turn in self.turn_indicators:
            return self.turn_indicators[turn]
        spans = [(self.messages[span.message].turn, span.indicator) for span in self.present_spans]
        spans += [(span.turn, span.indicator) for span in self.lost_spans if span.present]
        return frozenset(slug for at, slug in spans if at == turn)

    @property
    def all_indicators(self) -> frozenset[str]:
        """Slugs of the indicators present anywhere."""
        found = [self.indicators(turn) for turn in {0, *self.turns}]
        return frozenset[str]().union(*found)

    @property
    def present_spans(self) -> tuple[Span, ...]:
        """Spans that hold their indicator (without the hard negatives)."""
        return tuple(span for span in self.spans if span.present)

    def span_text(self, span: Span) -> str:
        """The characters that a span marks."""
        return self.messages[span.message].text(span.section)[span.start : span.end]


def number_turns(messages: Iterable[Message]) -> tuple[Message, ...]:
    """The same messages with their turns counted."""
    turn = 0
    numbered: list[Message] = []
    for message in messages:
        turn += message.role == "user"
        numbered.append(message if message.turn == turn else replace(message, turn=turn))
    return tuple(numbered)


def check_span(span: Span, messages: Sequence[Message], *, where: str) -> None:
    """Raise LabelError unless the span marks at least one character of an existing text."""
    if not 0 <= span.message < len(messages):
        raise LabelError(
            f"{where}: a span of {span.indicator!r} stands in message {span.message}; there are "
            f"{len(messages)} messages, counted from 0."
        )
    if span.section not in SECTIONS or span.match not in MATCHES:
        raise LabelError(
            f"{where}: a span of {span.indicator!r} has section {span.section!r} and match "
            f"{span.match!r}; they must be among {list(SECTIONS)} and {list(MATCHES)}."
        )
    length = len(messages[span.message].text(span.section))
    if not 0 <= span.start < span.end <= length:
        raise LabelError(
            f"{where}: a span of {span.indicator!r} covers characters {span.start} to {span.end} of "
            f"the {span.section} of message {span.message}, which has {length} characters."
        )
