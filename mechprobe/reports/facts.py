"""What was studied, and the record of how: read from `study.toml` and each stage's `record.json`."""

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from mechprobe.errors import DataError
from mechprobe.records import RECORD_NAME, RunRecord, read_record

STUDY_FILE = "study.toml"
TRANSCRIPTS_FILE = Path("transcripts", "transcripts.jsonl")
MODEL_KEYS = ("model", "organism", "subject")
STAGE_ORDER = (
    "organism",
    "import",
    "capture",
    "sae",
    "features",
    "probe",
    "evaluate",
    "generalise",
    "causal",
    "steer",
)
COUNT_KEYS = ("transcripts", "n_transcripts")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StageFacts:
    """A stage's record, ready to be shown."""

    folder: str
    record: RunRecord
    config: str
    metrics: str


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StudyFacts:
    """What a report says about its study before any result."""

    title: str
    question: str
    model: str
    n_transcripts: int | None
    seed: int | None
    study_text: str
    """The study file as it was run; empty where the stages were called one by one."""
    stages: tuple[StageFacts, ...]


def read_facts(folder: Path) -> StudyFacts:
    """Gather what the run folder says about itself; what is not known stays empty.

    Raises:
        DataError: `study.toml` or a record is there and malformed.
    """
    study_text, study = _read_study(folder / STUDY_FILE)
    stages = tuple(_read_stages(folder))
    configs: list[Mapping[str, Any]] = [study, *(stage.record.config for stage in stages)]
    return StudyFacts(
        title=_first_text(study, ("title", "name")) or folder.resolve().name,
        question=_first_text(study, ("question", "description")),
        model=next((name for name in (_model_name(config) for config in configs) if name), ""),
        n_transcripts=_count_transcripts(folder, stages),
        seed=_seed(study, stages),
        study_text=study_text,
        stages=stages,
    )


def _read_study(path: Path) -> tuple[str, Mapping[str, Any]]:
    if not path.is_file():
        return "", {}
    text = path.read_text(encoding="utf-8")
    try:
        return text, tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DataError(
            f"{path} is not TOML ({error}); copy the study's file there again."
        ) from error


def _read_stages(folder: Path) -> Iterable[StageFacts]:
    paths = [path for depth in ("", "*/", "*/*/") for path in folder.glob(depth + RECORD_NAME)]
    found = [(path, read_record(path.parent)) for path in sorted(paths)]
    for path, record in sorted(found, key=lambda pair: _stage_rank(pair[1].stage)):
        yield StageFacts(
            folder=path.parent.relative_to(folder).as_posix(),
            record=record,
            config=json.dumps(record.config, indent=2, ensure_ascii=False),
            metrics=json.dumps(record.metrics, indent=2, ensure_ascii=False)
            if record.metrics
            else "",
        )


def _stage_rank(stage: str) -> int:
    return STAGE_ORDER.index(stage) if stage in STAGE_ORDER else len(STAGE_ORDER)


def _first_text(table: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    places = [table, *(value for value in (table.get("study"), table.get("report")) if value)]
    for place in places:
        for key in keys:
            if isinstance(place, Mapping) and isinstance(place.get(key), str) and place[key]:
                return place[key]
    return ""


def _model_name(config: Mapping[str, Any]) -> str:
    """A hub name as it is; of a local folder its last name only."""
    for key in MODEL_KEYS:
        value = config.get(key)
        if isinstance(value, Mapping):
            value = value.get("name") or value.get("model") or value.get("path")
        if isinstance(value, str) and value:
            return (
                value if value.count("/") <= 1 and value[0] not in "./~" else PurePath(value).name
            )
    return ""


def _count_transcripts(folder: Path, stages: tuple[StageFacts, ...]) -> int | None:
    path = folder / TRANSCRIPTS_FILE
    if path.is_file():
        with path.open("rb") as lines:
            return sum(1 for line in lines if line.strip())
    for stage in stages:
        for key in COUNT_KEYS:
            if isinstance(stage.record.metrics.get(key), int):
                return int(stage.record.metrics[key])
    return None


def _seed(study: Mapping[str, Any], stages: tuple[StageFacts, ...]) -> int | None:
    if isinstance(study.get("seed"), int):
        return int(study["seed"])
    return next((stage.record.seed for stage in stages if stage.record.seed is not None), None)
