"""Run many conditions over many cases: directions x strengths x pairs share each forward pass.

An *edit plan* says which edit a row of the batch gets, given the condition and the case of each row. Everything that
acts along one direction at a site is one of three plans, so a new operation is a new plan and no new loop. A plan that
also says at which tokens it acts is run from the first of them on: what stands before is the same in every condition.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.causal.cases import Case
from mechprobe.causal.edits.interventions import add_direction, replace_at, set_coordinate
from mechprobe.causal.outcomes import AnswerTokens, Readings, read_outcome
from mechprobe.causal.places.sites import SiteActs
from mechprobe.errors import HookError, ShapeError
from mechprobe.models.batches import TokenBatch
from mechprobe.models.hooks import Edit
from mechprobe.models.subject import Subject

EditPlan = Callable[[Int[Tensor, "row"], Int[Tensor, "row"]], Edit]
"""Condition and case of each row of a batch -> the edit for that batch."""

BATCH_TOKENS = 4096
"""Tokens of one forward pass; on one CPU thread 2048 to 8192 are about as fast, and 16384 slower again."""
KEPT_TOKEN_COST = 0.25
"""What a token whose keys and values are kept costs of a token that is run: a run holds them for one layer at a time."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SitePlan:
    """An edit plan that acts on given tokens only."""

    hook_name: str
    positions: Int[Tensor, "case site"]
    """Tokens that are edited in each case; -1 fills up."""
    edit: Callable[[Int[Tensor, "row site"], Int[Tensor, "row"], Int[Tensor, "row"]], Edit]
    """Tokens, condition and case of each row of a batch -> the edit for that batch."""

    def __call__(self, condition: Int[Tensor, "row"], case: Int[Tensor, "row"]) -> Edit:
        """The edit for a batch."""
        return self.edit(self.positions[case], condition, case)

    @property
    def first(self) -> Int[np.ndarray, "case"]:
        """The first edited token of each case.

        Raises:
            HookError: a case has none.
        """
        is_token = self.positions >= 0
        if not bool(is_token.any(1).all()):
            raise HookError(
                f"case {int((~is_token.any(1)).nonzero()[0])} has no token to edit at {self.hook_name!r}; drop it, or "
                "choose a position that it has."
            )
        absent = torch.iinfo(self.positions.dtype).max
        return self.positions.masked_fill(~is_token, absent).min(1).values.cpu().numpy()


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
        plan: None runs the cases unedited; a `SitePlan` computes what its conditions share once where that pays.
        batch_tokens: tokens of one forward pass.
        progress: told the number of runs after each batch.

    Raises:
        HookError: an edit fires nowhere, or before the tokens of its plan.
    """
    ids = [case.own.token_ids[: case.own.reads[outcome].at + 1].tolist() for case in cases]
    ends = np.array([len(tokens) for tokens in ids])
    first = _shared_tokens(subject, ends, plan, n_conditions)
    answers = AnswerTokens.of([case.pair.outcomes[outcome] for case in cases])
    logit_diff = np.full((n_conditions, len(cases)), np.nan)
    mass = np.full((n_conditions, len(cases)), np.nan)
    for condition, case in grid_batches(ends, n_conditions, batch_tokens, kept=first):
        case_index = torch.from_numpy(case)
        edits = [] if plan is None else [plan(torch.from_numpy(condition), case_index)]
        if first is None:
            rows = TokenBatch.of([ids[i] for i in case], subject.pad_id)
            logits = subject.run(rows, edits=edits, positions=torch.from_numpy(ends[case] - 1))
        else:
            few, row_of = np.unique(case, return_inverse=True)
            logits = subject.run_shared(
                [ids[i] for i in few],
                torch.from_numpy(row_of),
                first=first[few].tolist(),
                edits=edits,
            )
        found, share = read_outcome(logits, answers.pick(case_index))
        logit_diff[condition, case] = found.cpu().numpy()
        mass[condition, case] = share.cpu().numpy()
        if progress is not None:
            progress(len(case))
    return Readings(logit_diff=logit_diff, mass=mass)


def _shared_tokens(
    subject: Subject,
    ends: Int[np.ndarray, "case"],
    plan: EditPlan | None,
    n_conditions: int,
) -> Int[np.ndarray, "case"] | None:
    """How many tokens of each case its conditions share; None where sharing is impossible or does not pay."""
    if not isinstance(plan, SitePlan):
        return None
    first = plan.first
    if (first >= ends).any():
        case = int((first >= ends).argmax())
        raise HookError(
            f"case {case} is read at token {ends[case] - 1} and edited from token {first[case]} on at "
            f"{plan.hook_name!r}; an edit there would not fire."
        )
    if n_conditions == 1:
        return None
    n_blocks = subject.shared_blocks([plan.hook_name])
    if n_blocks is None:
        return None
    edited = n_conditions * (ends - first).sum() * (1 - n_blocks / subject.n_layers)
    return first if ends.sum() + edited < n_conditions * ends.sum() else None


def grid_batches(
    lengths: Int[np.ndarray, "case"],
    n_conditions: int,
    batch_tokens: int,
    *,
    kept: Int[np.ndarray, "case"] | None = None,
) -> list[tuple[Int[np.ndarray, "row"], Int[np.ndarray, "row"]]]:
    """Split conditions x cases into batches of like length, at most `batch_tokens` tokens each.

    Args:
        kept: first tokens of each case that are not run, but whose keys and values are held.
    """
    held = np.zeros_like(lengths) if kept is None else kept
    order = np.lexsort((held, lengths - held))
    case = np.repeat(order, n_conditions)
    condition = np.tile(np.arange(n_conditions), len(order))
    n_run, n_held = (lengths - held)[case], held[case]
    batches: list[tuple[Int[np.ndarray, "row"], Int[np.ndarray, "row"]]] = []
    start = 0
    while start < len(case):
        # A batch is as wide as its widest row, before and after the first edited token.
        run, hold = (np.maximum.accumulate(n[start:]) for n in (n_run, n_held))
        cost = (run + KEPT_TOKEN_COST * hold) * np.arange(1, len(case) - start + 1)
        stop = start + max(1, int(np.searchsorted(cost, batch_tokens, side="right")))
        batches.append((condition[start:stop], case[start:stop]))
        start = stop
    return batches


def patch_plan(acts: SiteActs) -> SitePlan:
    """P0: write the partner's whole activation, the most that any direction at the site can do."""

    def edit(tokens: Tensor, _condition: Tensor, case: Tensor) -> Edit:
        return replace_at(acts.site.hook_name, tokens, acts.partner[case])

    return SitePlan(hook_name=acts.site.hook_name, positions=acts.positions, edit=edit)


