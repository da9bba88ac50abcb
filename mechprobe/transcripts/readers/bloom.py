"""Result folders of the Bloom evaluation tool, with the labels of arXiv 2606.24251 beside the rollouts.

A folder holds `rollout.json`, or one `transcript_v{V}r{R}.json` for each variation and repetition. Of the events,
those that the target saw are the conversation.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mechprobe.errors import DataError, MechprobeError
from mechprobe.taxonomy import Taxonomy, slug_of
from mechprobe.transcripts.fields import as_list, as_object
from mechprobe.transcripts.labels import LabelReader
from mechprobe.transcripts.readers.bloom_labels import (
    Rollout,
    apply_labels,
    load_json,
    read_bloom_labels,
    rollout_of,
)
from mechprobe.transcripts.readers.chat import read_messages
from mechprobe.transcripts.scenarios import group_by_scenario
from mechprobe.transcripts.transcript import Transcript

ROLLOUTS = "rollout.json"
_SINGLE = re.compile(r"transcript_v(\d+)r(\d+)\.json")
_MESSAGE_KEYS = ("role", "content", "tool_calls", "tool_call_id")


def is_bloom(folder: Path) -> bool:
    """Whether a folder holds rollouts, itself or in folders directly below."""
    return bool(_bloom_folders(folder))


def read_bloom(source: Path, labels: LabelReader) -> Iterator[Transcript]:
    """The rollouts of one result folder, or of all result folders directly below, grouped by scenario.

    Raises:
        DataError: there is no rollout, or a file is malformed; the message names the file.
        LabelError: a label names an unknown indicator; the message names the rollout.
    """
    if not source.is_dir():
        raise DataError(f"{source} is not a folder; name a Bloom result folder.")
    folders = _bloom_folders(source)
    if not folders:
        raise DataError(f"{source} holds neither {ROLLOUTS} nor any transcript_v1r1.json.")
    transcripts = [item for folder in folders for item in _read_folder(folder, labels)]
    yield from group_by_scenario(transcripts)


def behavior_of(dataset: str, taxonomy: Taxonomy) -> str:
    """The behaviour whose name the data set's name contains, else the name without its ending."""
    slug = slug_of(dataset)
    known = [behavior.slug for behavior in taxonomy.behaviors if behavior.slug in slug]
    return max(known, key=len, default=slug.split("_benign")[0])


def _bloom_folders(source: Path) -> list[Path]:
    below = sorted(path for path in source.iterdir() if path.is_dir())
    return [
        folder
        for folder in (source, *below)
        if (folder / ROLLOUTS).is_file() or any(map(_SINGLE.fullmatch, _names(folder)))
    ]


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def _read_folder(folder: Path, labels: LabelReader) -> Iterator[Transcript]:
    is_benign = "benign" in folder.name
    known = read_bloom_labels(folder, is_benign=is_benign)
    behavior = behavior_of(folder.name, labels.taxonomy)
    seen: set[Rollout] = set()
    for rollout, value in _rollouts(folder, labels):
        where = f"{folder.name}, v{rollout.variation}r{rollout.repetition}"
        if rollout in seen:
            raise DataError(f"{where} is there twice.")
        seen.add(rollout)
        try:
            transcript = replace(
                _conversation(
                    value, labels, f"bloom/{folder.name}/v{rollout.variation}r{rollout.repetition}"
                ),
                behavior=behavior,
                dataset=folder.name,
                group=f"{behavior}/v{rollout.variation}",
                meta={"condition": "benign" if is_benign else "misaligned"},
            )
            if rollout in known:
                transcript = apply_labels(transcript, known[rollout], labels)
            else:
                labels.left_out["rollout without any label"] += 1
        except MechprobeError as error:
            raise type(error)(f"{where}: {error}") from error
        yield transcript
    labels.left_out["label of a rollout that is not there"] += len(known.keys() - seen)


def _rollouts(folder: Path, labels: LabelReader) -> Iterator[tuple[Rollout, Mapping[str, Any]]]:
    """Transcript objects: from rollout.json, or from the single files, which hold the same."""
    if (folder / ROLLOUTS).is_file():
        whole = load_json(folder / ROLLOUTS)
        for item in as_list(whole.get("rollouts", []), "rollouts"):
            entry = as_object(item, "rollouts")
            if entry.get("transcript"):
                yield rollout_of(entry), as_object(entry["transcript"], "transcript")
            else:
                labels.left_out["rollout without transcript"] += 1
        return
    names = [match for name in _names(folder) if (match := _SINGLE.fullmatch(name))]
    for match in sorted(names, key=lambda match: (int(match[1]), int(match[2]))):
        yield Rollout(int(match[1]), int(match[2])), load_json(folder / match[0])


def _conversation(value: Mapping[str, Any], labels: LabelReader, transcript_id: str) -> Transcript:
    messages: list[dict[str, Any]] = []
    for item in as_list(value.get("events"), "events"):
        event = as_object(item, "events")
        if "target" not in as_list(event.get("view", []), "view"):
            continue
        edit = as_object(event.get("edit"), "edit")
        if edit.get("operation") != "add":
            raise DataError(
                f"an event has the operation {edit.get('operation')!r}; only 'add' is understood."
            )
        message = as_object(edit.get("message"), "message")
        messages.append({key: message[key] for key in _MESSAGE_KEYS if key in message})
    metadata = as_object(value.get("metadata", {}), "metadata")
    return Transcript(
        id=transcript_id,
        messages=read_messages(messages, labels),
        model=str(metadata.get("target_model", "")).rpartition("/")[2],
    )
