"""One model's outcomes of cases, with the progress of the runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mechprobe.causal.cases import Case
from mechprobe.causal.effects import EditPlan, measure
from mechprobe.causal.outcomes import Readings
from mechprobe.models.subject import Subject


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Runner:
    """Reads outcomes of cases on one model, and tells how many runs are done."""

    subject: Subject
    batch_tokens: int
    progress: Callable[[int], object] | None = None

    def read(
        self,
        cases: Sequence[Case],
        outcome: str,
        plan: EditPlan | None = None,
        n_conditions: int = 1,
    ) -> Readings:
        """Outcomes under each condition of the plan, or unedited."""
        return measure(
            self.subject,
            cases,
            outcome,
            plan=plan,
            n_conditions=n_conditions,
            batch_tokens=self.batch_tokens,
            progress=self.progress,
        )
