"""Does an interchange act through what the model reads and the text varies, or by waking a dormant direction?

A direction can mix two parts: one that goes with the concept but that nothing downstream reads, and one that is read
but does not go with the concept. Interchange along the mix carries the variation of the first over to the second, and
the behaviour moves although the model never uses the concept there (Makelov, Lange, Nanda, arXiv 2311.17030, sections
3-4). Two tests tell:

* the same interchange in the plane of both parts, which contains the direction: each part then gets its natural partner
  value, so a mediator moves the behaviour as before and an illusion does not;
* the whole-activation patch, which contains everything.

What is read comes from the weights of later layers, or from gradients of the outcome. A weight says what *could* be
read: in small models the later layers read every direction, so directions are ordered by how strongly they are read.
Gradients say what moves *this* outcome on these texts, to first order: they miss what saturates. A difference of means
cannot be such an illusion for the average pair, since interchange along it is the natural change itself; weights of
probes and trained directions can.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from mechprobe.causal.cases import Case
from mechprobe.causal.directions import Direction
from mechprobe.causal.effects import BATCH_TOKENS, measure, patch_plan
from mechprobe.causal.outcomes import AnswerTokens, read_outcome
from mechprobe.causal.places.sites import Site, SiteActs, tokens_at
from mechprobe.causal.swaps import swap_plan
from mechprobe.causal.verdicts.strata import Baseline
from mechprobe.errors import DataError, ShapeError
from mechprobe.models.batches import TokenBatch, length_sorted_batches
from mechprobe.models.gradients import gradients_at
from mechprobe.models.readers import UNEMBEDDING, Reader, residual_readers
from mechprobe.models.subject import Subject

READ_ENERGY = 0.99
"""Share of what is read that the read subspace holds; the rest of the space counts as not read."""
MIN_EFFECT = 0.1
"""Natural gaps from which there is something to explain: the margin of "no effect" (CAUSAL.md section 5)."""
KEPT_SHARE = 0.5
"""A mediator keeps its effect when more is patched; below half of it, most came from an unnatural value."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ReadSpace:
    """The directions that are read at a site, the most strongly read first."""

    basis: Float[Tensor, "read d"]
    """Orthonormal; it holds READ_ENERGY of what is read."""
    energy: Float[Tensor, "d d"]
    """Quadratic form: how strongly a unit direction is read, 1 for a random one on average."""
    source: str
    """"weights" or "gradients"."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DormantSplit:
    """A unit direction as the sum of a part that is read and a part that is not."""

    read: Float[Tensor, "d"]
    """Unit vector along the part that is read; zero if there is none."""
    unread: Float[Tensor, "d"]
    """Unit vector along the part that is not; zero if there is none."""
    read_share: float
    """Share of the squared length in the read part."""
    chance_share: float
    """The same for a random direction: the share of dimensions that are read."""
    energy_read: float
    """How strongly the direction is read; a random one has 1 on average."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DormantFigures:
    """What the interchange along a direction does, and how much of it other interchanges keep.

    A share kept is the slope of the other's changes of the outcome on the direction's own, over cases: 1 if the other
    does at least the same, 0 if it does nothing; NaN if the direction does nothing.
    """

    source: str
    read_share: float
    chance_share: float
    energy_read: float
    natural_share: float
    """Of the change that the interchange makes along the read part, what the pairs themselves change there: 1 for a
    natural change, 0 if all of it was carried over; NaN if nothing is changed."""
    effect: float
    """Mean size of the change of the outcome, in natural gaps."""
    kept_read: float
    """Interchange along the read part alone."""
    kept_unread: float
    kept_plane: float
    """Interchange in the plane of both parts, which contains the direction."""
    kept_patch: float
    """The whole activation."""
    illusion_suspected: bool
    n: int
    """Cases."""


def weight_space(subject: Subject, site: Site) -> ReadSpace:
    """What the later layers' weights read at a site, each reader counting equally.

    The unembedding counts only where the outcome is read at the site's own token.

    Raises:
        ShapeError: the hook point is not as wide as the residual stream.
        HookError: nothing reads the stream after it.
    """
    readers = residual_readers(subject, site.hook_name)
    inner = [reader for reader in readers if reader.name != UNEMBEDDING]
    return reader_space(readers if site.position == "decision" or not inner else inner)


