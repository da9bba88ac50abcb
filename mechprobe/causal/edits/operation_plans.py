"""Any operation, and whole subspaces, as conditions of a sweep: each row of a batch gets its own condition's edit."""

from collections.abc import Sequence

from einops import einsum
from jaxtyping import Float
from torch import Tensor

from mechprobe.causal.edits.edited_rows import Operation, Rows, edit_at, fitting
from mechprobe.causal.edits.interventions import set_in_subspace
from mechprobe.causal.effects import SitePlan
from mechprobe.causal.places.sites import SiteActs
from mechprobe.models.hooks import Edit


def subspace_plan(acts: SiteActs, bases: Float[Tensor, "condition d k"]) -> SitePlan:
    """N1 / S1 in more dimensions: give the case its partner's part in each subspace.

    Raises:
        ShapeError: a basis is not finite, not orthonormal, or not as wide as the hook point.
    """
    fitting(bases.mT, acts.partner.flatten(0, 1), "the basis")
    values = einsum(acts.partner, bases, "case site d, condition d k -> condition case site k")

    def edit(tokens: Tensor, condition: Tensor, case: Tensor) -> Edit:
        return set_in_subspace(
            acts.site.hook_name, tokens, bases[condition], values[condition, case]
        )

    return SitePlan(hook_name=acts.site.hook_name, positions=acts.positions, edit=edit)


def operation_plan(acts: SiteActs, operations: Sequence[Operation]) -> SitePlan:
    """One condition for each operation, such as an erasure, a rotation, or a conditional edit.

    Operations that ask which case a row is of are told the sweep's case, wherever it stands in a batch.
    """

    def edit(tokens: Tensor, condition: Tensor, case: Tensor) -> Edit:
        def apply(live: Tensor, rows: Rows) -> Tensor:
            changed = live.clone()
            asked = condition.to(live.device)[rows.case]
            for number in asked.unique().tolist():
                of_it = asked == number
                own = Rows(
                    case=case.to(live.device)[rows.case[of_it]],
                    slot=rows.slot[of_it],
                    position=rows.position[of_it],
                    column=rows.column[of_it],
                )
                changed[of_it] = operations[number](live[of_it], own).to(live.dtype)
            return changed

        return edit_at(acts.site.hook_name, tokens, apply)

    return SitePlan(hook_name=acts.site.hook_name, positions=acts.positions, edit=edit)


def mean_of_partners(acts: SiteActs) -> Float[Tensor, "d"]:
    """The mean activation of the partners at the site, which `mean_ablation` writes."""
    return acts.partner[acts.positions >= 0].mean(0)


def pool_of_partners(acts: SiteActs) -> Float[Tensor, "row d"]:
    """The partners' activations at the site, one a token, which `resample_ablation` draws from."""
    return acts.partner[acts.positions >= 0]
