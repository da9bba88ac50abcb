"""A process that captures so many sequences of 128 tokens from a file and prints its peak memory (MiB) above the start.

`python -m benchmarks.harvest_peak MODEL OUT N`
"""

import sys
from pathlib import Path

import torch

from benchmarks.bench_harvest import EVERYTHING, conversations
from benchmarks.memory import peak_mib
from mechprobe.activations.capture import capture
from mechprobe.activations.transcript_file import TranscriptFile
from mechprobe.models.subject import Subject

HOOK = "blocks.0.hook_out"
WORDS_EACH = 128


def main(model: Path, out: Path, n_sequences: int) -> None:
    """Capture a shard first, so that what is allocated once is not counted."""
    torch.set_num_threads(1)
    subject = Subject.load(model)
    warm = conversations([WORDS_EACH] * 64)
    capture(warm, subject, [HOOK], out / "warm", select=EVERYTHING)
    path = out / "transcripts.jsonl"
    TranscriptFile.write(path, conversations([WORDS_EACH] * n_sequences))
    transcripts = TranscriptFile.open(path)

    def job() -> None:
        capture(transcripts, subject, [HOOK], out / "store", select=EVERYTHING, shard_tokens=8192)

    print(peak_mib(job))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