def reader_space(readers: Sequence[Reader]) -> ReadSpace:
    """What given readers read, each scaled to the same total."""
    total = torch.zeros((), dtype=torch.float64)
    for reader in readers:
        weight = reader.weight
        gram = einsum(weight, weight, "out a, out b -> a b").double()
        total = total + gram / gram.trace().clamp(min=1e-30)
    return _space(total, "weights")


def gradient_space(gradients: Float[Tensor, "row d"]) -> ReadSpace:
    """What an outcome depends on, from its gradients at the site.

    Raises:
        DataError: the gradients are all zero or not finite: the outcome does not depend on the site.
    """
    if not bool(gradients.isfinite().all()) or not bool(gradients.any()):
        raise DataError(
            f"the {len(gradients)} gradients of the outcome at the site are zero or not finite; the outcome does not "
            "depend on it to first order, so no direction there can be split."
        )
    rows = gradients.double()
    return _space(einsum(rows, rows, "row a, row b -> a b"), "gradients")


def outcome_gradients(
    subject: Subject,
    cases: Sequence[Case],
    site: Site,
    outcome: str,
    *,
    batch_tokens: int = BATCH_TOKENS,
) -> Float[Tensor, "row d"]:
    """Gradient of the outcome's logit difference at the site: a row a token, of both sides of every case."""
    answers = AnswerTokens.of([case.pair.outcomes[outcome] for case in cases])
    found: list[Tensor] = []
    for sides in ([case.own for case in cases], [case.partner for case in cases]):
        ends = [side.reads[outcome].at + 1 for side in sides]
        for chunk in length_sorted_batches(ends, batch_tokens):
            ids = [sides[i].token_ids[: ends[i]].tolist() for i in chunk]
            case, last = torch.tensor(chunk), torch.tensor([ends[i] - 1 for i in chunk])

            def difference(
                logits: Tensor, case: Tensor = case, last: Tensor = last
            ) -> Float[Tensor, "case"]:
                at = logits[torch.arange(len(last)), last.to(logits.device)]
                return read_outcome(at, answers.pick(case))[0]

            batch = TokenBatch.of(ids, subject.pad_id)
            gradients = gradients_at(subject, batch, site.hook_name, difference).float().cpu()
            for row, i in enumerate(chunk):
                tokens = torch.as_tensor(tokens_at(site.position, sides[i], outcome))
                found.append(gradients[row, tokens])
    return torch.cat(found)


def dormant_split(direction: Float[Tensor, "d"], space: ReadSpace) -> DormantSplit:
    """Split a unit direction into what is read and what is not.

    Raises:
        ShapeError: the direction is not as wide as the space, or not of unit length.
    """
    width = space.basis.shape[1]
    if len(direction) != width or abs(float(direction.norm()) - 1) > 1e-3:
        raise ShapeError(
            f"the direction has {len(direction)} numbers and length {float(direction.norm()):.3g}; the site has "
            f"{width} and the length must be 1."
        )
    unit = direction.double()
    inside = einsum(space.basis, unit, "read d, d -> read")
    read = einsum(inside, space.basis, "read, read d -> d")
    energy = einsum(unit, space.energy, unit, "a, a b, b ->")
    return DormantSplit(
        read=_unit_or_zero(read),
        unread=_unit_or_zero(unit - read),
        read_share=float(inside.pow(2).sum()),
        chance_share=len(space.basis) / width,
        energy_read=float(energy),
    )


