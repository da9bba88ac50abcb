"""Contributions to an outcome against plain Hugging Face autograd, and the laws that they keep."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mechprobe.causal.attribution.capturing import local_slopes
from mechprobe.causal.attribution.exact import acts_plan, exact_effects, outcomes
from mechprobe.causal.attribution.methods import Explained, Method, attribute_outcome
from mechprobe.causal.attribution.runs import Runs
from mechprobe.models.subject import Subject
from tests.causal.attribution.made import HOOK, IDS, LATER, made_runs, random_sae


@pytest.fixture(scope="module")
def subject(tiny_llama: Path) -> Subject:
    return Subject.load(tiny_llama)


@pytest.fixture(scope="module")
def plain(tiny_llama: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_llama).eval()


def explained(subject: Subject, method: Method, runs: Runs | None = None, **more: Any) -> Explained:
    return attribute_outcome(
        subject, runs or made_runs(), {HOOK: random_sae()}, method=method, **more
    )[HOOK]


def plain_gradient(model: Any, ids: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Output of the first block and the margin's gradient there, by plain autograd."""
    out = model(input_ids=torch.tensor([ids]), output_hidden_states=True)
    hidden = out.hidden_states[1]
    margin = out.logits[0, -1, 4] - out.logits[0, -1, 6]
    return hidden[0].detach(), torch.autograd.grad(margin, hidden)[0][0]


def test_gradient_x_activation_is_that_of_plain_autograd(subject: Subject, plain: Any) -> None:
    found = explained(subject, "gradient_x_activation").contributions
    sae, runs = random_sae(), made_runs()
    wanted, error = [], []
    for case, position in zip(runs.row_case.tolist(), runs.row_position.tolist(), strict=True):
        hidden, gradient = plain_gradient(plain, IDS[case])
        features = sae.encode(hidden[position])
        wanted.append(features * (sae.W_dec @ gradient[position]))
        error.append(gradient[position] @ (hidden[position] - sae.decode(features)))
    assert np.allclose(found.features.toarray(), torch.stack(wanted).numpy(), atol=1e-5)
    assert np.allclose(found.error, torch.stack(error).numpy(), atol=1e-5)


def test_attribution_patching_adds_up_to_gradient_times_the_change(subject: Subject) -> None:
    found = explained(subject, "attribution_patching")
    change = found.acts - found.reference_acts
    assert change.abs().max() > 0.1
    slope = local_slopes(subject, made_runs(), [HOOK]).gradients[HOOK]
    wanted = (slope.double() * change.double()).sum(-1)
    assert np.allclose(found.contributions.total, wanted.numpy(), atol=1e-5)


@pytest.mark.parametrize("reference", ["zero", "partner"])
def test_integrated_gradients_add_up_to_the_whole_change(subject: Subject, reference: str) -> None:
    runs = made_runs()
    found = explained(subject, "integrated_gradients", reference=reference, n_steps=24)
    moved = outcomes(subject, runs, acts_plan(runs, HOOK, found.reference_acts), 1)[0]
    change = found.values.numpy() - moved
    total = found.contributions.by_case(len(runs)).total
    assert np.abs(change).min() > 1e-2
    assert np.allclose(total, change, atol=2e-4)
    coarse = explained(subject, "gradient_x_activation").contributions.by_case(len(runs)).total
    assert not np.allclose(coarse, change, atol=2e-2), "the straight line is not the answer here"


def test_exact_effects_are_those_of_plain_hooks(subject: Subject, plain: Any) -> None:
    runs, sae = made_runs(), random_sae()
    found = explained(subject, "attribution_patching")
    changed = np.unique(found.own.minus(found.reference).features.indices)[:4]
    exact = exact_effects(subject, runs, sae, found, changed)
    for row, feature in enumerate(changed.tolist()):
        for case in range(len(runs)):
            rows = runs.row_case == case
            acts, there = found.acts[rows], found.reference_acts[rows]
            step = (sae.encode(there) - sae.encode(acts))[:, feature, None] * sae.W_dec[feature]
            moved = hooked(plain, IDS[case], runs.row_position[rows], step)
            assert exact.of_features[row, case] == pytest.approx(
                float(found.values[case]) - moved, abs=1e-4
            )
    both = found.own.error - found.reference.error
    moved = hooked(plain, IDS[1], runs.row_position[runs.row_case == 1], -both[runs.row_case == 1])
    assert exact.error[1] == pytest.approx(float(found.values[1]) - moved, abs=1e-4)


def hooked(model: Any, ids: tuple[int, ...], positions: Tensor, step: Tensor) -> float:
    def add(_block: Any, _inputs: Any, out: Tensor) -> Tensor:
        out = out.clone()
        out[0, positions] += step
        return out

    handle = model.model.layers[0].register_forward_hook(add)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
    handle.remove()
    return float(logits[4] - logits[6])


def test_several_hook_points_share_one_backward_pass(subject: Subject) -> None:
    saes = {HOOK: random_sae(), LATER: random_sae(1, LATER)}
    together = attribute_outcome(subject, made_runs(), saes, method="attribution_patching")
    for name, sae in saes.items():
        alone = attribute_outcome(subject, made_runs(), {name: sae}, method="attribution_patching")
        found, wanted = (some[name].contributions.total for some in (together, alone))
        assert np.allclose(found, wanted, atol=1e-6)


def test_at_the_last_block_only_the_last_token_counts(subject: Subject) -> None:
    saes = {LATER: random_sae(1, LATER)}
    found = attribute_outcome(subject, made_runs(), saes, method="gradient_x_activation")
    parts = found[LATER].contributions
    is_last = parts.position == np.array([3, 2, 3])[parts.case]
    assert np.abs(parts.total[is_last]).min() > 1e-3
    assert not parts.total[~is_last].any()
