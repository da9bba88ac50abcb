"""What runs inside Ray's worker processes: the work, and the ledger that counts how often a unit was begun.

Ray starts a dead worker again and hands it its units again, as often as it takes. So a unit that kills its worker
would go round for ever; the ledger, a process of its own that outlives the workers, stops it.
"""

import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from mechprobe.errors import MechprobeError
from mechprobe.executors.work import MakeWork


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a worker says about a unit."""

    kind: Literal["done", "failed", "not ready"]
    """"not ready": the work itself could not be made, so that no unit can be done."""
    result: Any = None
    reason: str = ""
    trace: str = ""


class Ledger:
    """Counts how often each unit was begun."""

    def __init__(self) -> None:
        self._begun: Counter[int] = Counter()

    def begin(self, number: int) -> int:
        """Note that a unit is begun; return how often that makes."""
        self._begun[number] += 1
        return self._begun[number]


class Worker:
    """Does units, one at a time; its model is loaded when the first one comes."""

    def __init__(
        self, make_work: MakeWork[Any, Any], begin: Callable[[int], int], max_attempts: int
    ) -> None:
        self._make_work = make_work
        self._begin = begin
        self._max_attempts = max_attempts
        self._work: Callable[[Any], Any] | None = None

    def do(self, number: int, unit: Any) -> Answer:
        """Do a unit, again if it fails, until it has been begun as often as it may."""
        if self._work is None:
            try:
                self._work = self._make_work()
            except Exception as error:
                return _answer("not ready", error)
        answer = Answer(kind="failed", reason="its worker died each time (see Ray's logs)")
        while self._begin(number) <= self._max_attempts:
            try:
                return Answer(kind="done", result=self._work(unit))
            except Exception as error:
                answer = _answer("failed", error)
        return answer


def _answer(kind: Literal["failed", "not ready"], error: Exception) -> Answer:
    """An error as text, since not every error survives the way through a pickle."""
    is_ours = isinstance(error, MechprobeError)
    return Answer(
        kind=kind,
        reason=str(error) if is_ours else f"{type(error).__name__}: {error}",
        trace="".join(traceback.format_exception(error)),
    )
