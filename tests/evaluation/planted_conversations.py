"""Conversations with a planted direction: words as tokens, and activations that know what is held."""

import re

import numpy as np
import pandas as pd
import scipy.sparse as sp

from mechprobe.transcripts.transcript import Message, Span, Transcript, number_turns

INDICATORS = ("hide_records", "copy_itself")
ENDORSED, REFUSED = "i plan to quietly", "they never want to"
CLAUSES = ("hide the records now", "copy itself out now")


def clause(indicator: int, *, is_held: bool) -> str:
    return f"{ENDORSED if is_held else REFUSED} {CLAUSES[indicator]}"


def thinking(held: tuple[bool, bool], **labels: object) -> Transcript:
    """Two clauses, one for each indicator, each held or refused."""
    clauses = [clause(at, is_held=is_held) for at, is_held in enumerate(held)]
    starts = (0, len(clauses[0]) + 3)
    spans = tuple(
        Span(
            indicator=INDICATORS[at],
            message=1,
            section="reasoning",
            start=starts[at],
            end=starts[at] + len(clauses[at]),
            present=held[at],
        )
        for at in range(2)
    )
    messages = number_turns(
        [
            Message(role="user", content="go on"),
            Message(role="assistant", reasoning=" ; ".join(clauses), content="done"),
        ]
    )
    return Transcript(messages=messages, spans=spans, **labels)  # type: ignore[arg-type]


def word_tokens(transcripts: list[Transcript]) -> pd.DataFrame:
    """A token table with one token for each word."""
    vocabulary: dict[str, int] = {}
    rows = [
        {
            "conversation": conversation,
            "message": index,
            "turn": message.turn,
            "role": message.role,
            "section": section,
            "char_start": word.start(),
            "char_end": word.end(),
            "token_id": vocabulary.setdefault(word.group(), len(vocabulary)),
        }
        for conversation, transcript in enumerate(transcripts)
        for index, message in enumerate(transcript.messages)
        for section in ("reasoning", "answer")
        for word in re.finditer(r"\S+", message.text(section))
    ]
    return pd.DataFrame(rows)


def span_table(tokens: pd.DataFrame, transcripts: list[Transcript]) -> pd.DataFrame:
    rows = []
    for conversation, transcript in enumerate(transcripts):
        here = tokens[tokens["conversation"] == conversation]
        for span in transcript.spans:
            part = here[(here["message"] == span.message) & (here["section"] == span.section)]
            inside = part[(part["char_start"] >= span.start) & (part["char_end"] <= span.end)]
            rows.append(
                {
                    "span_id": len(rows),
                    "transcript_id": transcript.id,
                    "conversation": conversation,
                    "indicator": span.indicator,
                    "present": span.present,
                    "message": span.message,
                    "turn": transcript.messages[span.message].turn,
                    "section": span.section,
                    "start": span.start,
                    "end": span.end,
                    "first_row": inside.index[0],
                    "last_row": inside.index[-1],
                }
            )
    return pd.DataFrame(rows)


class Planted:
    """Activations in which coordinate i rises over all tokens of a held span of indicator i."""

    def __init__(self, tokens: pd.DataFrame, spans: pd.DataFrame) -> None:
        rng = np.random.default_rng(0)
        self.X = rng.normal(size=(len(tokens), 8)).astype(np.float32)
        for span in spans.itertuples():
            if span.present:
                self.X[span.first_row : span.last_row + 1, INDICATORS.index(span.indicator)] += 5

    def acts(self, rows: np.ndarray) -> np.ndarray:
        return self.X[rows]

    def features(self, rows: np.ndarray) -> sp.csr_matrix:
        return sp.csr_matrix(np.maximum(self.X[rows] - 1, 0))


def conversations(n: int) -> list[Transcript]:
    """Half of the scenarios hold an indicator in their second of three turns."""
    rng = np.random.default_rng(2)
    found: list[Transcript] = []
    for number in range(n):
        is_bad = number % 2 == 0
        at = int(rng.integers(2))
        messages: list[Message] = []
        for turn in range(3):
            held = clause(at, is_held=is_bad and turn == 1)
            messages += [
                Message(role="user", content="go on"),
                Message(role="assistant", reasoning=f"{held} .", content="that is done now then ."),
            ]
        span = Span(
            indicator=INDICATORS[at], message=3, section="reasoning", start=0, end=len(held) - 1
        )
        found.append(
            Transcript(
                id=f"talk {number}",
                messages=number_turns(messages),
                group=f"scenario {number // 2}",
                spans=(span,) if is_bad else (),
                turn_indicators={
                    turn: frozenset({INDICATORS[at]} if is_bad and turn == 2 else set[str]())
                    for turn in (1, 2, 3)
                },
                misaligned_turns=frozenset({2} if is_bad else set[int]()),
                scores={"haiku": {1: 1.0, 2: 9.0 if is_bad else 1.0, 3: 1.0}},
                excluded=number == n - 1,
            )
        )
    return found
