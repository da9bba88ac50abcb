"""Memory of a capture does not grow with its tokens: the peak with so many, and with a quarter of them.

Each in a process of its own that reads its transcripts from a file, above what it held with the model loaded and a
first shard made.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.bench_capture import save_model
from benchmarks.harvest_peak import WORDS_EACH
from benchmarks.timing import Row, less_is_better

N_FEW, N_MANY = 512, 2048


def measure() -> Row:
    """Peaks of both."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_model(folder / "model")
        few, many = (_peak(folder, n) for n in (N_FEW, N_MANY))
    return less_is_better(
        f"harvest_memory[{N_MANY * WORDS_EACH} against {N_FEW * WORDS_EACH} tokens]",
        many,
        few,
        unit="MiB at peak",
        peer_name="a quarter of the tokens",
        command="python -m benchmarks.run harvest_memory",
    )


def _peak(folder: Path, n_sequences: int) -> float:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.harvest_peak"]
    arguments = [str(folder / "model"), str(folder / f"store-{n_sequences}"), str(n_sequences)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])
