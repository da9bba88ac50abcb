"""In a world whose causes are written by hand, attribution names the axis that holds the thought, and no read-out."""

from typing import Any

import numpy as np
import pytest
import torch

from mechprobe.causal.attribution.agreement import ERROR, WHOLE, check_against_patching
from mechprobe.causal.attribution.hook_points import attribute_hook_points
from mechprobe.causal.attribution.methods import Method, attribute_outcome
from mechprobe.causal.attribution.runs import Runs, runs_of_cases
from mechprobe.causal.attribution.summary import mean_contributions
from mechprobe.causal.cases import Case, render_pairs
from tests.causal.attribution.made import HOOK, axis_sae


def runs(world: Any, thought: str, outcome: str, n: int = 12) -> Runs:
    pairs = [p for p in world.pairs if p.indicator == thought and p.split == "test"]
    rendered = render_pairs(world.subject, pairs[:n])
    return runs_of_cases([Case(pair=p, side="positive") for p in rendered], outcome, "span_last")


def means(world: Any, some: Runs, method: Method) -> np.ndarray:
    sae = axis_sae(world.subject.d_model)
    found = attribute_outcome(world.subject, some, {HOOK: sae}, method=method)
    return mean_contributions(found[HOOK].contributions, len(some))


@pytest.mark.parametrize(
    ("thought", "outcome", "sign", "method"),
    [
        ("lie", "behavior", 1, "attribution_patching"),
        ("care", "behavior", -1, "integrated_gradients"),
        ("boast", "audit", 1, "integrated_gradients"),
        ("plot", "audit", 1, "attribution_patching"),
    ],
)
def test_the_top_feature_is_the_axis_that_holds_the_thought(
    planted: Any, thought: str, outcome: str, sign: int, method: Method
) -> None:
    mean = sign * means(planted, runs(planted, thought, outcome), method)
    assert int(mean.argmax()) == planted.held_axis[thought]
    assert mean.max() > 0.1


def test_where_the_rule_saturates_the_whole_way_tells_more_of_the_effect(planted: Any) -> None:
    some = runs(planted, "care", "behavior")
    sae = axis_sae(planted.subject.d_model)
    totals: dict[str, float] = {}
    for method in ("attribution_patching", "integrated_gradients"):
        found = attribute_outcome(planted.subject, some, {HOOK: sae}, method=method, n_steps=32)
        checked = check_against_patching(planted.subject, some, sae, found[HOOK], m=2)
        totals[method] = float(checked.table["linear"].iloc[-1] / checked.table["exact"].iloc[-1])
    assert abs(totals["attribution_patching"]) < 0.5
    # The rule is all but a step on the way, so that 32 slopes meet it only roughly; the check shows by how much.
    assert totals["integrated_gradients"] == pytest.approx(1, abs=0.3)


def test_a_read_out_brings_nothing_to_the_behaviour(planted: Any) -> None:
    driver = means(planted, runs(planted, "lie", "behavior"), "attribution_patching")
    read_out = means(planted, runs(planted, "boast", "behavior"), "attribution_patching")
    assert np.abs(read_out).max() < 0.02 * np.abs(driver).max()


def test_the_check_stands_beside_the_answer(planted: Any) -> None:
    some = runs(planted, "lie", "audit")
    sae = axis_sae(planted.subject.d_model)
    found = attribute_outcome(planted.subject, some, {HOOK: sae}, method="attribution_patching")
    checked = check_against_patching(planted.subject, some, sae, found[HOOK], m=3)
    assert checked.table["kind"].tolist()[-2:] == [ERROR, WHOLE]
    first = checked.table.iloc[0]
    assert first["name"] == str(planted.held_axis["lie"]) and first["exact"] > 1
    assert "rank correlation" in checked.line() and "same sign" in checked.line()
    whole = checked.table.iloc[-1]
    base, flipped = found[HOOK].values.mean(), partner_outcome(planted, some)
    assert whole["exact"] == pytest.approx(float(base) - flipped, abs=1e-4)


def partner_outcome(world: Any, some: Runs) -> float:
    """In this world the span's token is all that differs, so that patching it is the partner's run."""
    assert some.partner_ids is not None
    with torch.no_grad():
        read = [
            some.readout.read(
                world.subject.bridge(torch.tensor([ids]))[:, -1], torch.tensor([case])
            )
            for case, ids in enumerate(some.partner_ids)
        ]
    return float(torch.cat(read).mean())


def test_hook_points_before_the_thought_is_read_carry_it_and_those_after_do_not(
    planted: Any,
) -> None:
    some = runs(planted, "lie", "behavior")
    found = attribute_hook_points(
        planted.subject, some, ["embed.hook_out", HOOK, "blocks.1.hook_out"]
    )
    exact = dict(zip(found.table["hook_name"], found.table["exact"], strict=True))
    linear = dict(zip(found.table["hook_name"], found.table["linear"], strict=True))
    assert exact[HOOK] > 1 and exact["embed.hook_out"] == pytest.approx(exact[HOOK], abs=1e-4)
    assert linear["embed.hook_out"] == pytest.approx(linear[HOOK], abs=1e-4)
    assert exact["blocks.1.hook_out"] == linear["blocks.1.hook_out"] == 0
    assert "3 hook points checked" in found.line()
