"""Which features of two SAEs are the same: decoder rows paired one to one by cosine (the Hungarian method).

The share of features that another seed finds again is low for wide SAEs (arXiv 2501.16615), and some pairs are near by
chance: the same pairing with random rows tells how near.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import normalize

from mechprobe.errors import ShapeError

SAME = 0.7
"""Cosine from which on two features count as the same (arXiv 2501.16615 uses the same line)."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Matching:
    """Features of a first SAE with their partners in a second."""

    first: Int[np.ndarray, "pair"]
    second: Int[np.ndarray, "pair"]
    cosine: Float[np.ndarray, "pair"]
    """Of the paired rows, one to one, so that their sum is largest."""
    nearest: Float[np.ndarray, "first"]
    """Largest cosine with any row of the second: two features may share one."""
    by_chance: float
    """Mean cosine of a pairing of the first with as many random rows as the second has."""

    @property
    def same_share(self) -> float:
        """Share of pairs with a cosine of at least SAME."""
        return float((self.cosine >= SAME).mean()) if len(self.cosine) else float("nan")


def match_features(
    first: Float[Tensor, "d_first d_in"],
    second: Float[Tensor, "d_second d_other"],
    *,
    seed: int = 0,
) -> Matching:
    """Pair decoder rows of two SAEs; leave out dead ones before, since they never moved from where they were drawn.

    Args:
        seed: of the random rows.

    Raises:
        ShapeError: the rows are of different width, or there are none.
    """
    if first.shape[-1] != second.shape[-1] or not len(first) or not len(second):
        raise ShapeError(
            f"decoder rows of shapes {tuple(first.shape)} and {tuple(second.shape)} cannot be matched; both need rows, "
            "of one width."
        )
    cosines = _cosines(first, second)
    pairs = linear_sum_assignment(cosines, maximize=True)
    # Another stream than torch's, in which the same seed may have drawn the rows themselves.
    random = torch.from_numpy(np.random.default_rng([seed, 30]).standard_normal(second.shape))
    by_chance = _cosines(first, random)
    return Matching(
        first=pairs[0],
        second=pairs[1],
        cosine=cosines[pairs],
        nearest=cosines.max(axis=1),
        by_chance=float(by_chance[linear_sum_assignment(by_chance, maximize=True)].mean()),
    )


def _cosines(first: Tensor, second: Tensor) -> Float[np.ndarray, "d_first d_second"]:
    rows = [normalize(side.detach().cpu().double(), dim=-1) for side in (first, second)]
    return (rows[0] @ rows[1].T).numpy()
