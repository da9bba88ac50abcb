"""Editing a model's activations in the coordinates of an SAE, and the part that the SAE does not see.

An edit is added as a difference, x + decode(f') - decode(f), so that what the SAE cannot reconstruct stays as it
was and an edit that changes no feature changes no bit. This equals decoding f' and adding the error term
(arXiv 2403.19647, section 2), without its rounding.
"""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mechprobe.errors import ShapeError
from mechprobe.saes.lens import Sae, d_sae_of, decoder_rows

FeatureChange = Callable[[Tensor], Tensor]
"""Feature activations [..., d_sae] -> changed feature activations of the same shape."""


def feature_edit(
    sae: Sae, change: FeatureChange, *, features: Sequence[int] = ()
) -> Callable[..., Tensor]:
    """An edit of activations that changes features and leaves everything else alone.

    It fits `Edit.apply` for all tokens of a pass, and is an operation for selected ones.

    Args:
        features: those that the change names, so that a wrong number is told before the model runs.

    Raises:
        CheckpointError: the SAE's features have no fixed direction.
        ShapeError: the SAE has no such feature; in the pass, where its width is not that of the activations.
    """
    rows = decoder_rows(sae).detach()
    _check_features(features, d_sae_of(sae))

    def edit(
        acts: Float[Tensor, "*case d_in"],
        where: object = None,  # noqa: ARG001 - what an edit of a Subject is told, the positions
    ) -> Float[Tensor, "*case d_in"]:
        if acts.shape[-1] != rows.shape[-1]:
            raise ShapeError(
                f"the SAE reads {rows.shape[-1]} numbers, the hook point has {acts.shape[-1]}; edit the hook point "
                "that it was trained on."
            )
        feature_acts = sae.encode(acts)
        moved = change(feature_acts) - feature_acts
        is_changed = moved.flatten(0, -2).any(dim=0)
        if not is_changed.any():
            return acts.clone()  # an edit that returns its argument counts as one that never fired
        delta = moved[..., is_changed] @ rows[is_changed]
        # Tokens that keep their features keep their bits, even where x + 0.0 would turn -0.0 into 0.0.
        return torch.where(moved.any(dim=-1, keepdim=True), acts + delta.to(acts.dtype), acts)

    return edit


def error_term(sae: Sae, acts: Float[Tensor, "*case d_in"]) -> Float[Tensor, "*case d_in"]:
    """What the SAE leaves out: the activations minus their reconstruction."""
    return acts - sae.decode(sae.encode(acts)).to(acts.dtype)


def set_features(features: Sequence[int], value: float) -> FeatureChange:
    """A change that sets features to a value, active or not; 0 ablates them.

    Raises:
        ShapeError: the value is NaN or infinite.
    """
    _check_number(value, "value")
    chosen = list(features)

    def change(feature_acts: Tensor) -> Tensor:
        changed = feature_acts.clone()
        changed[..., chosen] = value
        return changed

    return change


def scale_features(features: Sequence[int], factor: float) -> FeatureChange:
    """A change that multiplies features, so that inactive ones stay inactive.

    Raises:
        ShapeError: the factor is NaN or infinite.
    """
    _check_number(factor, "factor")
    chosen = list(features)

    def change(feature_acts: Tensor) -> Tensor:
        changed = feature_acts.clone()
        changed[..., chosen] *= factor
        return changed

    return change


def _check_number(number: float, what: str) -> None:
    if not math.isfinite(number):
        raise ShapeError(f"the {what} for the features is {number}; give a finite number.")


def _check_features(features: Sequence[int], d_sae: int) -> None:
    unknown = [feature for feature in features if not 0 <= feature < d_sae]
    if unknown:
        raise ShapeError(
            f"feature {unknown[0]} is asked for, the SAE has 0 to {d_sae - 1}; take feature numbers of this SAE."
        )
