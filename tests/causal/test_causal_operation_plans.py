"""A sweep over operations gives each condition what that operation gives alone."""

import pytest
import torch

from mechprobe.causal.cases import natural_cases, render_pairs
from mechprobe.causal.edits.erasure import fit_eraser
from mechprobe.causal.edits.operation_plans import (
    mean_of_partners,
    operation_plan,
    pool_of_partners,
    subspace_plan,
)
from mechprobe.causal.edits.operations import (
    interchange,
    mean_ablation,
    resample_ablation,
    set_value,
    within,
    zero_ablation,
)
from mechprobe.causal.effects import measure, patch_plan
from mechprobe.causal.places.sites import Site, SiteActs, site_acts
from mechprobe.errors import ShapeError

D = 64
SITE = Site(hook_name="blocks.0.hook_out", position="span_last")


@pytest.fixture(scope="module")
def cases(planted):
    pairs = [p for p in planted.pairs if p.indicator == "lie" and p.split == "test"][:8]
    return natural_cases(render_pairs(planted.subject, pairs))


@pytest.fixture(scope="module")
def acts(planted, cases) -> SiteActs:
    return site_acts(planted.subject, cases, SITE, "behavior")


def axis(index: int) -> torch.Tensor:
    return torch.eye(D)[index]


def test_conditions_in_one_sweep_are_those_run_alone(planted, cases, acts: SiteActs):
    both = torch.cat([acts.own, acts.partner]).flatten(0, 1)
    held = both @ axis(planted.held_axis["lie"]) > 0.5
    operations = [
        zero_ablation(),
        mean_ablation(mean_of_partners(acts)),
        resample_ablation(pool_of_partners(acts), seed=3),
        interchange(acts.partner),
        within(axis(planted.held_axis["lie"])[:, None], interchange(acts.partner)),
        set_value(axis(planted.held_axis["lie"]), 0.0),
        fit_eraser(both, held),
    ]
    together = measure(
        planted.subject,
        cases,
        "behavior",
        plan=operation_plan(acts, operations),
        n_conditions=len(operations),
    )
    for number, operation in enumerate(operations):
        alone = measure(planted.subject, cases, "behavior", plan=operation_plan(acts, [operation]))
        assert alone.logit_diff[0] == pytest.approx(together.logit_diff[number], abs=1e-4)


def test_the_whole_space_is_the_full_patch_and_an_unused_axis_is_nothing(
    planted, cases, acts: SiteActs
):
    def read(plan) -> list[float]:
        return measure(planted.subject, cases, "behavior", plan=plan).logit_diff[0].tolist()

    patched = read(patch_plan(acts))
    assert read(subspace_plan(acts, torch.eye(D)[None])) == pytest.approx(patched, abs=1e-4)
    assert read(operation_plan(acts, [interchange(acts.partner)])) == pytest.approx(
        patched, abs=1e-4
    )
    unused = torch.stack([axis(D - 1), axis(D - 2)], dim=1)[None]
    clean = read(None)
    assert read(subspace_plan(acts, unused)) == pytest.approx(clean, abs=1e-4)
    assert abs(patched[0] - clean[0]) > 1.0


def test_erasing_the_cause_removes_its_effect(planted, cases, acts: SiteActs):
    """Between a held and an unheld thought lies the axis that drives: erased, both sides act alike."""
    both = torch.cat([acts.own, acts.partner]).flatten(0, 1)
    held = both @ axis(planted.held_axis["lie"]) > 0.5
    plan = operation_plan(acts, [fit_eraser(both, held)])
    clean = measure(planted.subject, cases, "behavior").logit_diff[0]
    erased = measure(planted.subject, cases, "behavior", plan=plan).logit_diff[0]
    own = acts.own[:, 0] @ axis(planted.held_axis["lie"]) > 0.5
    assert 0 < int(own.sum()) < len(own)
    gap = clean[own.numpy()].mean() - clean[~own.numpy()].mean()
    gap_after = erased[own.numpy()].mean() - erased[~own.numpy()].mean()
    assert abs(gap_after) < 0.5 * abs(gap)


def test_a_subspace_that_cannot_be_is_refused(planted, cases, acts: SiteActs):
    with pytest.raises(ShapeError, match="has 5 numbers, the hook point has 64"):
        subspace_plan(acts, torch.eye(5)[None])
    with pytest.raises(ShapeError, match="not orthonormal"):
        measure(planted.subject, cases, "behavior", plan=subspace_plan(acts, torch.ones(1, D, 2)))