def dormant_figures(
    subject: Subject,
    cases: Sequence[Case],
    acts: SiteActs,
    direction: Direction,
    space: ReadSpace,
    unedited: Baseline,
    outcome: str,
    *,
    batch_tokens: int = BATCH_TOKENS,
) -> DormantFigures:
    """Run the interchange along a direction, along its parts, in their plane, and with the whole activation.

    An illusion is suspected where the direction moves the outcome and the plane or the whole activation, which
    contain it, do not do half as much in the same cases. An SAE feature is split in each case by what it contributes.

    Args:
        unedited: outcomes of the same cases without an edit; it also holds the natural gap.

    Raises:
        ShapeError: the direction is not as wide as the site, or not of unit length.
    """
    split = dormant_split(direction.vector, space)
    made = direction.part(acts.partner) - direction.part(acts.own)
    read, unread = _parts(acts, made, space)
    moved = torch.stack([made, read, unread, read + unread])
    parts = measure(
        subject,
        cases,
        outcome,
        plan=swap_plan(acts, lambda condition, case: moved[condition, case]),
        n_conditions=len(moved),
        batch_tokens=batch_tokens,
    ).logit_diff
    patched = measure(subject, cases, outcome, plan=patch_plan(acts), batch_tokens=batch_tokens)
    own, *others = (edited - unedited.base for edited in (*parts, patched.logit_diff[0]))
    effect = float(np.abs(own).mean() / unedited.scale)
    # A share of next to nothing is noise.
    kept = [_slope(other, own) if effect >= MIN_EFFECT else math.nan for other in others]
    return DormantFigures(
        source=space.source,
        read_share=split.read_share,
        chance_share=split.chance_share,
        energy_read=split.energy_read,
        natural_share=natural_share(acts, direction, space),
        effect=effect,
        kept_read=kept[0],
        kept_unread=kept[1],
        kept_plane=kept[2],
        kept_patch=kept[3],
        illusion_suspected=is_illusion(effect, kept_plane=kept[2], kept_patch=kept[3]),
        n=len(cases),
    )


def is_illusion(effect: float, *, kept_plane: float, kept_patch: float) -> bool:
    """Whether a direction moves the outcome and one of the patches that contain it loses most of that."""
    return effect >= MIN_EFFECT and min(kept_plane, kept_patch) < KEPT_SHARE


def natural_share(acts: SiteActs, direction: Direction, space: ReadSpace) -> float:
    """How much of what the interchange changes along the part that is read, the pairs change there themselves."""
    made = direction.part(acts.partner) - direction.part(acts.own)
    read, _unread = _parts(acts, made, space)
    return _slope(read.flatten().double().numpy(), _inside(made, space).flatten().double().numpy())


def _parts(
    acts: SiteActs, made: Float[Tensor, "case site d"], space: ReadSpace
) -> tuple[Float[Tensor, "case site d"], Float[Tensor, "case site d"]]:
    """The pairs' own changes along what an interchange changes: inside what is read, and outside it."""
    natural = (acts.partner - acts.own) * (acts.positions >= 0)[..., None]
    inside = _inside(made, space)
    # What is left after rounding is no direction.
    least = 1e-8 * float(made.pow(2).sum(-1).max())
    return _along(natural, inside, least), _along(natural, made - inside, least)


def _inside(made: Float[Tensor, "case site d"], space: ReadSpace) -> Float[Tensor, "case site d"]:
    inside = einsum(made.double(), space.basis, "case site d, read d -> case site read")
    return einsum(inside, space.basis, "case site read, read d -> case site d").float()


def _along(
    change: Float[Tensor, "case site d"], towards: Float[Tensor, "case site d"], least: float
) -> Float[Tensor, "case site d"]:
    size = towards.pow(2).sum(-1, keepdim=True)
    slope = (change * towards).sum(-1, keepdim=True) / size.clamp(min=1e-30)
    return torch.where(size > least, slope * towards, 0.0)


def _slope(other: Float[np.ndarray, "value"], own: Float[np.ndarray, "value"]) -> float:
    size = float((own * own).sum())
    return float((other * own).sum()) / size if size > 1e-12 else math.nan


def _space(form: Float[Tensor, "d d"], source: str) -> ReadSpace:
    values, vectors = torch.linalg.eigh(form)
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    held = values.cumsum(0) / values.sum().clamp(min=1e-30)
    # The slack keeps rounding from adding a direction that is not read.
    n_kept = int((held < READ_ENERGY - 1e-9).sum()) + 1
    return ReadSpace(
        basis=vectors[:, :n_kept].T.contiguous(),
        energy=form * len(values) / values.sum().clamp(min=1e-30),
        source=source,
    )


def _unit_or_zero(vector: Float[Tensor, "d"]) -> Float[Tensor, "d"]:
    """What is left after rounding is no direction."""
    length = float(vector.norm())
    return (vector / length if length > 1e-4 else torch.zeros_like(vector)).float()
