"""Write transcripts as the paper's probe-training files, so that its code can fit probes to them.

Reading what was written gives equal transcripts, as far as the format has a place for what they hold; what it has none
for is counted.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mechprobe.records import atomic_write_text
from mechprobe.taxonomy import Indicator
from mechprobe.transcripts.asked import LABELLED_FOR, was_asked
from mechprobe.transcripts.labels import LabelReader
from mechprobe.transcripts.readers.inline_thinking import inline_text
from mechprobe.transcripts.readers.probe_training import (
    DATASET,
    META_KEYS,
    TrainingHeader,
    spans_of_message,
)
from mechprobe.transcripts.transcript import Span, Transcript


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingWritten:
    """What a file got."""

    n_transcripts: int
    n_deceptive: int
    n_spans: int
    left_out: Mapping[str, int]
    """What the transcripts have and the format has no place for, by reason."""


def write_probe_training(
    path: Path,
    transcripts: Iterable[Transcript],
    indicator: Indicator,
    *,
    header: TrainingHeader | None = None,
) -> TrainingWritten:
    """Write one indicator's file, whole or not at all.

    Where the words of a span also stand earlier in its message, or were given as characters, its place is written
    beside them (`span_places`), which the paper's code passes over.

    Args:
        header: what stands above the transcripts; None: what the taxonomy says of the indicator.

    Raises:
        DataError: a transcript has tool calls or tool messages, or think tags within its text.
    """
    left_out: Counter[str] = Counter()
    values = [_to_json(one, indicator.slug, left_out) for one in transcripts]
    head = header or TrainingHeader(
        indicator_name=indicator.name,
        indicator_definition=indicator.definition,
        indicator_category=indicator.group,
    )
    above = {name: text for name, text in asdict(head).items() if text}
    content = {**above, "transcripts": values}
    atomic_write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return TrainingWritten(
        n_transcripts=len(values),
        n_deceptive=sum(value["label"] == "deceptive" for value in values),
        n_spans=sum(len(one["spans"]) for value in values for one in value["per_turn_labels"]),
        left_out={reason: count for reason, count in sorted(left_out.items()) if count},
    )


def _to_json(transcript: Transcript, slug: str, left_out: Counter[str]) -> dict[str, Any]:
    _count_left_out(transcript, slug, left_out)
    has_it = slug in transcript.all_indicators
    is_bad = has_it if transcript.is_misaligned is None else transcript.is_misaligned
    labelled = set(transcript.turn_indicators or transcript.turns)
    if not (transcript.is_labelled and was_asked(transcript, [slug]).all()):
        labelled = set[int]()
    meta = {key: transcript.meta[key] for key in META_KEYS if key in transcript.meta}
    return {
        "id": transcript.id,
        "messages": [
            {
                "role": message.role,
                "content": inline_text(message, f"transcript {transcript.id!r}"),
            }
            for message in transcript.messages
        ],
        "label": "deceptive" if is_bad else "honest",
        "per_turn_labels": [
            _label(transcript, at, slug)
            for at, message in enumerate(transcript.messages)
            if message.role == "assistant" and message.turn in labelled
        ],
        **meta,
    }


def _label(transcript: Transcript, at: int, slug: str) -> dict[str, Any]:
    """The label of one assistant message; a turn's label without a span is given to all of its messages."""
    turn = transcript.messages[at].turn
    held = _is_held(transcript, at, slug)
    own = [span for span in transcript.spans if span.indicator == slug]
    spans = [span for span in own if span.message == at and span.present == held]
    is_first = transcript.assistant_messages(turn)[0] == at
    lost = [
        span.text
        for span in transcript.lost_spans
        if is_first and (span.indicator, span.turn, span.present) == (slug, turn, held)
    ]
    label: dict[str, Any] = {
        "turn_index": at,
        "has_indicator": held,
        "spans": [*map(transcript.span_text, spans), *lost],
    }
    keep = LabelReader(lost="keep")
    if spans and not lost:
        read = spans_of_message(label, at, transcript.messages, slug, keep)[0]
        if read != tuple(spans):
            label["span_places"] = [_place(span) for span in spans]
    return label


def _is_held(transcript: Transcript, at: int, slug: str) -> bool:
    """Whether a message holds the indicator: by its spans, or by its turn's label where no message has any."""
    turn = transcript.messages[at].turn
    found = [s for s in transcript.present_spans if s.indicator == slug]
    in_turn = {s.message for s in found if transcript.messages[s.message].turn == turn}
    return at in in_turn or (not in_turn and slug in transcript.indicators(turn))


def _place(span: Span) -> dict[str, Any]:
    return {
        "section": span.section,
        "start": span.start,
        "end": span.end,
        "match": span.match,
    }


def _count_left_out(transcript: Transcript, slug: str, left_out: Counter[str]) -> None:
    others = [span for span in transcript.spans if span.indicator != slug]
    left_out["span of another indicator"] += len(others)
    beside = [
        span
        for span in transcript.spans
        if span.indicator == slug and span.present != _is_held(transcript, span.message, slug)
    ]
    left_out["hard-negative span beside the indicator"] += len(beside)
    left_out["judge's scores"] += len(transcript.scores)
    left_out["judged turns"] += transcript.misaligned_turns is not None
    left_out["exclusion"] += transcript.excluded
    for name in ("behavior", "split"):
        left_out[name] += bool(getattr(transcript, name))
    left_out["data set"] += transcript.dataset not in ("", DATASET)
    for key in transcript.meta.keys() - {*META_KEYS, LABELLED_FOR}:
        left_out[f"meta {key}"] += 1
