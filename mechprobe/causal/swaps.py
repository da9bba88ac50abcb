"""Swapping a part of the activation between the sides of a pair, and its complement: swapping all but that part.

A *part* is what a direction or a set of SAE features contributes to an activation. Swapping it asks what it does;
swapping everything else asks what is left without it. A direction that overlaps with the cause moves a share of it
and so does something, whatever it was fitted on: its complement still does the rest, while the complement of a part
that mediates the thought does nothing (CAUSAL.md section 3.4; the argument is that of Geiger et al., arXiv
2303.02536, section 3).
"""

from collections.abc import Callable, Sequence

import torch
from einops import einsum
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.causal.directions import Direction, PartOf, SpanActs, check_both
from mechprobe.causal.edits.interventions import replace_at
from mechprobe.causal.effects import SitePlan, check_width
from mechprobe.causal.places.sites import SiteActs
from mechprobe.errors import ShapeError
from mechprobe.models.hooks import Edit
from mechprobe.saes.lens import Sae, d_sae_of, decoder_rows

Deltas = Callable[[Int[Tensor, "row"], Int[Tensor, "row"]], Float[Tensor, "row site d"]]
"""Condition and case of each row -> what the case's activation takes over from its partner."""


def along(acts: SiteActs, directions: Float[Tensor, "condition d"]) -> Deltas:
    """The parts along unit directions.

    Raises:
        ShapeError: the directions are not as wide as the hook point.
    """
    check_width(directions, acts)

    def deltas(condition: Int[Tensor, "row"], case: Int[Tensor, "row"]) -> Tensor:
        units = directions[condition]
        moved = einsum(acts.partner[case] - acts.own[case], units, "row site d, row d -> row site")
        return moved[..., None] * units[:, None]

    return deltas


def parts_of(acts: SiteActs, directions: Sequence[Direction]) -> Deltas:
    """The parts that the directions stand for, be they projections or features."""
    check_width(torch.stack([direction.vector for direction in directions]), acts)
    moved = torch.stack([d.part(acts.partner) - d.part(acts.own) for d in directions])
    return lambda condition, case: moved[condition, case]


def swap_plan(acts: SiteActs, deltas: Deltas) -> SitePlan:
    """Write the own activation with the partner's part."""

    def edit(tokens: Tensor, condition: Tensor, case: Tensor) -> Edit:
        return replace_at(acts.site.hook_name, tokens, acts.own[case] + deltas(condition, case))

    return SitePlan(hook_name=acts.site.hook_name, positions=acts.positions, edit=edit)


def complement_plan(acts: SiteActs, deltas: Deltas) -> SitePlan:
    """Write the partner's activation with the own part."""

    def edit(tokens: Tensor, condition: Tensor, case: Tensor) -> Edit:
        return replace_at(acts.site.hook_name, tokens, acts.partner[case] - deltas(condition, case))

    return SitePlan(hook_name=acts.site.hook_name, positions=acts.positions, edit=edit)


def feature_part(sae: Sae, features: Sequence[int]) -> PartOf:
    """What chosen SAE features contribute: the sum of activation times decoder row.

    Swapping it is the clamp of every feature to its value in the partner, in the delta form
    x + decode(f') - decode(f), in which the SAE's error stays as it was (arXiv 2403.19647, section 2).

    Raises:
        ShapeError: the SAE has no such feature.
    """
    chosen = list(features)
    if not chosen or not 0 <= min(chosen) <= max(chosen) < d_sae_of(sae):
        raise ShapeError(
            f"features {chosen} were asked for; the SAE has features 0 to {d_sae_of(sae) - 1}, and at least one "
            "must be named."
        )
    rows = decoder_rows(sae)[chosen].float()

    def part(acts: Float[Tensor, "*case d"]) -> Float[Tensor, "*case d"]:
        with torch.no_grad():
            return sae.encode(acts)[..., chosen].float() @ rows

    return part


def feature_direction(
    spans: SpanActs, sae: Sae, *, indicator: str, name: str, features: Sequence[int]
) -> Direction:
    """SAE features as a direction: they are swapped one by one, and steered along their mean difference.

    Raises:
        ShapeError: the SAE has no such feature, or its features do not differ between the classes.
        DataError: the indicator lacks spans that hold it or hard negatives.
    """
    acts, is_present = spans.of(indicator)
    check_both(indicator, is_present)
    part = feature_part(sae, features)
    written = part(acts)
    difference = written[is_present].mean(0) - written[~is_present].mean(0)
    gap = float(difference.norm())
    if not gap > 0:
        raise ShapeError(
            f"features {list(features)} of {indicator!r} have the same mean with and without it, so there is no "
            "direction to steer along; choose features that fire on it."
        )
    return Direction(indicator=indicator, name=name, vector=difference / gap, gap=gap, part_of=part)
