"""Does a feature fall silent where a more special one takes over its part? A simple measure of absorption.

After arXiv 2409.14507 (section 4), without its spelling task and without an ablation: of the tokens that hold an indicator
and on which the indicator's main feature is silent, those count as absorbed where one other active feature alone gives at
least half of what all features together write along the indicator's direction.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mechprobe.errors import ShapeError
from mechprobe.saes.codes import width_of

SHARE = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Absorption:
    """What happens on an indicator's tokens."""

    n_positive: int
    silent_share: float
    """Of the indicator's tokens, those on which the main feature is not active."""
    absorbed_share: float
    """Of the indicator's tokens, those on which it is silent and another feature alone does its work."""
    absorber: int
    """The feature that does so most often; -1 where none does."""


def absorption(
    feature_acts: sp.csr_matrix,
    is_positive: Bool[np.ndarray, "tok"],
    main: int,
    rows: Float[Tensor, "d_sae d_in"],
    direction: Float[Tensor, "d_in"],
) -> Absorption:
    """Measure one indicator.

    Args:
        feature_acts: of labelled tokens, [tok, d_sae].
        main: the indicator's best single feature.
        rows: the decoder rows.
        direction: the indicator's, such as the difference of its class means of activations.

    Raises:
        ShapeError: there is no positive token, or no such feature.
    """
    if not is_positive.any() or not 0 <= main < width_of(feature_acts):
        raise ShapeError(
            f"absorption needs positive tokens (there are {int(is_positive.sum())}) and a main feature between 0 and "
            f"{width_of(feature_acts) - 1} (got {main})."
        )
    positive = feature_acts[np.flatnonzero(is_positive)].tocsr()
    along = (rows.double() @ (direction.double() / direction.double().norm())).numpy(force=True)
    written = positive.multiply(along[None]).tocsr()
    total = np.asarray(written.sum(axis=1)).ravel()
    silent = np.asarray(positive[:, [main]].todense()).ravel() == 0
    largest, which = _largest(written)
    absorbed = silent & (total > 0) & (largest >= SHARE * total)
    counts = np.bincount(which[absorbed], minlength=1)
    return Absorption(
        n_positive=len(silent),
        silent_share=float(silent.mean()),
        absorbed_share=float(absorbed.mean()),
        absorber=int(counts.argmax()) if absorbed.any() else -1,
    )


def _largest(written: sp.csr_matrix) -> tuple[Float[np.ndarray, "tok"], np.ndarray]:
    """The largest entry of each row and its column, 0 in column 0 for an empty row."""
    dense = torch.from_numpy(written.toarray()).max(dim=1)
    return dense.values.numpy(), dense.indices.numpy()
