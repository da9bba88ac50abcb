"""Other people's transcripts into ours: one call, whatever the format."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from mechprobe.errors import ConfigError, DataError, LabelError
from mechprobe.taxonomy import Taxonomy, load_taxonomy
from mechprobe.transcripts.jsonl import transcript_from_json, write_transcripts
from mechprobe.transcripts.labels import LabelReader, LostPolicy
from mechprobe.transcripts.lines import read_json_lines, read_records
from mechprobe.transcripts.readers.bloom import is_bloom, read_bloom
from mechprobe.transcripts.readers.chat import read_chat
from mechprobe.transcripts.readers.normalised import is_normalised, read_normalised
from mechprobe.transcripts.readers.probe_training import is_probe_training, read_probe_training
from mechprobe.transcripts.readers.tables import SUFFIXES, TableColumns, read_table
from mechprobe.transcripts.report import ImportCount, ImportReport, write_report
from mechprobe.transcripts.transcript import Transcript

Format = Literal["auto", "native", "chat", "bloom", "normalised", "probe_training", "table"]

TRANSCRIPTS_NAME = "transcripts.jsonl"
_LINE_SUFFIXES = (".jsonl", ".jsonl.zst", ".ndjson", ".ndjson.zst")
_NATIVE_KEYS = {"lost_spans", "turn_indicators", "is_misaligned", "scores"}
_CHAT_KEYS = {"label", "labels"}


def import_transcripts(
    source: Path,
    out: Path,
    *,
    format: Format = "auto",
    taxonomy: Taxonomy | None = None,
    columns: TableColumns | None = None,
    lost: LostPolicy | None = None,
) -> ImportReport:
    """Read transcripts of any known format and write `transcripts.jsonl` and `import.json` into `out`.

    Nothing is written unless all could be read.

    Args:
        lost: what to do with a quotation that is found nowhere: "keep" it as lost and count it, or "error".
            None keeps it for Bloom results and probe-training files, where a model quoted, and raises for the
            other formats.

    Raises:
        DataError: the source is missing, empty, malformed, of no known format, or lacks a named column.
        LabelError: a label names an unknown indicator, or a span is not in its text.
    """
    labels = LabelReader(taxonomy=taxonomy or load_taxonomy(), lost=lost or "error")
    found = detect_format(source) if format == "auto" else format
    if found in ("bloom", "normalised", "probe_training") and lost is None:
        labels = LabelReader(taxonomy=labels.taxonomy, lost="keep")
    count = ImportCount()
    transcripts = open_transcripts(source, found, labels, columns)
    write_transcripts(out / TRANSCRIPTS_NAME, count.passing(transcripts))
    report = count.report(source=str(source), format=found, left_out=labels.left_out)
    write_report(out, report)
    return report


def open_transcripts(
    source: Path, format: Format, labels: LabelReader, columns: TableColumns | None = None
) -> Iterator[Transcript]:
    """The transcripts of a source of a known format."""
    if format == "native":
        return _read_native(source, labels.taxonomy)
    if format == "chat":
        return read_chat(source, labels)
    if format == "bloom":
        return read_bloom(source, labels)
    if format == "normalised":
        return read_normalised(source, labels)
    if format == "probe_training":
        return read_probe_training(source, labels)
    if format == "table":
        return read_table(source, labels, columns)
    raise ConfigError(f"format is {format!r}; it must be one of {', '.join(get_args(Format))}.")


def detect_format(source: Path) -> Format:
    """The format of a file or folder, by its name and its first line.

    Raises:
        DataError: it is missing, empty, or of no known format.
    """
    if not source.exists():
        raise DataError(f"{source} does not exist; check the path.")
    name = source.name.lower()
    if source.is_dir():
        if is_bloom(source):
            return "bloom"
        if is_probe_training(source):
            return "probe_training"
        raise DataError(
            f"{source} is a folder without rollout.json or transcript_v1r1.json, in it or directly "
            "below, and without probe-training files; name a Bloom result folder or a file."
        )
    if name.endswith(".json") and is_probe_training(source):
        return "probe_training"
    if name.endswith(SUFFIXES):
        return "table"
    if not name.endswith(_LINE_SUFFIXES):
        raise DataError(
            f"{source} has an ending that is not known; known are {', '.join(_LINE_SUFFIXES)}, "
            f"{', '.join(SUFFIXES)}, probe-training .json files and Bloom result folders. Or name the "
            "format."
        )
    _, first = next(read_json_lines(source))
    if is_normalised(first):
        return "normalised"
    return "native" if _is_native(first) else "chat"


def _is_native(value: Mapping[str, Any]) -> bool:
    """Whether an object is as `write_transcripts` writes it: with counted turns, or fields of ours only."""
    messages = value.get("messages")
    counts_turns = isinstance(messages, list) and any(
        isinstance(message, dict) and "turn" in message for message in messages
    )
    has_ours = counts_turns or bool(_NATIVE_KEYS & value.keys())
    return has_ours and not _CHAT_KEYS & value.keys()


def _read_native(source: Path, taxonomy: Taxonomy) -> Iterator[Transcript]:
    def build(_: int, value: Mapping[str, Any]) -> Transcript:
        transcript = transcript_from_json(value)
        named = {span.indicator for span in (*transcript.spans, *transcript.lost_spans)}
        for slug in sorted(named.union(*transcript.turn_indicators.values())):
            if taxonomy.find(slug).slug != slug:
                raise LabelError(
                    f"the indicator {slug!r} is not a slug; write {taxonomy.find(slug).slug!r}."
                )
        return transcript

    return read_records(source, build)
