"""The executor that needs nothing: one unit after the other, in this process."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mechprobe.executors.work import Done, MakeWork, Result, Unit


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalExecutor:
    """Does the units in their order; the first error ends the run as it is, with what was done before kept."""

    @property
    def is_here(self) -> bool:
        """True."""
        return True

    def map(
        self, make_work: MakeWork[Unit, Result], units: Sequence[Unit]
    ) -> Iterator[Done[Unit, Result]]:
        """Do the units one by one."""
        if units:
            work = make_work()
            for unit in units:
                yield Done(unit=unit, result=work(unit))
