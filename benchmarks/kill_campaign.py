"""Captures of the organism that are killed with SIGKILL, resumed, and compared with one that ran through.

    python -m benchmarks.kill_campaign 200

A third of the captures is killed after a random time, a third at a random byte of what is written, in the middle of that
write, and a third before or after a random sync or rename. The model is loaded once; each capture is a forked child.
"""

import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from benchmarks.timing import Row
from mechprobe.activations.capture import capture
from mechprobe.models.organism.datasets import DatasetConfig, draw_transcripts
from mechprobe.models.organism.roles import draw_roles
from mechprobe.models.subject import Subject
from mechprobe.transcripts.transcript import Transcript

RESULTS = Path(__file__).parent / "results.json"
CHECKPOINTS = Path(__file__).parents[1] / "sae_checkpoints"
HOOKS = ("blocks.0.hook_out", "blocks.2.hook_out")
N_TRANSCRIPTS, SHARD_TOKENS = 48, 400

How = Literal["time", "byte", "step"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Campaign:
    """What came of the kills."""

    n_kills: int
    n_identical: int
    n_shards: int
    kept: tuple[int, ...]
    """Finished shards that each kill left."""
    seconds: float


def run_campaign(
    n_kills: int, folder: Path, *, seed: int = 0, say: Callable[[str], object] = lambda _: None
) -> Campaign:
    """Kill and resume captures into new folders below `folder`; those that are alike are removed."""
    start = time.monotonic()
    job = CaptureOfOrganism.load()
    whole = folder / "whole"
    seconds = -time.monotonic()
    assert _in_child(lambda: job(whole)) == 0
    seconds += time.monotonic()
    wanted = contents(whole)
    n_shards = len(list(whole.glob("shard-*.json")))
    rng = random.Random(seed)
    kept: list[int] = []
    n_identical = 0
    n_bytes, n_steps = sum(map(len, wanted.values())), 4 * (4 * n_shards + 1)
    for index in range(n_kills):
        out = folder / f"kill-{index:04d}"
        how = get_args(How)[index % 3]
        while not _killed(job, out, how, rng, seconds, n_bytes, n_steps):
            _remove(out)
        kept.append(len(list(out.glob("shard-*.json"))))
        resumed = _in_child(lambda out=out: job(out))
        is_alike = resumed == 0 and contents(out) == wanted
        n_identical += is_alike
        say(
            f"{index} by {how}: {kept[-1]} of {n_shards} shards kept, {'alike' if is_alike else 'DIFFERENT'}"
        )
        if is_alike:
            _remove(out)
    return Campaign(
        n_kills=n_kills,
        n_identical=n_identical,
        n_shards=n_shards,
        kept=tuple(kept),
        seconds=time.monotonic() - start,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptureOfOrganism:
    """A capture that is ready to run."""

    subject: Subject
    transcripts: tuple[Transcript, ...]

    @classmethod
    def load(cls) -> "CaptureOfOrganism":
        """The shipped organism and some of its conversations."""
        config = DatasetConfig(n_fit=N_TRANSCRIPTS, n_select=1, n_test=1)
        return cls(
            subject=Subject.load(CHECKPOINTS / "organism-natural"),
            transcripts=tuple(draw_transcripts(draw_roles(0), config))[:N_TRANSCRIPTS],
        )

    def __call__(self, out: Path) -> None:
        """Capture, or go on."""
        capture(self.transcripts, self.subject, HOOKS, out, shard_tokens=SHARD_TOKENS)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _killed(
    job: CaptureOfOrganism,
    out: Path,
    how: How,
    rng: random.Random,
    seconds: float,
    n_bytes: int,
    n_steps: int,
) -> bool:
    """Start a capture and kill it; False if it was done before."""
    delay = rng.uniform(0, seconds) if how == "time" else None
    byte = rng.randrange(n_bytes) if how == "byte" else None
    step = rng.randrange(n_steps) if how == "step" else None

    def work() -> None:
        if byte is not None:
            _die_at_byte(byte)
        if step is not None:
            _die_at_step(step)
        job(out)

    return _in_child(work, delay) == -signal.SIGKILL


def _in_child(work: Callable[[], object], delay: float | None = None) -> int:
    """Run work in a forked process, killed after a time; the exit code, negative for a signal."""
    child = os.fork()
    if not child:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    if delay is not None:
        time.sleep(delay)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_at_byte(byte: int) -> None:
    """Let the process write so many bytes and no more."""
    write, room = os.write, byte

    def cut(handle: int, data: memoryview) -> int:
        nonlocal room
        if len(data) > room:
            write(handle, data[:room])
            _die()
        room -= len(data)
        return write(handle, data)

    os.write = cut  # pyright: ignore[reportAttributeAccessIssue]


def _die_at_step(step: int) -> None:
    """Die before or after one of the syncs and renames."""
    left = step

    def counted(call: Callable[..., object]) -> Callable[..., object]:
        def run(*arguments: object) -> object:
            nonlocal left
            before, after = left == 0, left == 1
            left -= 2
            if before:
                _die()
            result = call(*arguments)
            if after:
                _die()
            return result

        return run

    os.fsync = counted(os.fsync)  # pyright: ignore[reportAttributeAccessIssue]
    Path.replace = counted(Path.replace)  # pyright: ignore[reportAttributeAccessIssue]


def _remove(folder: Path) -> None:
    for path in [*folder.iterdir()] if folder.is_dir() else []:
        path.unlink()
    if folder.is_dir():
        folder.rmdir()


def main(n_kills: int) -> None:
    """Run a campaign and add its outcome to results.json."""
    with tempfile.TemporaryDirectory() as name:
        found = run_campaign(n_kills, Path(name), say=lambda line: print(line, flush=True))
    in_middle = sum(0 < kept < found.n_shards for kept in found.kept)
    row = Row(
        name=f"kill_campaign[{n_kills} kills, {found.n_shards} shards, {in_middle} between the first and the last]",
        ours=found.n_identical,
        peer=n_kills,
        ratio=found.n_identical / n_kills,
        unit="byte-identical stores",
        machine=f"{os.cpu_count()} CPU cores, {found.seconds:.0f} s",
        command=f"python -m benchmarks.kill_campaign {n_kills}",
        ratio_low=found.n_identical / n_kills,
        ratio_high=found.n_identical / n_kills,
        rounds=1,
        peer_name="captures killed with SIGKILL and resumed",
    )
    others = [
        r for r in json.loads(RESULTS.read_text()) if not r["name"].startswith("kill_campaign")
    ]
    rows = sorted([*others, asdict(row)], key=lambda r: r["name"])
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
    print(row, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
