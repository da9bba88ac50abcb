"""The paper's probe-training files: one JSON for each indicator, with its own transcripts (arXiv 2606.24251).

`<think>...</think>` stands inline before the visible text; labels are given for each assistant message, by its place
among the messages, with verbatim spans. Other indicators were not looked for in these transcripts (`LABELLED_FOR`).
Hard negatives and benign look-alikes are honest transcripts; what kind they are stays in `meta`, under the format's
own names: negative_type, hard_negative_category, positive_category, domain, source, scenario_description.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mechprobe.errors import DataError, LabelError, MechprobeError
from mechprobe.transcripts.asked import LABELLED_FOR
from mechprobe.transcripts.fields import as_list, as_object, as_text
from mechprobe.transcripts.labels import LabelReader
from mechprobe.transcripts.lines import check_file
from mechprobe.transcripts.readers.inline_thinking import parse_inline
from mechprobe.transcripts.readers.probe_training_spans import spans_of_message
from mechprobe.transcripts.scenarios import group_by_scenario
from mechprobe.transcripts.transcript import (
    LostSpan,
    Message,
    Role,
    Span,
    Transcript,
    number_turns,
)

DATASET = "probe_training"
META_KEYS = (
    "scenario_description",
    "positive_category",
    "negative_type",
    "hard_negative_category",
    "domain",
    "source",
)
_ROLES: Mapping[str, Role] = {"system": "system", "user": "user", "assistant": "assistant"}
_LABELS = {"deceptive": True, "honest": False}
_KEYS = {"id", "messages", "label", "per_turn_labels", *META_KEYS}


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingHeader:
    """What a file says above its transcripts."""

    indicator_name: str
    indicator_definition: str = ""
    indicator_category: str = ""
    generation_model: str = ""
    """Who wrote the transcripts."""
    ideation_model: str = ""
    categories: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """positive_categories and hard_negative_categories, as they stand."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingFile:
    """One file: the transcripts of one indicator."""

    header: TrainingHeader
    indicator: str
    """Slug."""
    transcripts: tuple[Transcript, ...]


def is_probe_training(source: Path) -> bool:
    """Whether a .json file, or any directly in a folder, is of this format."""
    return bool(_training_paths(source))


def read_probe_training(source: Path, labels: LabelReader) -> Iterator[Transcript]:
    """The transcripts of a file, or of all such files in a folder, in the order of their names.

    Raises:
        DataError: a file is malformed, or an id stands twice.
        LabelError: an indicator is unknown, or a span is not in its message.
    """
    seen: dict[str, Path] = {}
    for path in _training_paths(source) or (source,):
        for transcript in read_training_file(path, labels).transcripts:
            if transcript.id in seen:
                raise DataError(
                    f"{path} repeats the id {transcript.id!r} of {seen[transcript.id]}; ids must be "
                    "unique."
                )
            seen[transcript.id] = path
            yield transcript


def read_training_file(path: Path, labels: LabelReader) -> TrainingFile:
    """One file with what stands above its transcripts; twins of one scenario share a group.

    Raises:
        DataError, LabelError: as `read_probe_training`; the message names the transcript.
    """
    value = _load(path)
    try:
        header = _header(value, labels)
        slug = labels.slug(header.indicator_name)
    except MechprobeError as error:
        raise type(error)(f"{path}: {error}") from error
    found: list[Transcript] = []
    for number, item in enumerate(as_list(value.get("transcripts"), "transcripts")):
        try:
            found.append(_transcript(as_object(item, "transcripts"), slug, header, labels))
        except MechprobeError as error:
            name = item.get("id", "") if isinstance(item, dict) else ""
            raise type(error)(f"{path}, transcript {number} ({name}): {error}") from error
    return TrainingFile(header=header, indicator=slug, transcripts=tuple(group_by_scenario(found)))


