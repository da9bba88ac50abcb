"""The complement control: everything at the site but the direction.

A direction that overlaps with the cause moves a share of it and so does something, whatever it was fitted on. What
tells the cause from its shadow is what is left without it: patch the whole activation and keep the run's own
coordinate along the direction. A direction that mediates the thought leaves nothing; a shadow leaves most of it
(CAUSAL.md section 3.4; the mediation argument is that of Geiger et al., arXiv 2303.02536, section 3).
"""

from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.causal.effects import EditPlan, check_width
from mechprobe.causal.interventions import replace_at
from mechprobe.causal.sites import SiteActs
from mechprobe.models.hooks import Edit


def complement_plan(acts: SiteActs, directions: Float[Tensor, "condition d"]) -> EditPlan:
    """Write the partner's whole activation except its coordinate along each (unit) direction.

    Raises:
        ShapeError: the directions are not as wide as the hook point.
    """
    check_width(directions, acts)

    def plan(condition: Int[Tensor, "row"], case: Int[Tensor, "row"]) -> Edit:
        along, own, partner = directions[condition], acts.own[case], acts.partner[case]
        kept = einsum(own - partner, along, "row site d, row d -> row site")
        return replace_at(
            acts.site.hook_name,
            acts.positions[case],
            partner + kept[..., None] * along[:, None],
        )

    return plan
