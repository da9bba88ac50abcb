"""Erase a concept from activations so that no linear probe can read it; the one door to concept-erasure.

LEACE (Belrose et al., arXiv 2306.03819, section 4) is the smallest affine change of the activations after which they do
not covary with the labels, and without covariance no linear classifier does better than a constant. Where a probe's own
direction is taken out, correlated ones still tell; LEACE shows whether a linear reading as such is needed.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from einops import einsum
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechprobe.causal.edits.edited_rows import check_numbers, fitting
from mechprobe.errors import DataError, ShapeError

Method = Literal["leace", "orth"]
""""orth" projects out the class means' differences, whatever the covariance: a simpler change, and a larger one."""
_RANK_TOLERANCE = 1e-6
"""Correlations below this are rounding; the library's .01 would leave weak ones readable."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ConceptEraser:
    """A fitted erasure, h - L R (h - mean), which is also an operation for `intervene` and `edit_at`."""

    left: Float[Tensor, "d k"]
    right: Float[Tensor, "k d"]
    mean: Float[Tensor, "d"]
    method: Method
    n_rows: int
    """Activations that it was fitted on."""

    def __call__(
        self,
        acts: Float[Tensor, "row d_acts"],
        rows: object = None,  # noqa: ARG002 - every row alike
    ) -> Float[Tensor, "row d_acts"]:
        """The activations without the concept.

        Raises:
            ShapeError: they are not as wide as those that it was fitted on.
        """
        away = acts - fitting(self.mean, acts, "the erasure")
        coordinates = einsum(self.right.to(acts), away, "k d, row d -> row k")
        return acts - einsum(self.left.to(acts), coordinates, "d k, row k -> row d")

    @property
    def rank(self) -> int:
        """Dimensions that it takes out: one fewer than the classes, or fewer where they overlap."""
        return int(torch.linalg.matrix_rank(self.left.double() @ self.right.double()))


def fit_eraser(
    acts: Float[Tensor, "row d"],
    labels: Bool[Tensor, "label"] | Int[Tensor, "label"] | Float[Tensor, "label concept"],
    *,
    method: Method = "leace",
    shrinkage: bool = False,
) -> ConceptEraser:
    """Fit an erasure on activations of one hook point.

    Args:
        labels: held or not, a class, or any numbers that are to become unreadable.
        shrinkage: estimate the covariance by shrinkage, for few rows; the erasure on them stays complete, but is then
            the smallest for the shrunk covariance.

    Raises:
        DataError: there are fewer than 2 rows, or all labels are the same.
        ShapeError: numbers of rows and labels differ, or a number is NaN or infinite.
    """
    check_numbers(acts, "the activations to fit an erasure on")
    targets = _targets(labels).to(acts.device)
    _check_rows(acts, targets)
    # In float64: the covariance of activations with one large coordinate has a condition number beyond float32.
    fitter = _fitter()(
        acts.shape[-1],
        targets.shape[-1],
        method=method,
        # Erasing never raises the covariance's trace, so this would act on rounding only.
        constrain_cov_trace=False,
        shrinkage=shrinkage,
        svd_tol=_RANK_TOLERANCE,
        device=acts.device,
        dtype=torch.float64,
    )
    eraser = fitter.update(acts.double(), targets).eraser
    kept = eraser.proj_left.norm(dim=0) > 0
    return ConceptEraser(
        left=eraser.proj_left[:, kept].float(),
        right=eraser.proj_right[kept].float(),
        mean=eraser.bias.float(),
        method=method,
        n_rows=len(acts),
    )


def _targets(labels: Tensor) -> Float[Tensor, "row concept"]:
    """One column a class, but for a single one where there are two: equal information, and no column too many."""
    if labels.is_floating_point():
        check_numbers(labels, "the labels to erase")
        return labels.double()
    classes, index = labels.long().unique(return_inverse=True)
    if len(classes) <= 2:
        return index.double()[:, None]
    return torch.nn.functional.one_hot(index, len(classes)).double()


def _check_rows(acts: Tensor, targets: Tensor) -> None:
    if len(acts) != len(targets):
        raise ShapeError(
            f"there are {len(acts)} activations and {len(targets)} labels; give one label for each activation."
        )
    if len(acts) < 2 or not bool((targets != targets[0]).any()):
        raise DataError(
            f"all labels of {len(acts)} activations are the same, so there is nothing to erase; give rows that hold the "
            "concept and rows that do not."
        )


def _fitter() -> Callable[..., Any]:
    with warnings.catch_warnings():
        # The library compiles its shrinkage with torch.jit.script when it is imported.
        warnings.filterwarnings("ignore", ".*torch.jit.script", DeprecationWarning)
        from concept_erasure import LeaceFitter
    return LeaceFitter