def _transcript(
    value: Mapping[str, Any], slug: str, header: TrainingHeader, labels: LabelReader
) -> Transcript:
    for key in value.keys() - _KEYS:
        labels.left_out[f"field {key}"] += 1
    label = value.get("label")
    if label not in _LABELS:
        raise LabelError(f"its label is {label!r}; it must be 'deceptive' or 'honest'.")
    messages = _messages(as_list(value.get("messages"), "messages"), labels)
    spans: list[Span] = []
    lost: list[LostSpan] = []
    found: dict[int, frozenset[str]] = {}
    for item in as_list(value.get("per_turn_labels", []), "per_turn_labels"):
        entry = as_object(item, "per_turn_labels")
        message = _assistant_message(entry.get("turn_index"), messages)
        here, gone = spans_of_message(entry, message, messages, slug, labels)
        spans += here
        lost += gone
        held = frozenset({slug}) if _has_indicator(entry) else frozenset[str]()
        turn = messages[message].turn
        found[turn] = found.get(turn, frozenset[str]()) | held
    meta = {key: as_text(value[key], key) for key in META_KEYS if value.get(key) is not None}
    return Transcript(
        id=as_text(value.get("id"), "id"),
        messages=messages,
        spans=tuple(spans),
        lost_spans=tuple(lost),
        turn_indicators=found,
        is_misaligned=_LABELS[label],
        group=meta.get("scenario_description", ""),
        dataset=DATASET,
        model=header.generation_model,
        meta={**meta, LABELLED_FOR: slug},
    )


def _messages(values: list[Any], labels: LabelReader) -> tuple[Message, ...]:
    messages: list[Message] = []
    for index, value in enumerate(values):
        fields = as_object(value, "messages")
        role = _ROLES.get(str(fields.get("role")))
        if role is None:
            raise DataError(
                f"message {index} has role {fields.get('role')!r}; it must be one of {list(_ROLES)}."
            )
        content = as_text(fields.get("content"), "content")
        messages.append(
            parse_inline(content, labels.left_out)
            if role == "assistant"
            else Message(role=role, content=content)
        )
    return number_turns(messages)


def _assistant_message(value: Any, messages: tuple[Message, ...]) -> int:
    is_index = isinstance(value, int) and not isinstance(value, bool)
    if not is_index or not 0 <= value < len(messages) or messages[value].role != "assistant":
        places = [at for at, message in enumerate(messages) if message.role == "assistant"]
        raise LabelError(
            f"a label has turn_index {value!r}; it counts messages from 0, and the assistant's are {places}."
        )
    return value


def _has_indicator(label: Mapping[str, Any]) -> bool:
    held = label.get("has_indicator")
    if not isinstance(held, bool):
        raise LabelError(f"has_indicator is {held!r}; it must be true or false.")
    return held


def _header(value: Mapping[str, Any], labels: LabelReader) -> TrainingHeader:
    names = [name for name in TrainingHeader.__dataclass_fields__ if name != "categories"]
    for key in value.keys() - {*names, "categories", "transcripts"}:
        labels.left_out[f"file field {key}"] += 1
    texts = {name: as_text(value.get(name) or "", name) for name in names}
    return TrainingHeader(
        **texts, categories=as_object(value.get("categories") or {}, "categories")
    )


def _training_paths(source: Path) -> tuple[Path, ...]:
    paths = sorted(source.glob("*.json")) if source.is_dir() else (source,)
    return tuple(path for path in paths if path.suffix == ".json" and _looks_right(path))


def _looks_right(path: Path) -> bool:
    # The name stands above the transcripts or below them, of many megabytes: a look at both ends is enough.
    with path.open("rb") as stream:
        start = stream.read(4096)
        stream.seek(max(0, path.stat().st_size - 4096))
        return b'"indicator_name"' in start + stream.read()


def _load(path: Path) -> Mapping[str, Any]:
    try:
        value = json.loads(check_file(path).read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not JSON: {error}.") from error
    if not isinstance(value, dict) or not {"indicator_name", "transcripts"} <= value.keys():
        raise DataError(
            f"{path} lacks 'indicator_name' or 'transcripts'; a probe-training file is an object with both."
        )
    if not value["transcripts"]:
        raise DataError(f"{path} holds no transcript; leave the file out.")
    return value
