"""What an intervention does to the activations of the tokens that were chosen for it, one function an operation.

Each returns an `Operation` that `intervene` binds to a token selection, and `edit_at` to given positions. They know
nothing of batches: a row's result depends on the row alone (and, for `interchange` and `resample_ablation`, on which
token of which case it is), so padded batches give what single sequences give.
"""

from collections.abc import Sequence

import numpy as np
import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor

from mechprobe.causal.edits.edited_rows import (
    Operation,
    Rows,
    check_basis,
    check_numbers,
    check_unit,
    fitting,
)
from mechprobe.errors import DataError, ShapeError
from mechprobe.probes.linear import LinearProbe


def steer(direction: Float[Tensor, "d"], amount: float) -> Operation:
    """Add amount * direction (arXiv 2312.06681).

    Raises:
        ShapeError: a number is NaN or infinite; in the pass, where the widths differ.
    """
    check_numbers(direction, "the direction")

    def operation(acts: Tensor, _rows: Rows) -> Tensor:
        return acts + amount * fitting(direction, acts, "the direction")

    return operation


def steer_keeping_norm(direction: Float[Tensor, "d"], amount: float) -> Operation:
    """Add amount * direction, then give the activation its old length, which layer norms would undo in part anyway.

    Raises:
        ShapeError: see `steer`.
    """
    added = steer(direction, amount)

    def operation(acts: Tensor, rows: Rows) -> Tensor:
        return with_norm_of(acts, added(acts, rows))

    return operation


def set_value(direction: Float[Tensor, "d"], value: float) -> Operation:
    """Set the coordinate along a unit direction: a mean ablation with a class mean, a zero ablation with 0.

    Raises:
        ShapeError: the direction is not finite or not of length 1; in the pass, where its width differs.
    """
    check_unit(direction)

    def operation(acts: Tensor, _rows: Rows) -> Tensor:
        along = fitting(direction, acts, "the direction")
        return acts + (value - einsum(acts, along, "row d, d -> row"))[:, None] * along

    return operation


def mean_ablation(mean: Float[Tensor, "d"]) -> Operation:
    """Write the mean activation of some other text.

    Raises:
        ShapeError: see `steer`.
    """
    check_numbers(mean, "the mean activation")

    def operation(acts: Tensor, _rows: Rows) -> Tensor:
        return fitting(mean, acts, "the mean activation").expand_as(acts)

    return operation


def zero_ablation() -> Operation:
    """Write zeros."""
    return lambda acts, _rows: torch.zeros_like(acts)


def resample_ablation(pool: Float[Tensor, "pool d"], seed: int | Sequence[int] = 0) -> Operation:
    """Write activations drawn from other text (causal scrubbing's ablation, which stays on the model's own manifold).

    Args:
        seed: one from which each case gets its own by its place in the batch, or one for each case, by which a case
            draws the same in every batch.

    Raises:
        DataError: the pool is empty.
        ShapeError: a number is NaN or infinite; in the pass, where widths or numbers of seeds differ.
    """
    if len(pool) == 0:
        raise DataError("the pool to resample from is empty; capture activations of other text.")
    check_numbers(pool, "the pool to resample from")

    def draw(case: int, position: int) -> int:
        entropy = (seed, case) if isinstance(seed, int) else (_seed_of(seed, case),)
        return int(np.random.default_rng((*entropy, position)).integers(len(pool)))

    def operation(acts: Tensor, rows: Rows) -> Tensor:
        places = zip(rows.case.tolist(), rows.position.tolist(), strict=True)
        drawn = torch.tensor([draw(case, position) for case, position in places])
        return fitting(pool[drawn.to(pool.device)], acts, "the pool to resample from")

    return operation


def interchange(partner: Float[Tensor, "case site d"]) -> Operation:
    """Write what each case's partner has at the same one of its chosen tokens (activation patching).

    Raises:
        ShapeError: a number is NaN or infinite; in the pass, where widths differ or there is no such token.
    """
    check_numbers(partner, "the partner's activations")

    def operation(acts: Tensor, rows: Rows) -> Tensor:
        wanted = int(rows.case.max()) + 1, int(rows.slot.max()) + 1
        if wanted[0] > partner.shape[0] or wanted[1] > partner.shape[1]:
            raise ShapeError(
                f"the partners have {partner.shape[0]} cases of {partner.shape[1]} tokens, token {wanted[1]} of case "
                f"{wanted[0]} is edited; select equal tokens in both."
            )
        return fitting(partner, acts, "the partner's activations")[rows.case, rows.slot]

    return operation


def within(basis: Float[Tensor, "d k"], operation: Operation) -> Operation:
    """Keep of an operation only what it does inside a subspace: h + B B'(operation(h) - h).

    `within(basis, interchange(partner))` is a distributed interchange (arXiv 2303.02536, section 3).

    Raises:
        ShapeError: the basis is not finite or not orthonormal; in the pass, where its width differs.
    """
    check_basis(basis)

    def inside(acts: Tensor, rows: Rows) -> Tensor:
        along = fitting(basis.mT, acts, "the basis")
        change = einsum(along, operation(acts, rows) - acts, "k d, row d -> row k")
        return acts + einsum(along, change, "k d, row k -> row d")

    return inside


def where_probe_fires(
    operation: Operation, probe: LinearProbe, threshold: float = 0.0
) -> Operation:
    """Apply an operation to those tokens only that a linear probe scores above a threshold.

    Conditional activation steering (arXiv 2409.05907, section 3) gates by the similarity with a condition vector; here
    the gate is any probe of the same hook point, token by token. Tokens that do not fire keep their bits.

    Raises:
        ShapeError: the probe or the threshold is not finite; in the pass, where the probe's width differs.
    """
    weight = torch.tensor(probe.weight)
    check_numbers(weight, "the probe")
    check_numbers(torch.tensor([probe.bias, threshold]), "the probe's bias or threshold")

    def gated(acts: Tensor, rows: Rows) -> Tensor:
        along = fitting(weight, acts, "the probe").float()
        scores = einsum(acts.float(), along, "row d, d -> row") + probe.bias
        return torch.where((scores > threshold)[:, None], operation(acts, rows), acts)

    return gated


def with_norm_of(
    acts: Float[Tensor, "row d"], changed: Float[Tensor, "row d"]
) -> Float[Tensor, "row d"]:
    """The changed activations, at the length of the old ones."""
    lengths = changed.norm(dim=-1, keepdim=True)
    scaled = changed * (acts.norm(dim=-1, keepdim=True) / lengths)
    return torch.where(lengths > 0, scaled, acts)


def _seed_of(seeds: Sequence[int], case: int) -> int:
    if case >= len(seeds):
        raise ShapeError(
            f"there are {len(seeds)} seeds, case {case + 1} is edited; give one seed for each case."
        )
    return seeds[case]
