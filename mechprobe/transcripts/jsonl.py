"""The native format: one transcript a line, fields at their defaults left out, exact round trip."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mechprobe.transcripts.fields import (
    as_list,
    as_object,
    as_score,
    as_text,
    as_turn,
    record_from_json,
    record_to_json,
)
from mechprobe.transcripts.lines import read_records, write_json_lines
from mechprobe.transcripts.transcript import (
    LostSpan,
    Message,
    Span,
    ToolCall,
    Transcript,
    number_turns,
)


def read_transcripts(path: Path) -> Iterator[Transcript]:
    """Stream the transcripts of a .jsonl or .jsonl.zst file.

    Raises:
        DataError: a line is malformed or repeats an id; the message names the line.
        LabelError: a label does not fit its transcript; the message names the line.
    """
    yield from read_records(path, lambda _, value: transcript_from_json(value))


def write_transcripts(path: Path, transcripts: Iterable[Transcript]) -> int:
    """Write transcripts, whole or not at all; return how many."""
    return write_json_lines(path, (transcript_to_json(item) for item in transcripts))


def transcript_to_json(transcript: Transcript) -> dict[str, Any]:
    """A JSON object that `transcript_from_json` turns into an equal transcript."""
    value = record_to_json(transcript)
    value["messages"] = [_message_to_json(message) for message in transcript.messages]
    for name in ("spans", "lost_spans"):
        if name in value:
            value[name] = [record_to_json(span) for span in value[name]]
    if transcript.misaligned_turns is not None:
        value["misaligned_turns"] = sorted(transcript.misaligned_turns)
        del value["is_misaligned"]
    if transcript.turn_indicators:
        value["turn_indicators"] = {
            str(turn): sorted(slugs) for turn, slugs in sorted(transcript.turn_indicators.items())
        }
    if transcript.scores:
        value["scores"] = {
            scorer: {str(turn): score for turn, score in sorted(scores.items())}
            for scorer, scores in sorted(transcript.scores.items())
        }
    if transcript.meta:
        value["meta"] = dict(sorted(transcript.meta.items()))
    return value


def transcript_from_json(value: Mapping[str, Any]) -> Transcript:
    """Build a transcript from a JSON object; turns are counted where no message states its own.

    Raises:
        DataError: a field is unknown, missing or of the wrong type.
        LabelError: a label does not fit the messages.
    """
    built = dict(value)
    if "messages" in value:
        built["messages"] = _messages(as_list(value["messages"], "messages"))
    for name, kind in (("spans", Span), ("lost_spans", LostSpan)):
        built[name] = tuple(
            record_from_json(kind, as_object(item, name))
            for item in as_list(value.get(name, []), name)
        )
    if value.get("misaligned_turns") is not None:
        turns = as_list(value["misaligned_turns"], "misaligned_turns")
        built["misaligned_turns"] = frozenset(as_turn(turn) for turn in turns)
    built["turn_indicators"] = {
        as_turn(turn): frozenset(as_text(slug, "turn_indicators") for slug in as_list(slugs, turn))
        for turn, slugs in _object_at(value, "turn_indicators").items()
    }
    built["scores"] = {
        scorer: {as_turn(turn): as_score(score) for turn, score in as_object(of, scorer).items()}
        for scorer, of in _object_at(value, "scores").items()
    }
    built["meta"] = {key: as_text(text, key) for key, text in _object_at(value, "meta").items()}
    return record_from_json(Transcript, built)


def _message_to_json(message: Message) -> dict[str, Any]:
    value = record_to_json(message)
    if message.tool_calls:
        value["tool_calls"] = [record_to_json(call) for call in message.tool_calls]
    return value


def _messages(items: list[Any]) -> tuple[Message, ...]:
    values = [dict(as_object(item, "messages")) for item in items]
    for value in values:
        value["tool_calls"] = tuple(
            record_from_json(ToolCall, as_object(call, "tool_calls"))
            for call in as_list(value.get("tool_calls", []), "tool_calls")
        )
    messages = tuple(record_from_json(Message, value) for value in values)
    return messages if any("turn" in value for value in values) else number_turns(messages)


def _object_at(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return as_object(value.get(name, {}), name)
