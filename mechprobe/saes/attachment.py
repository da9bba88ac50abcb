"""Editing a model's activations in the coordinates of an SAE, and the part that the SAE does not see.

An edit is added as a difference, x + decode(f') - decode(f), so that what the SAE cannot reconstruct stays as it
was and an edit that changes no feature changes no bit. This equals decoding f' and adding the error term
(arXiv 2403.19647, section 2), without its rounding.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mechprobe.saes.lens import Sae, decoder_rows

FeatureChange = Callable[[Tensor], Tensor]
"""Feature activations [..., d_sae] -> changed feature activations of the same shape."""


def feature_edit(sae: Sae, change: FeatureChange) -> Callable[..., Tensor]:
    """An edit of activations that changes features and leaves everything else alone; fits `Edit.apply`.

    Raises:
        CheckpointError: the SAE's features have no fixed direction.
    """
    rows = decoder_rows(sae)

    def edit(
        acts: Float[Tensor, "*case d_in"],
        where: object = None,  # noqa: ARG001 - what an edit of a Subject is told, the positions
    ) -> Float[Tensor, "*case d_in"]:
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
    """A change that sets features to a value, active or not; 0 ablates them."""
    chosen = list(features)

    def change(feature_acts: Tensor) -> Tensor:
        changed = feature_acts.clone()
        changed[..., chosen] = value
        return changed

    return change


def scale_features(features: Sequence[int], factor: float) -> FeatureChange:
    """A change that multiplies features, so that inactive ones stay inactive."""
    chosen = list(features)

    def change(feature_acts: Tensor) -> Tensor:
        changed = feature_acts.clone()
        changed[..., chosen] *= factor
        return changed

    return change
