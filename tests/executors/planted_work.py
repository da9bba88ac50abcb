"""Work whose results, deaths and failures are known; the workers import it by name."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class PlantedWork:
    """Writes the square of each unit into a folder, and notes each time that it begins."""

    folder: Path
    dies_once: tuple[int, ...] = ()
    """Units that kill their worker the first time."""
    dies_always: tuple[int, ...] = ()
    fails: tuple[int, ...] = ()
    """Units that raise each time."""
    cannot_begin: bool = False

    def open(self) -> Callable[[int], int]:
        if self.cannot_begin:
            raise OSError("no weights here")
        return self.do

    def do(self, unit: int) -> int:
        begun = self.folder / f"begun-{unit}-{time.time_ns()}-{os.getpid()}"
        begun.touch()
        if unit in self.dies_always or (unit in self.dies_once and self.n_begun(unit) == 1):
            os._exit(17)
        if unit in self.fails:
            raise ValueError(f"unit {unit} is poison")
        (self.folder / f"done-{unit}").write_text(str(unit**2))
        return unit**2

    def n_begun(self, unit: int) -> int:
        return len(list(self.folder.glob(f"begun-{unit}-*")))

    def done(self) -> dict[int, int]:
        paths = self.folder.glob("done-*")
        return {int(path.name.removeprefix("done-")): int(path.read_text()) for path in paths}


@dataclass(frozen=True, kw_only=True)
class DyingExecutor:
    """Runs a capture on another executor, whose worker is killed in the middle of one shard the first time."""

    inner: Any
    shard: int
    folder: Path
    is_here: bool = False

    def map(self, make_work: Any, units: Sequence[Any]) -> Iterator[Any]:
        dying = _Dying(make_work=make_work, shard=self.shard, folder=self.folder)
        return self.inner.map(dying.open, units)


@dataclass(frozen=True, kw_only=True)
class _Dying:
    make_work: Any
    shard: int
    folder: Path

    def open(self) -> Callable[[Any], Any]:
        work = self.make_work()

        def do(shard: Any) -> Any:
            marker = self.folder / "died"
            if shard.index != self.shard or marker.exists():
                return work(shard)
            marker.touch()
            # Called after the first pass of the model, when the shard is half made.
            return replace(work, advance=lambda _: os._exit(17))(shard)

        return do
