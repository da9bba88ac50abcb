"""Run many conditions over many cases: directions x strengths x pairs share each forward pass.

An *edit plan* says which edit a row of the batch gets, given the condition and the case of each row. Everything that
acts along one direction at a site is one of three plans, so a new operation is a new plan and no new loop.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.causal.cases import Case
from mechprobe.causal.interventions import add_direction, replace_at, set_coordinate
from mechprobe.causal.outcomes import AnswerTokens, Readings, read_outcome
from mechprobe.causal.sites import SiteActs
from mechprobe.errors import ShapeError
from mechprobe.models.batches import TokenBatch
from mechprobe.models.hooks import Edit
from mechprobe.models.subject import Subject

EditPlan = Callable[[Int[Tensor, "row"], Int[Tensor, "row"]], Edit]
"""Condition and case of each row of a batch -> the edit for that batch."""

BATCH_TOKENS = 8192
"""Tokens of one forward pass; on CPU, larger batches were slower again (CAUSAL.md prototype)."""


def measure(
    subject: Subject,
    cases: Sequence[Case],
    outcome: str,
    *,
    plan: EditPlan | None = None,
    n_conditions: int = 1,
    batch_tokens: int = BATCH_TOKENS,
    progress: Callable[[int], object] | None = None,
) -> Readings:
    """Read an outcome in every case under every condition.

    Args:
        plan: None runs the cases unedited.
        progress: told the number of runs after each batch.
    """
    ends = np.array([case.own.reads[outcome].at + 1 for case in cases])
    answers = AnswerTokens.of([case.pair.outcomes[outcome] for case in cases])
    logit_diff = np.full((n_conditions, len(cases)), np.nan)
    mass = np.full((n_conditions, len(cases)), np.nan)
    for condition, case in grid_batches(ends, n_conditions, batch_tokens):
        ids = [cases[i].own.token_ids[: ends[i]].tolist() for i in case]
        case_index = torch.from_numpy(case)
        edits = [] if plan is None else [plan(torch.from_numpy(condition), case_index)]
        logits = subject.run(
            TokenBatch.of(ids, subject.pad_id),
            edits=edits,
            positions=torch.from_numpy(ends[case] - 1),
        )
        found, share = read_outcome(logits, answers.pick(case_index))
        logit_diff[condition, case] = found.cpu().numpy()
        mass[condition, case] = share.cpu().numpy()
        if progress is not None:
            progress(len(case))
    return Readings(logit_diff=logit_diff, mass=mass)


def grid_batches(
    lengths: Int[np.ndarray, "case"], n_conditions: int, batch_tokens: int
) -> list[tuple[Int[np.ndarray, "row"], Int[np.ndarray, "row"]]]:
    """Split conditions x cases into batches of like length, at most `batch_tokens` tokens each."""
    order = np.argsort(lengths, kind="stable")
    case = np.repeat(order, n_conditions)
    condition = np.tile(np.arange(n_conditions), len(order))
    batches: list[tuple[Int[np.ndarray, "row"], Int[np.ndarray, "row"]]] = []
    start = 0
    while start < len(case):
        # The rows are sorted, so a batch is as wide as its last row.
        widths = lengths[case[start:]] * np.arange(1, len(case) - start + 1)
        stop = start + max(1, int(np.searchsorted(widths, batch_tokens, side="right")))
        batches.append((condition[start:stop], case[start:stop]))
        start = stop
    return batches


def patch_plan(acts: SiteActs) -> EditPlan:
    """P0: write the partner's whole activation, the most that any direction at the site can do."""

    def plan(_condition: Int[Tensor, "row"], case: Int[Tensor, "row"]) -> Edit:
        return replace_at(acts.site.hook_name, acts.positions[case], acts.partner[case])

    return plan


def interchange_plan(acts: SiteActs, directions: Float[Tensor, "condition d"]) -> EditPlan:
    """N1 / S1: give the case its partner's coordinate along each direction.

    Raises:
        ShapeError: the directions are not as wide as the hook point.
    """
    check_width(directions, acts)
    values = einsum(acts.partner, directions, "case site d, condition d -> condition case site")
    return coordinate_plan(acts, directions, values)


def coordinate_plan(
    acts: SiteActs,
    directions: Float[Tensor, "condition d"],
    values: Float[Tensor, "condition case site"],
) -> EditPlan:
    """N2: set the coordinate along each direction to given values, such as a class mean or 0."""
    check_width(directions, acts)

    def plan(condition: Int[Tensor, "row"], case: Int[Tensor, "row"]) -> Edit:
        return set_coordinate(
            acts.site.hook_name,
            acts.positions[case],
            directions[condition],
            values[condition, case],
        )

    return plan


def addition_plan(
    acts: SiteActs,
    directions: Float[Tensor, "condition d"],
    amounts: Float[Tensor, "condition case site"],
) -> EditPlan:
    """S2: add an amount along each direction."""
    check_width(directions, acts)

    def plan(condition: Int[Tensor, "row"], case: Int[Tensor, "row"]) -> Edit:
        return add_direction(
            acts.site.hook_name,
            acts.positions[case],
            directions[condition],
            amounts[condition, case],
        )

    return plan


def check_width(directions: Float[Tensor, "condition d"], acts: SiteActs) -> None:
    """Raise a ShapeError unless the directions are as wide as the activations."""
    wanted = acts.own.shape[-1]
    if directions.shape[-1] != wanted:
        raise ShapeError(
            f"a direction has {directions.shape[-1]} numbers, {acts.site.hook_name} has {wanted}; fit the "
            "direction on this hook point."
        )
