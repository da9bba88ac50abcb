"""The exact effect of setting one feature, the error term or a whole activation to the reference: the run is made.

Edits are in delta form (`set_feature_at`): what the SAE does not see stays as it was. An effect is the unedited outcome
minus the edited one, so that it has the sign of the contribution that it checks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.causal.attribution.methods import Explained
from mechprobe.causal.attribution.runs import Runs
from mechprobe.causal.edits.feature_edits import set_feature_at
from mechprobe.causal.edits.interventions import replace_at
from mechprobe.causal.effects import BATCH_TOKENS, SitePlan, grid_batches
from mechprobe.models.batches import TokenBatch
from mechprobe.models.hooks import Edit
from mechprobe.models.subject import Subject
from mechprobe.saes.lens import Sae


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ExactEffects:
    """What was measured, in the units of the outcome; the sum over a run's tokens moves at once."""

    features: Int[np.ndarray, "feature"]
    of_features: Float[np.ndarray, "feature case"]
    error: Float[np.ndarray, "case"]
    """Of setting the error term alone."""
    whole: Float[np.ndarray, "case"]
    """Of setting the whole activation: every feature and the error term at once."""


def exact_effects(
    subject: Subject,
    runs: Runs,
    sae: Sae,
    explained: Explained,
    features: Sequence[int] | Int[np.ndarray, "feature"],
    *,
    batch_tokens: int = BATCH_TOKENS,
) -> ExactEffects:
    """Set features to the reference, one at a time, at all explained tokens of each run.

    Raises:
        ShapeError: the SAE has no such feature, or reads another width.
    """
    hook_name = explained.contributions.hook_name
    chosen = np.asarray(features, dtype=np.int64)
    base = explained.values.numpy()

    def effects(plan: SitePlan, n: int) -> np.ndarray:
        return base - outcomes(subject, runs, plan, n, batch_tokens=batch_tokens)

    values = _sites(runs, explained.reference.features[:, chosen].toarray())
    some = _feature_plan(runs, hook_name, sae, torch.from_numpy(chosen), values)
    error = explained.acts - explained.own.error + explained.reference.error
    return ExactEffects(
        features=chosen,
        of_features=effects(some, len(chosen)) if len(chosen) else np.zeros((0, len(runs))),
        error=effects(acts_plan(runs, hook_name, error), 1)[0],
        whole=effects(acts_plan(runs, hook_name, explained.reference_acts), 1)[0],
    )


def acts_plan(runs: Runs, hook_name: str, acts: Float[Tensor, "row d"]) -> SitePlan:
    """Write given activations at the explained tokens."""
    padded = torch.zeros(*runs.positions.shape, acts.shape[-1])
    padded[runs.row_case, runs.row_slot] = acts

    def edit(tokens: Tensor, _condition: Tensor, case: Tensor) -> Edit:
        return replace_at(hook_name, tokens, padded[case])

    return SitePlan(hook_name=hook_name, positions=runs.positions, edit=edit)


def outcomes(
    subject: Subject,
    runs: Runs,
    plan: SitePlan,
    n_conditions: int,
    *,
    batch_tokens: int = BATCH_TOKENS,
) -> Float[np.ndarray, "condition case"]:
    """What every run reads under every condition; what comes before the first edited token is computed once."""
    ends = np.array([len(row) for row in runs.ids])
    is_shared = n_conditions > 1 and subject.shared_blocks([plan.hook_name]) is not None
    first = plan.first
    found = np.empty((n_conditions, len(runs)))
    kept = first if is_shared else None
    for condition, case in grid_batches(ends, n_conditions, batch_tokens, kept=kept):
        edits = [plan(torch.from_numpy(condition), torch.from_numpy(case))]
        if is_shared:
            few, line = np.unique(case, return_inverse=True)
            logits = subject.run_shared(
                [runs.ids[i] for i in few],
                torch.from_numpy(line),
                first=first[few].tolist(),
                edits=edits,
            )
        else:
            batch = TokenBatch.of([runs.ids[i] for i in case], subject.pad_id)
            logits = subject.run(batch, edits=edits, positions=torch.from_numpy(ends[case] - 1))
        read = runs.readout.read(logits, torch.from_numpy(case))
        found[condition, case] = read.float().cpu().numpy()
    return found


def _feature_plan(
    runs: Runs,
    hook_name: str,
    sae: Sae,
    features: Int[Tensor, "condition"],
    values: Float[Tensor, "condition case site"],
) -> SitePlan:
    def edit(tokens: Tensor, condition: Tensor, case: Tensor) -> Edit:
        return set_feature_at(hook_name, tokens, sae, features[condition], values[condition, case])

    return SitePlan(hook_name=hook_name, positions=runs.positions, edit=edit)


def _sites(
    runs: Runs, values: Float[np.ndarray, "row feature"]
) -> Float[Tensor, "feature case site"]:
    padded = torch.zeros(values.shape[1], *runs.positions.shape)
    padded[:, runs.row_case, runs.row_slot] = torch.from_numpy(values.T.astype(np.float32))
    return padded
