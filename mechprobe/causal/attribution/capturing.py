"""Activations and gradients at the tokens that are explained, one row a token."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.causal.attribution.runs import Runs
from mechprobe.causal.effects import BATCH_TOKENS
from mechprobe.models.batches import TokenBatch, length_sorted_batches
from mechprobe.models.gradients import gradients_of, record_pass
from mechprobe.models.subject import Subject


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Slopes:
    """Activations at the explained tokens, what the runs read, and how that changes with the activations."""

    acts: dict[str, Float[Tensor, "row d"]]
    gradients: dict[str, Float[Tensor, "row d"]]
    values: Float[Tensor, "case"]


Moved = Callable[[Float[Tensor, "row d"], Int[Tensor, "row"]], Float[Tensor, "row d"]]
"""Activations of explained tokens and their row numbers -> those that the run goes on with."""


def local_slopes(
    subject: Subject,
    runs: Runs,
    hook_names: Sequence[str],
    *,
    moved: Moved | None = None,
    batch_tokens: int = BATCH_TOKENS,
) -> Slopes:
    """Gradients at all hook points from one backward pass a batch.

    Args:
        moved: changes the explained tokens' activations at the first hook point before the run goes on.

    Raises:
        HookError: a hook point does not exist, or the outcome does not depend on it.
        ModelError: a gradient is NaN or infinite.
    """
    of_case = _rows_of_cases(runs)
    n_rows = len(runs.row_case)
    acts = {name: torch.empty(n_rows, subject.width(name)) for name in hook_names}
    gradients = {name: torch.empty(n_rows, subject.width(name)) for name in hook_names}
    values = torch.empty(len(runs))
    for chosen in length_sorted_batches([len(row) for row in runs.ids], batch_tokens):
        batch = TokenBatch.of([runs.ids[case] for case in chosen], subject.pad_id)
        place = _Places.of(runs, of_case, chosen)
        changes = {} if moved is None else {hook_names[0]: place.change(moved)}
        ends = torch.tensor([len(runs.ids[case]) - 1 for case in chosen])
        recording = record_pass(subject, batch, hook_names, columns=ends, changes=changes)
        assert recording.logits is not None  # columns were asked for
        read = runs.readout.read(recording.logits, torch.tensor(chosen))
        found = gradients_of(read.sum(), recording, hook_names)
        values[list(chosen)] = read.detach().float().cpu()
        for name in hook_names:
            acts[name][place.row] = place.take(recording.acts[name].detach())
            gradients[name][place.row] = place.take(found[name])
    return Slopes(acts=acts, gradients=gradients, values=values)


def captured_rows(
    subject: Subject,
    ids: Sequence[Sequence[int]],
    positions: Int[Tensor, "case site"],
    hook_names: Sequence[str],
    *,
    batch_tokens: int = BATCH_TOKENS,
) -> dict[str, Float[Tensor, "row d"]]:
    """Clean activations at chosen tokens, in the order of `positions`.

    Raises:
        HookError: a hook point does not exist.
    """
    is_token = positions >= 0
    number = torch.full_like(positions, -1)
    number[is_token] = torch.arange(int(is_token.sum()))
    found = {name: torch.empty(int(is_token.sum()), subject.width(name)) for name in hook_names}
    for chosen in length_sorted_batches([len(row) for row in ids], batch_tokens):
        batch = TokenBatch.of([ids[case] for case in chosen], subject.pad_id)
        acts = subject.capture(batch, hook_names)
        here = list(chosen)
        line, slot = torch.nonzero(is_token[here], as_tuple=True)
        for name in hook_names:
            taken = acts[name][line, positions[here][line, slot]]
            found[name][number[here][line, slot]] = taken.float().cpu()
    return found


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Places:
    """Where the explained tokens of a batch stand, and which rows they are."""

    line: Int[Tensor, "row"]
    column: Int[Tensor, "row"]
    row: Int[Tensor, "row"]

    @classmethod
    def of(cls, runs: Runs, rows: Sequence[Tensor], chosen: Sequence[int]) -> "_Places":
        row = torch.cat([rows[case] for case in chosen])
        line = torch.cat([torch.full((len(rows[c]),), i) for i, c in enumerate(chosen)])
        return cls(line=line, column=runs.row_position[row], row=row)

    def take(self, acts: Tensor) -> Tensor:
        return acts[self.line, self.column].float().cpu()

    def change(self, moved: Moved) -> Callable[[Tensor], Tensor]:
        def apply(acts: Tensor) -> Tensor:
            new = acts.detach().clone()
            rows = moved(self.take(acts.detach()), self.row)
            new[self.line, self.column] = rows.to(new)
            return new

        return apply


def _rows_of_cases(runs: Runs) -> list[Int[Tensor, "row"]]:
    counts = torch.bincount(runs.row_case, minlength=len(runs))
    return list(torch.arange(len(runs.row_case)).split(counts.tolist()))
