"""What an executor is: many units of one kind of work, done here or elsewhere, each committed by the work itself.

A unit is a few numbers or a path, and so is its result: activations never travel. The work is deterministic and
writes its files whole or not at all, so that a unit that is done twice, or half and then again, leaves what one go leaves.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, runtime_checkable

Unit = TypeVar("Unit")
Result = TypeVar("Result")

Work = Callable[[Unit], Result]
"""Does one unit."""
MakeWork = Callable[[], Work[Unit, Result]]
"""Makes the work ready (loads a model); called once in each process that works, and again after that has died."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Done(Generic[Unit, Result]):
    """A unit that was done, and the small value that the work returned."""

    unit: Unit
    result: Result


@runtime_checkable
class Executor(Protocol):
    """Runs units of work."""

    @property
    def is_here(self) -> bool:
        """Whether the work runs in this process and may use its objects; else it is pickled."""
        ...

    def map(
        self, make_work: MakeWork[Unit, Result], units: Sequence[Unit]
    ) -> Iterator[Done[Unit, Result]]:
        """Do all units; yields each when it is done, in any order.

        Raises:
            WorkError: a unit failed in another process as often as it may; the others were done before this is raised.
        """
        ...
