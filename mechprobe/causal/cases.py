"""Matched pairs as token sequences: where the span stands, where each outcome is read, which tokens count.

A *case* is one run of the model: one side of a pair, with the other side as its partner. Verdicts use the natural
side of every pair, so each pair gives one case; the site sweep uses both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
from jaxtyping import Int

from mechprobe.errors import DataError, LabelError, ShapeError
from mechprobe.models.rendering import SECTIONS, Rendering
from mechprobe.models.subject import Subject
from mechprobe.transcripts.pairs import MatchedPair, Outcome, Side
from mechprobe.transcripts.transcript import Message, Transcript

SIDES: tuple[Side, ...] = get_args(Side)
ANSWER = SECTIONS.index("answer")
REASONING = SECTIONS.index("reasoning")


@dataclass(frozen=True, kw_only=True, slots=True)
class OutcomeTokens:
    """The first tokens of the answers that an outcome counts."""

    bad: tuple[int, ...]
    good: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ReadPoint:
    """Where one outcome is read in one sequence."""

    at: int
    """Position of the token before the answer."""
    lead: tuple[int, ...]
    """The tokens between the reasoning and the answer, by which an answer is found in free text."""
    stop: int | None
    """The token after the answer."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RenderedSide:
    """One side of a pair as the model reads it."""

    token_ids: Int[np.ndarray, "tok"]
    span_tokens: Int[np.ndarray, "span_tok"]
    reads: Mapping[str, ReadPoint]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RenderedPair:
    """A matched pair as the model reads it."""

    id: str
    indicator: str
    cluster: str
    """The natural transcript, which is the unit of resampling."""
    natural: Side
    split: str
    partners: Mapping[str, bool]
    sides: Mapping[Side, RenderedSide]
    outcomes: Mapping[str, OutcomeTokens]
    regenerable: frozenset[str]
    """Outcomes whose answer ends the message in whose reasoning the span stands."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Case:
    """One run: a side of a pair, to be moved towards the other side."""

    pair: RenderedPair
    side: Side

    @property
    def own(self) -> RenderedSide:
        """The side that is run."""
        return self.pair.sides[self.side]

    @property
    def partner(self) -> RenderedSide:
        """The side that it is moved towards."""
        return self.flipped.own

    @property
    def flipped(self) -> "Case":
        """The run of the other side: the same text with the thought flipped."""
        return Case(pair=self.pair, side="negative" if self.side == "positive" else "positive")


def natural_cases(pairs: Sequence[RenderedPair]) -> list[Case]:
    """The naturally occurring side of each pair."""
    return [Case(pair=pair, side=pair.natural) for pair in pairs]


def render_pairs(subject: Subject, pairs: Sequence[MatchedPair]) -> list[RenderedPair]:
    """Tokenise both sides of every pair.

    Raises:
        ShapeError: the sides of a pair, or their spans, have unequal numbers of tokens.
        DataError: a good and a bad answer of an outcome start with the same token.
        LabelError: a span was dropped by the chat template, or an answer is empty.
    """
    first_tokens: dict[tuple[str, str], int] = {}
    return [_render_pair(subject, pair, first_tokens) for pair in pairs]


def _render_pair(
    subject: Subject, pair: MatchedPair, first_tokens: dict[tuple[str, str], int]
) -> RenderedPair:
    positive, negative = subject.render(pair.positive), subject.render(pair.negative)
    spans = positive.tokens_of(pair.span), negative.tokens_of(pair.negative_span)
    if len(positive.token_ids) != len(negative.token_ids) or len(spans[0]) != len(spans[1]):
        raise ShapeError(
            f"pair {pair.id!r}: its sides have {len(positive.token_ids)} and "
            f"{len(negative.token_ids)} tokens, its spans {len(spans[0])} and {len(spans[1])}; patching "
            "needs equal numbers (reword one side)."
        )
    natural = pair.positive if pair.natural == "positive" else pair.negative
    sides: dict[Side, RenderedSide] = {
        "positive": _render_side(positive, spans[0], pair.outcomes),
        "negative": _render_side(negative, spans[1], pair.outcomes),
    }
    return RenderedPair(
        id=pair.id,
        indicator=pair.indicator,
        cluster=natural.id,
        natural=pair.natural,
        split=pair.split,
        partners=pair.partners,
        sides=sides,
        outcomes={
            outcome.name: _outcome_tokens(subject, natural, outcome, first_tokens)
            for outcome in pair.outcomes
        },
        regenerable=frozenset(
            outcome.name
            for outcome in pair.outcomes
            if outcome.message == pair.span.message and pair.span.section == "reasoning"
        ),
    )


def _render_side(
    rendering: Rendering, span_tokens: Int[np.ndarray, "span_tok"], outcomes: Sequence[Outcome]
) -> RenderedSide:
    return RenderedSide(
        token_ids=rendering.token_ids,
        span_tokens=span_tokens,
        reads={outcome.name: _read_point(rendering, outcome) for outcome in outcomes},
    )


def _read_point(rendering: Rendering, outcome: Outcome) -> ReadPoint:
    in_message = rendering.message == outcome.message
    answer = np.flatnonzero(in_message & (rendering.section == ANSWER))
    if len(answer) == 0 or answer[0] == 0:
        raise LabelError(
            f"transcript {rendering.transcript_id!r}: outcome {outcome.name!r} is read before the answer "
            f"of message {outcome.message}, which has no answer tokens; give that message content."
        )
    first, last = int(answer[0]), int(answer[-1])
    reasoning = np.flatnonzero(in_message & (rendering.section == REASONING))
    lead = rendering.token_ids[int(reasoning[-1]) + 1 : first] if len(reasoning) else ()
    has_next = last + 1 < len(rendering.token_ids)
    return ReadPoint(
        at=first - 1,
        lead=tuple(int(token) for token in lead),
        stop=int(rendering.token_ids[last + 1]) if has_next else None,
    )


def _outcome_tokens(
    subject: Subject,
    transcript: Transcript,
    outcome: Outcome,
    first_tokens: dict[tuple[str, str], int],
) -> OutcomeTokens:
    """The first token of each answer, taken from the chat template itself: a leading space may matter."""
    for word in (*outcome.bad, *outcome.good):
        key = outcome.name, word
        if key not in first_tokens:
            first_tokens[key] = _first_token(subject, transcript, outcome, word)
    bad = tuple(sorted({first_tokens[outcome.name, word] for word in outcome.bad}))
    good = tuple(sorted({first_tokens[outcome.name, word] for word in outcome.good}))
    if set(bad) & set(good):
        raise DataError(
            f"outcome {outcome.name!r}: a bad answer {outcome.bad} and a good answer {outcome.good} start "
            "with the same token; choose answers whose first tokens differ."
        )
    return OutcomeTokens(bad=bad, good=good)


def _first_token(subject: Subject, transcript: Transcript, outcome: Outcome, word: str) -> int:
    messages = list(transcript.messages[: outcome.message + 1])
    old = messages[outcome.message]
    messages[outcome.message] = Message(
        role=old.role, content=word, reasoning=old.reasoning, turn=old.turn
    )
    answered = replace(
        transcript,
        messages=tuple(messages),
        spans=(),
        lost_spans=(),
        turn_indicators={},
        misaligned_turns=None,
        scores={},
    )
    rendering = subject.render(answered)
    in_answer = (rendering.message == outcome.message) & (rendering.section == ANSWER)
    return int(rendering.token_ids[np.flatnonzero(in_answer)[0]])
