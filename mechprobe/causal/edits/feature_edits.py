"""SAE features as interventions: operations for selected tokens, and plans that run many features together.

All are in delta form, x + decode(f') - decode(f): with the part that the SAE does not see left as it was, a feature set
from f to f' moves the activation by exactly (f' - f) times its decoder row. Replacing x by decode(f') instead would
also change everything that the SAE reconstructs badly.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.causal.edits.edited_rows import Operation, Rows, check_numbers, edit_at, fitting
from mechprobe.causal.effects import SitePlan
from mechprobe.causal.places.sites import SiteActs
from mechprobe.errors import ShapeError
from mechprobe.models.hooks import Edit
from mechprobe.saes.attachment import feature_edit, scale_features, set_features
from mechprobe.saes.lens import Sae, d_sae_of, decoder_rows


def clamp_features(sae: Sae, features: Sequence[int], value: float) -> Operation:
    """Hold features at a value, active or not, such as their mean or a quantile where the indicator is held.

    Raises:
        CheckpointError: the SAE's features have no fixed direction.
        ShapeError: it has no such feature, the value is NaN or infinite; in the pass, where its width differs.
    """
    return feature_edit(sae, set_features(features, value), features=features)


def ablate_features(sae: Sae, features: Sequence[int]) -> Operation:
    """Switch features off; tokens where they are off already keep their bits.

    Raises:
        CheckpointError, ShapeError: see `clamp_features`.
    """
    return clamp_features(sae, features, 0.0)


def scale_active_features(sae: Sae, features: Sequence[int], factor: float) -> Operation:
    """Multiply features where they are active.

    Raises:
        CheckpointError, ShapeError: see `clamp_features`.
    """
    return feature_edit(sae, scale_features(features, factor), features=features)


def set_feature_at(
    hook_name: str,
    positions: Int[Tensor, "case site"],
    sae: Sae,
    features: Int[Tensor, "case"],
    values: Float[Tensor, "case site"],
) -> Edit:
    """Set one feature of each case, which may differ from case to case, at the chosen tokens.

    Raises:
        CheckpointError, ShapeError: see `clamp_features`.
    """
    rows_of = decoder_rows(sae).detach()
    _check_features(features, d_sae_of(sae))
    check_numbers(values, "the feature activation to set")

    def operation(acts: Tensor, rows: Rows) -> Tensor:
        fitting(rows_of[:1], acts, "the SAE")
        feature = features.to(acts.device)[rows.case]
        now = sae.encode(acts).gather(1, feature[:, None])[:, 0]
        change = values.to(now)[rows.case, rows.slot] - now
        moved = acts + (change[:, None] * rows_of[feature]).to(acts.dtype)
        return torch.where(change[:, None] != 0, moved, acts)

    return edit_at(hook_name, positions, operation)


def feature_plan(
    acts: SiteActs,
    sae: Sae,
    features: Int[Tensor, "condition"],
    values: Float[Tensor, "condition case site"],
) -> SitePlan:
    """F1: set a feature to given values in each condition, such as 0 or its mean where the indicator is held.

    Raises:
        CheckpointError, ShapeError: see `clamp_features`.
    """
    _check_features(features, d_sae_of(sae))

    def edit(tokens: Tensor, condition: Tensor, case: Tensor) -> Edit:
        return set_feature_at(
            acts.site.hook_name, tokens, sae, features[condition], values[condition, case]
        )

    return SitePlan(hook_name=acts.site.hook_name, positions=acts.positions, edit=edit)


def feature_interchange_plan(
    acts: SiteActs, sae: Sae, features: Int[Tensor, "condition"]
) -> SitePlan:
    """F1 with pairs: give the case its partner's activation of one feature in each condition.

    Raises:
        CheckpointError, ShapeError: see `clamp_features`.
    """
    _check_features(features, d_sae_of(sae))
    with torch.no_grad():
        partner = sae.encode(acts.partner)
    values = partner[..., features.to(partner.device)].movedim(-1, 0).float()
    return feature_plan(acts, sae, features, values)


def _check_features(features: Int[Tensor, "..."], d_sae: int) -> None:
    if len(features) and not 0 <= int(features.min()) <= int(features.max()) < d_sae:
        raise ShapeError(
            f"features {int(features.min())} to {int(features.max())} are asked for, the SAE has 0 to {d_sae - 1}; take "
            "feature numbers of this SAE."
        )
