"""`mechprobe import`: transcripts of any known format."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro


@dataclass(frozen=True, kw_only=True, slots=True)
class Import:
    """Read transcripts of any known format into transcripts.jsonl, with a report of what was found."""

    source: tyro.conf.Positional[Path]
    """A file or folder: native or chat JSONL, CSV, XLSX, Parquet, a Bloom result folder."""
    out: Path
    """Folder for transcripts.jsonl and import.json."""
    format: Literal["auto", "native", "chat", "bloom", "normalised", "table", "probe_training"] = (
        "auto"
    )
    """What the source is; "auto" looks."""
    lost: Literal["keep", "error"] | None = None
    """What to do with a quoted span that is found nowhere; by default those of Bloom and probe-training files are kept and counted."""
    taxonomy: Path | None = None
    """A taxonomy file of your own."""
    text: str = "text"
    """Tables: the column with the text."""
    label: str = "label"
    """Tables: the column with the label."""

    def run(self) -> None:
        """Import."""
        from mechprobe.taxonomy import load_taxonomy
        from mechprobe.transcripts.importing import import_transcripts
        from mechprobe.transcripts.readers.tables import TableColumns

        report = import_transcripts(
            self.source,
            self.out,
            format=self.format,
            taxonomy=load_taxonomy(self.taxonomy),
            columns=TableColumns(text=self.text, label=self.label),
            lost=self.lost,
        )
        print(report)
