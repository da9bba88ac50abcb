"""Chat-message JSONL: a line is {"messages": [{"role", "content", ...}], ...}, as OpenAI's APIs have it.

Reasoning is read from `reasoning`, `reasoning_content` or `thinking`, from content parts, or from inline
`<think>` tags. Labels, all optional: `label` (misaligned or not), `misaligned_turns` [turn], `labels`
{turn: [indicator]} (or a plain list, where there is one turn), and `spans` [{indicator, text[, turn, present]}]
or with characters [{indicator, message, section, start, end}].
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mechprobe.errors import DataError, LabelError
from mechprobe.transcripts.fields import as_list, as_object, as_text, as_turn, record_from_json
from mechprobe.transcripts.labels import LabelReader, Quote, parse_truth
from mechprobe.transcripts.lines import read_records
from mechprobe.transcripts.readers.content import (
    join_texts,
    read_content,
    read_tool_call,
    split_thinking,
)
from mechprobe.transcripts.transcript import Message, Role, Span, Transcript, number_turns

_ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
_REASONING_KEYS = ("reasoning", "reasoning_content", "thinking")
_MESSAGE_KEYS = {"role", "content", "tool_calls", "tool_call_id", "turn", *_REASONING_KEYS}
_KEYS = {"id", "messages", "label", "labels", "spans", "misaligned_turns", "group", "scenario"} | {
    "excluded",
    "behavior",
    "dataset",
    "model",
    "split",
}


def read_chat(path: Path, labels: LabelReader) -> Iterator[Transcript]:
    """Stream the conversations of a chat-message .jsonl or .jsonl.zst file; ids default to "line-N".

    Raises:
        DataError: a line is malformed or repeats an id.
        LabelError: an indicator is unknown, or a span is not in the text. Messages name the line.
    """
    yield from read_records(
        path, lambda number, value: chat_from_json(value, labels, default_id=f"line-{number}")
    )


def chat_from_json(
    value: Mapping[str, Any], labels: LabelReader, *, default_id: str = "chat"
) -> Transcript:
    """Build a transcript from one chat object; other plain fields go to `meta`."""
    if "messages" not in value:
        raise DataError(f"no 'messages' among the fields {sorted(value)}.")
    messages = read_messages(as_list(value["messages"], "messages"), labels)
    quotes, given = _read_spans(value, labels)
    spans, lost = labels.place(messages, quotes)
    turns = value.get("misaligned_turns")
    return Transcript(
        id=str(value.get("id", default_id)),
        messages=messages,
        spans=given + spans,
        lost_spans=lost,
        turn_indicators=_turn_indicators(value.get("labels"), messages, labels),
        misaligned_turns=None
        if turns is None
        else frozenset(map(as_turn, as_list(turns, "misaligned_turns"))),
        is_misaligned=parse_truth(value.get("label")),
        group=str(value.get("group", value.get("scenario", ""))),
        behavior=as_text(value.get("behavior", ""), "behavior"),
        dataset=as_text(value.get("dataset", ""), "dataset"),
        model=as_text(value.get("model", ""), "model"),
        split=as_text(value.get("split", ""), "split"),
        excluded=parse_truth(value.get("excluded")) or False,
        meta=_meta(value, labels),
    )


def read_messages(values: list[Any], labels: LabelReader) -> tuple[Message, ...]:
    """Messages with their turns counted; fields that have no place are counted as left out."""
    messages: list[Message] = []
    for index, value in enumerate(values):
        fields = as_object(value, "messages")
        try:
            messages.append(_read_message(fields, labels))
        except DataError as error:
            raise DataError(f"message {index}: {error}") from error
        for key in fields.keys() - _MESSAGE_KEYS:
            labels.left_out[f"message field {key}"] += 1
    return number_turns(messages)


def _read_message(fields: Mapping[str, Any], labels: LabelReader) -> Message:
    role = _ROLES.get(str(fields.get("role")))
    if role is None:
        raise DataError(f"its role is {fields.get('role')!r}; it must be one of {list(_ROLES)}.")
    content = read_content(fields.get("content"), labels.left_out)
    call_id = fields.get("tool_call_id")
    if role != "assistant":
        return Message(
            role=role, content=content.text, tool_call_id=None if call_id is None else str(call_id)
        )
    inline = split_thinking(content.text)
    stated = [as_text(fields[key], key) for key in _REASONING_KEYS if fields.get(key) is not None]
    return Message(
        role="assistant",
        content=inline.text,
        reasoning=join_texts(*dict.fromkeys([*stated, content.reasoning, inline.reasoning])),
        tool_calls=tuple(
            read_tool_call(call) for call in as_list(fields.get("tool_calls") or [], "tool_calls")
        ),
    )


def _read_spans(
    value: Mapping[str, Any], labels: LabelReader
) -> tuple[list[Quote], tuple[Span, ...]]:
    quotes: list[Quote] = []
    given: list[Span] = []
    for item in as_list(value.get("spans") or [], "spans"):
        fields = as_object(item, "spans")
        if "start" in fields:
            slug = labels.slug(as_text(fields.get("indicator"), "indicator"))
            given.append(record_from_json(Span, {**fields, "indicator": slug}))
            continue
        turn = fields.get("turn")
        quotes.append(
            Quote(
                indicator=as_text(fields.get("indicator"), "indicator"),
                text=as_text(fields.get("text", fields.get("quote")), "text"),
                turn=None if turn is None else as_turn(turn),
                present=parse_truth(fields.get("present", True)) or False,
            )
        )
    return quotes, tuple(given)


def _turn_indicators(
    value: Any, messages: tuple[Message, ...], labels: LabelReader
) -> dict[int, frozenset[str]]:
    if value is None:
        return {}
    if isinstance(value, list):
        turns = {message.turn for message in messages if message.role == "assistant"}
        if len(turns) != 1:
            raise LabelError(
                f"'labels' is a list, but there are {len(turns)} turns; say which turn has which: "
                '{"labels": {"1": ["fabrication"], "2": []}}.'
            )
        value = {str(turns.pop()): value}
    return {
        as_turn(turn): frozenset(
            labels.slug(as_text(name, "labels")) for name in as_list(names, "labels")
        )
        for turn, names in as_object(value, "labels").items()
    }


def _meta(value: Mapping[str, Any], labels: LabelReader) -> dict[str, str]:
    meta: dict[str, str] = {}
    for key in sorted(value.keys() - _KEYS):
        if key == "meta":
            meta |= {name: str(text) for name, text in as_object(value[key], key).items()}
        elif isinstance(value[key], str | int | float):
            meta[key] = str(value[key])
        elif value[key] is not None:
            labels.left_out[f"field {key}"] += 1
    return meta
