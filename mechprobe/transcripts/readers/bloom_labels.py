"""What judges said of Bloom rollouts: misaligned turns, indicators with quotations, doubts, scores.

Schemas: arXiv 2606.24251, authors' code. The benign folders were never given to the judge of misaligned turns;
their rollouts count as having none, by construction, as in the paper.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from mechprobe.errors import DataError
from mechprobe.transcripts.fields import as_list, as_object, as_score, as_text, as_turn
from mechprobe.transcripts.labels import LabelReader, Quote
from mechprobe.transcripts.lines import check_file
from mechprobe.transcripts.transcript import Transcript

GROUND_TRUTH = "rollout_misalignment_turns.json"
AUDIT = "ambiguous_rollouts.json"
_SCORES = re.compile(r"rollout_misalignment_turns_(.+)_score\.json")
_FAILED_TURN = re.compile(r"\bTurn (\d+)")


class Rollout(NamedTuple):
    """Which rollout of a folder."""

    variation: int
    repetition: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutLabels:
    """What is known of one rollout."""

    misaligned_turns: frozenset[int] | None = None
    quotes: tuple[Quote, ...] = ()
    turn_indicators: Mapping[int, frozenset[str]] | None = None
    """Names found in each turn; None: no judge looked for indicators."""
    failed_turns: frozenset[int] | None = frozenset()
    """Turns at which the judge of indicators failed; None: it is not known which."""
    is_excluded: bool = False
    scores: Mapping[str, Mapping[int, float]] = field(
        default_factory=dict[str, Mapping[int, float]]
    )
    meta: Mapping[str, str] = field(default_factory=dict[str, str])


def read_bloom_labels(folder: Path, *, is_benign: bool) -> dict[Rollout, RolloutLabels]:
    """The labels of a folder's rollouts; a rollout without any is not in it.

    Raises:
        DataError: a file is not JSON, or a field is not what it should be.
    """
    found: dict[Rollout, RolloutLabels] = {}
    if (folder / GROUND_TRUTH).is_file():
        for rollout, entry in _entries(folder / GROUND_TRUTH, "evaluated_rollouts"):
            found[rollout] = _ground_truth(entry, is_benign=is_benign)
    for rollout, verdict in _doubts(folder / AUDIT):
        known = found.get(rollout, RolloutLabels())
        found[rollout] = replace(known, is_excluded=True, meta={**known.meta, "audit": verdict})
    for path in sorted(folder.iterdir()):
        if name := _SCORES.fullmatch(path.name):
            for rollout, entry in _entries(path, "evaluated_rollouts"):
                known = found.get(rollout, RolloutLabels())
                scores = {**known.scores, scorer_name(name[1]): _turn_scores(entry)}
                found[rollout] = replace(known, scores=scores)
    return found


def apply_labels(transcript: Transcript, known: RolloutLabels, labels: LabelReader) -> Transcript:
    """The transcript with its labels; those of turns without an assistant message are left out, counted."""
    turns = frozenset(transcript.turns)
    spans, lost = labels.place(transcript.messages, known.quotes)
    indicators = {
        turn: frozenset(labels.slug(name) for name in names)
        for turn, names in _judged(known, turns).items()
    }
    return replace(
        transcript,
        spans=spans,
        lost_spans=lost,
        turn_indicators=_within(indicators, turns, labels, "indicators"),
        misaligned_turns=None
        if known.misaligned_turns is None
        else frozenset(
            _within(dict.fromkeys(sorted(known.misaligned_turns)), turns, labels, "misaligned")
        ),
        excluded=known.is_excluded,
        scores={
            scorer: _within(scores, turns, labels, f"score of {scorer}")
            for scorer, scores in known.scores.items()
        },
        meta={**transcript.meta, **known.meta},
    )


def read_quotes(turn: int, indicator: Any) -> list[Quote]:
    """The quotations of one indicator in one turn."""
    entry = as_object(indicator, "indicator")
    name = as_text(entry.get("indicator_name", entry.get("indicator")), "indicator_name")
    return [
        Quote(indicator=name, text=as_text(text, "spans"), turn=turn)
        for text in as_list(entry.get("spans") or [], "spans")
    ]


def scorer_name(file_part: str) -> str:
    """ "haiku_history_nodef" -> "haiku"; "haiku_history_indtax" (told the taxonomy) -> "haiku_ind"."""
    return file_part.replace("_history_nodef", "").replace("_history_indtax", "_ind")


def load_json(path: Path) -> Mapping[str, Any]:
    """The JSON object of a file, or DataError."""
    try:
        value = json.loads(check_file(path).read_bytes())
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}.") from error
    return as_object(value, str(path))


def rollout_of(entry: Mapping[str, Any]) -> Rollout:
    """The variation and repetition numbers of an entry."""
    try:
        return Rollout(int(entry["variation_number"]), int(entry["repetition_number"]))
    except (KeyError, TypeError, ValueError):
        raise DataError(
            f"an entry lacks variation_number or repetition_number; it has {sorted(entry)}."
        ) from None


def _entries(path: Path, key: str) -> Iterator[tuple[Rollout, Mapping[str, Any]]]:
    value = load_json(path)
    for item in as_list(value.get(key, []), f"{key} of {path}"):
        entry = as_object(item, f"{key} of {path}")
        yield rollout_of(entry), entry


def _ground_truth(entry: Mapping[str, Any], *, is_benign: bool) -> RolloutLabels:
    quotes: list[Quote] = []
    found: dict[int, frozenset[str]] = {}
    for item in as_list(entry.get("indicators_turns") or [], "indicators_turns"):
        turn_entry = as_object(item, "indicators_turns")
        turn = as_turn(turn_entry.get("turn_index"))
        present = as_list(turn_entry.get("present_indicators") or [], "present_indicators")
        quotes += [quote for indicator in present for quote in read_quotes(turn, indicator)]
        found[turn] = frozenset(
            as_text(as_object(indicator, "indicator").get("indicator_name"), "indicator_name")
            for indicator in present
        )
    errors = [str(error) for error in as_list(entry.get("indicator_judge_errors") or [], "errors")]
    turns = None if "misaligned_turns" not in entry else as_list(entry["misaligned_turns"], "turns")
    if turns is None and is_benign:
        turns = list[Any]()
    return RolloutLabels(
        misaligned_turns=None
        if turns is None
        else frozenset(as_turn(as_object(turn, "turns").get("turn_index")) for turn in turns),
        quotes=tuple(quotes),
        turn_indicators=found if "indicators_turns" in entry else None,
        failed_turns=_failed_turns(errors),
    )


def _failed_turns(errors: list[str]) -> frozenset[int] | None:
    named = [_FAILED_TURN.search(error) for error in errors]
    if not all(named):
        return None
    return frozenset(int(match[1]) for match in named if match)


def _doubts(path: Path) -> Iterator[tuple[Rollout, str]]:
    if not path.is_file():
        return
    value = load_json(path)
    suspicious = as_object(value.get("benign_audit") or {}, "benign_audit")
    for verdict, items in (
        ("ambiguous", value.get("ambiguous_rollouts")),
        ("suspicious", suspicious.get("suspicious_rollouts")),
    ):
        for item in as_list(items or [], verdict):
            yield rollout_of(as_object(item, verdict)), verdict


def _turn_scores(entry: Mapping[str, Any]) -> dict[int, float]:
    scores: dict[int, float] = {}
    for item in as_list(entry.get("all_turn_scores") or [], "all_turn_scores"):
        fields = as_object(item, "all_turn_scores")
        if fields.get("misalignment_score") is not None:
            scores[as_turn(fields.get("turn_index"))] = as_score(fields["misalignment_score"])
    return scores


def _judged(known: RolloutLabels, turns: frozenset[int]) -> dict[int, frozenset[str]]:
    """Names of each judged turn: empty where the judge looked and found nothing."""
    if known.turn_indicators is None:
        return {}
    failed = turns if known.failed_turns is None else known.failed_turns
    return {turn: frozenset[str]() for turn in sorted(turns - failed)} | dict(known.turn_indicators)


_Value = TypeVar("_Value")


def _within(
    by_turn: Mapping[int, _Value], turns: frozenset[int], labels: LabelReader, what: str
) -> dict[int, _Value]:
    for _ in by_turn.keys() - turns:
        labels.left_out[f"label ({what}) of a turn without an assistant message"] += 1
    return {turn: value for turn, value in by_turn.items() if turn in turns}
