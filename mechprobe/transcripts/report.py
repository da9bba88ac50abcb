"""What an import found, counted: transcripts, labels, how each quotation was found, what was left out."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mechprobe.records import atomic_write_text
from mechprobe.transcripts.transcript import MATCHES, Transcript

REPORT_NAME = "import.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportReport:
    """Counts of one import."""

    source: str
    format: str
    n_transcripts: int
    n_groups: int
    """Scenarios; a transcript without one counts as its own."""
    n_messages: int
    n_turns: int
    """Turns with an assistant message."""
    n_excluded: int
    n_misaligned: int
    n_aligned: int
    """Transcripts labelled as not misaligned; the rest has no label."""
    n_misaligned_turns: int
    n_labelled_turns: int
    """Turns in which indicators were looked for."""
    spans: Mapping[str, int]
    """How quotations were found: exact, normalised, other_turn, given (as characters), lost."""
    sections: Mapping[str, int]
    """Where spans stand: reasoning, answer, tool_call."""
    indicators: Mapping[str, Mapping[str, int]]
    """Slug -> turns, spans, hard_negatives, lost."""
    left_out: Mapping[str, int]
    """What the source has and the transcripts do not, by reason."""

    def __str__(self) -> str:
        spans = ", ".join(f"{count} {how}" for how, count in self.spans.items() if count)
        return (
            f"{self.n_transcripts} transcripts ({self.n_excluded} excluded) in {self.n_groups} scenarios; "
            f"spans: {spans or 'none'}"
        )


@dataclass(kw_only=True, slots=True)
class ImportCount:
    """Counts transcripts as they pass by."""

    counts: Counter[str] = field(default_factory=Counter[str])
    groups: set[str] = field(default_factory=set[str])
    spans: Counter[str] = field(default_factory=Counter[str])
    sections: Counter[str] = field(default_factory=Counter[str])
    indicators: dict[str, Counter[str]] = field(default_factory=dict[str, Counter[str]])

    def passing(self, transcripts: Iterable[Transcript]) -> Iterator[Transcript]:
        """The same transcripts, each counted."""
        for transcript in transcripts:
            self._count(transcript)
            yield transcript

    def report(self, *, source: str, format: str, left_out: Mapping[str, int]) -> ImportReport:
        """The counts so far."""
        names = ("transcripts", "messages", "turns", "excluded", "misaligned", "aligned")
        names += ("misaligned_turns", "labelled_turns")
        return ImportReport(
            source=source,
            format=format,
            n_groups=len(self.groups),
            spans={how: self.spans[how] for how in (*MATCHES, "lost")},
            sections=dict(sorted(self.sections.items())),
            indicators={
                slug: dict(sorted(counts.items()))
                for slug, counts in sorted(self.indicators.items())
            },
            left_out={reason: count for reason, count in sorted(left_out.items()) if count},
            **{f"n_{name}": self.counts[name] for name in names},
        )

    def _count(self, transcript: Transcript) -> None:
        self.groups.add(transcript.group or transcript.id)
        self.counts.update(
            transcripts=1,
            messages=len(transcript.messages),
            turns=len(transcript.turns),
            excluded=int(transcript.excluded),
            misaligned=int(transcript.is_misaligned is True),
            aligned=int(transcript.is_misaligned is False),
            misaligned_turns=len(transcript.misaligned_turns or ()),
            labelled_turns=len(transcript.turn_indicators),
        )
        for slugs in transcript.turn_indicators.values():
            for slug in slugs:
                self._of(slug)["turns"] += 1
        for span in transcript.spans:
            self.spans[span.match] += 1
            self.sections[span.section] += 1
            self._of(span.indicator)["spans" if span.present else "hard_negatives"] += 1
        for lost in transcript.lost_spans:
            self.spans["lost"] += 1
            self._of(lost.indicator)["lost"] += 1

    def _of(self, slug: str) -> Counter[str]:
        return self.indicators.setdefault(slug, Counter())


def write_report(folder: Path, report: ImportReport) -> Path:
    """Write `import.json`, whole or not at all."""
    path = folder / REPORT_NAME
    atomic_write_text(path, json.dumps(asdict(report), indent=2, ensure_ascii=False) + "\n")
    return path
