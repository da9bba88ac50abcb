"""Transcripts that stay in their file: read one at a time, by number, by any process that sees the file."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from jaxtyping import Int

from mechprobe.errors import DataError
from mechprobe.transcripts.jsonl import transcript_from_json, write_transcripts
from mechprobe.transcripts.transcript import Transcript


@dataclass(frozen=True, kw_only=True, eq=False)
class TranscriptFile(Sequence[Transcript]):
    """The transcripts of a native .jsonl file; memory holds the place of each line, eight bytes a transcript."""

    path: Path
    starts: Int[np.ndarray, "transcript"]
    """Where each line begins, in bytes."""

    @classmethod
    def open(cls, path: Path) -> "TranscriptFile":
        """Find the lines of a file; what they hold is read, and checked, when it is asked for.

        Raises:
            DataError: the file is missing, or compressed, so that its lines cannot be found by their place.
        """
        if not path.is_file() or path.suffix != ".jsonl":
            raise DataError(
                f"{path} is no plain .jsonl file of transcripts that can be read in place; run `mechprobe import` on it, "
                "which writes one."
            )
        starts: list[int] = []
        with path.open("rb") as stream:
            place = 0
            for line in stream:
                if line.strip():
                    starts.append(place)
                place += len(line)
        return cls(path=path.resolve(), starts=np.array(starts, dtype=np.int64))

    @classmethod
    def write(cls, path: Path, transcripts: Sequence[Transcript]) -> "TranscriptFile":
        """Put transcripts into a file, so that other processes can read them."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_transcripts(path, transcripts)
        return cls.open(path)

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, index: int) -> Transcript: ...
    @overload
    def __getitem__(self, index: slice) -> "TranscriptFile": ...
    def __getitem__(self, index: int | slice) -> "Transcript | TranscriptFile":
        """One transcript, or those of a slice, which stay in the file."""
        if isinstance(index, slice):
            return TranscriptFile(path=self.path, starts=self.starts[index])
        with self.path.open("rb") as stream:
            stream.seek(int(self.starts[index]))
            line = stream.readline()
        try:
            return transcript_from_json(json.loads(line))
        except ValueError as error:
            raise DataError(
                f"{self.path}, byte {self.starts[index]}: the line is not JSON ({error}); import the file again."
            ) from error