def interchange_plan(acts: SiteActs, directions: Float[Tensor, "condition d"]) -> SitePlan:
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
) -> SitePlan:
    """N2: set the coordinate along each direction to given values, such as a class mean or 0."""
    check_width(directions, acts)

    def edit(tokens: Tensor, condition: Tensor, case: Tensor) -> Edit:
        return set_coordinate(
            acts.site.hook_name, tokens, directions[condition], values[condition, case]
        )

    return SitePlan(hook_name=acts.site.hook_name, positions=acts.positions, edit=edit)


def addition_plan(
    acts: SiteActs,
    directions: Float[Tensor, "condition d"],
    amounts: Float[Tensor, "condition case site"],
) -> SitePlan:
    """S2: add an amount along each direction."""
    check_width(directions, acts)

    def edit(tokens: Tensor, condition: Tensor, case: Tensor) -> Edit:
        return add_direction(
            acts.site.hook_name, tokens, directions[condition], amounts[condition, case]
        )

    return SitePlan(hook_name=acts.site.hook_name, positions=acts.positions, edit=edit)


def check_width(directions: Float[Tensor, "condition d"], acts: SiteActs) -> None:
    """Raise a ShapeError unless the directions are as wide as the activations."""
    wanted = acts.own.shape[-1]
    if directions.shape[-1] != wanted:
        raise ShapeError(
            f"a direction has {directions.shape[-1]} numbers, {acts.site.hook_name} has {wanted}; fit the "
            "direction on this hook point."
        )
