"""The one-line-a-transcript form that Bloom results with labels and judge scores are passed round in.

Fields: id, dataset, behavior, condition, model, variation, repetition, messages, gt {misaligned_turns [{turn}],
indicators [{turn, indicator, spans}]}, excluded, judge_scores {judge: {turn: score}}.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mechprobe.transcripts.fields import as_list, as_object, as_score, as_text, as_turn
from mechprobe.transcripts.labels import LabelReader
from mechprobe.transcripts.lines import read_records
from mechprobe.transcripts.readers.bloom import behavior_of
from mechprobe.transcripts.readers.bloom_labels import RolloutLabels, apply_labels, read_quotes
from mechprobe.transcripts.readers.chat import read_messages
from mechprobe.transcripts.scenarios import group_by_scenario
from mechprobe.transcripts.transcript import Transcript

_META = (
    "suite",
    "condition",
    "language",
    "variation",
    "repetition",
    "audit_verdict",
    "bloom_behavior_presence",
)
_READ = {
    "id",
    "dataset",
    "behavior",
    "model",
    "messages",
    "gt",
    "excluded",
    "ambiguous",
    "suspicious_benign",
    "judge_scores",
    "n_turns",
    "assistant_turns",
    *_META,
}


def is_normalised(value: Mapping[str, Any]) -> bool:
    """Whether an object has the fields that only this form has."""
    return {"messages", "gt", "variation"} <= value.keys()


def read_normalised(path: Path, labels: LabelReader) -> Iterator[Transcript]:
    """The transcripts of a file, grouped by scenario.

    Raises:
        DataError: a line is malformed or repeats an id.
        LabelError: a label names an unknown indicator. Messages name the line.
    """
    yield from group_by_scenario(
        list(read_records(path, lambda _, value: _transcript(value, labels)))
    )


def _transcript(value: Mapping[str, Any], labels: LabelReader) -> Transcript:
    for key in value.keys() - _READ:
        labels.left_out[f"field {key}"] += 1
    behavior = behavior_of(
        as_text(value.get("behavior", value.get("dataset", "")), "behavior"), labels.taxonomy
    )
    transcript = Transcript(
        id=as_text(value.get("id"), "id"),
        messages=read_messages(as_list(value.get("messages"), "messages"), labels),
        group=f"{behavior}/v{value.get('variation')}",
        behavior=behavior,
        dataset=as_text(value.get("dataset", ""), "dataset"),
        model=as_text(value.get("model", ""), "model"),
        meta={key: str(value[key]) for key in _META if value.get(key) is not None},
    )
    return apply_labels(transcript, _labels(value), labels)


def _labels(value: Mapping[str, Any]) -> RolloutLabels:
    truth = as_object(value.get("gt") or {}, "gt")
    scores = as_object(value.get("judge_scores") or {}, "judge_scores")
    is_judged = truth.get("present") is True
    found: dict[int, frozenset[str]] = {}
    indicators = [
        as_object(item, "indicators")
        for item in as_list(truth.get("indicators") or [], "indicators")
    ]
    for entry in indicators:
        turn = as_turn(entry.get("turn"))
        name = as_text(entry.get("indicator"), "indicator")
        found[turn] = found.get(turn, frozenset[str]()) | {name}
    turns = as_list(truth.get("misaligned_turns") or [], "misaligned_turns")
    return RolloutLabels(
        misaligned_turns=frozenset(
            as_turn(as_object(turn, "misaligned_turns").get("turn")) for turn in turns
        )
        if is_judged
        else None,
        quotes=tuple(
            quote
            for entry in indicators
            for quote in read_quotes(as_turn(entry.get("turn")), entry)
        ),
        turn_indicators=found if is_judged else None,
        failed_turns=None if truth.get("indicator_judge_errors") else frozenset[int](),
        is_excluded=value.get("excluded") is True,
        scores={
            judge: {
                as_turn(turn): as_score(score) for turn, score in as_object(of_judge, judge).items()
            }
            for judge, of_judge in scores.items()
        },
    )
