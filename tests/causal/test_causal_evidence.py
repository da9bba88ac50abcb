import math
from dataclasses import replace

import numpy as np
import pytest

from mechprobe.causal.verdicts.deciding import decide
from mechprobe.causal.verdicts.evidence import DirectionReadings, Effort, family_evidence
from mechprobe.causal.verdicts.strata import Baseline, natural_gap, text_flip_effects
from mechprobe.causal.verdicts.verdict import VerdictRule

RULE = VerdictRule()
EFFORT = Effort(n_boot=300, n_permutations=2000)
GAP = 10.0


def baseline(n: int = 40, *, seed: int = 0) -> Baseline:
    """Natural runs that misbehave just when they hold the thought, and flips that undo it."""
    rng = np.random.default_rng(seed)
    is_positive = np.arange(n) % 2 == 0
    sign = np.where(is_positive, 1.0, -1.0)
    return Baseline(
        base=sign * GAP / 2 + rng.normal(0, 0.3, n),
        other=-sign * GAP / 2 + rng.normal(0, 0.3, n),
        is_positive=is_positive,
        clusters=tuple(f"t{i}" for i in range(n)),
        scale=GAP,
    )


def readings(share: float, *, n: int = 40, seed: int = 0) -> DirectionReadings:
    """A direction whose interchange brings a share of the text flip, and random ones that bring nothing."""
    rng = np.random.default_rng(seed + 1)
    unedited = baseline(n, seed=seed)
    return DirectionReadings(
        indicator=f"i{seed}",
        direction="diff_of_means",
        unedited=unedited,
        interchanged=unedited.base + share * (unedited.other - unedited.base),
        patched=unedited.other,
        null=unedited.base + rng.normal(0, 0.1, (20, n)),
        others=unedited.base + rng.normal(0, 0.1, (3, n)),
        complement=unedited.base + (1 - share) * (unedited.other - unedited.base),
        audit_effect=1.0,
        audit_ceiling=1.0,
        auroc=1.0,
        moved=2.0,
        rises={"necessity": True, "sufficiency": True},
    )


def test_a_direction_that_carries_the_flip_is_a_driver_and_one_that_carries_nothing_is_not():
    family = [readings(0.95, seed=0), readings(0.0, seed=1)]
    found = family_evidence(family, RULE, EFFORT)
    assert decide(found[0], RULE).name == "driver"
    assert found[0].strata["necessity"].effect.value == pytest.approx(0.95, abs=0.05)
    assert found[0].ceiling == pytest.approx(1.0)
    assert found[0].specificity > 0.8
    assert all(effect.zero.p_value < 0.05 for effect in found[1].strata.values())
    assert found[0].family_size == 4


def test_strata_hold_the_runs_that_have_room_to_move():
    unedited = Baseline(
        base=np.array([5.0, -5.0, 5.0, -5.0]),
        other=np.array([-5.0, 5.0, -5.0, 5.0]),
        is_positive=np.array([True, True, False, False]),
        clusters=("a", "b", "c", "d"),
        scale=10.0,
    )
    masks = unedited.masks()
    assert [int(np.flatnonzero(masks[name])[0]) for name in masks] == [0, 1, 3, 2]
    assert text_flip_effects(unedited) == dict.fromkeys(masks, 1.0)
    assert unedited.flips("necessity", np.array([[-1.0, 0, 0, 0]])).all()


def test_random_directions_through_the_whole_rule_are_not_drivers():
    rng = np.random.default_rng(0)
    unedited = baseline(40)
    null = unedited.base + rng.normal(0, 1.0, (60, 40))
    drivers = 0
    for draw in range(60):
        one = replace(
            readings(0.0),
            unedited=unedited,
            interchanged=null[draw],
            null=np.delete(null, draw, axis=0),
        )
        found = family_evidence([one], RULE, replace(EFFORT, is_printed=False))
        drivers += decide(found[0], RULE).name == "driver"
    assert drivers == 0


def test_nan_logits_give_no_number():
    one = readings(0.9)
    broken = one.interchanged.copy()
    broken[3] = np.nan
    verdict = decide(family_evidence([replace(one, interchanged=broken)], RULE, EFFORT)[0], RULE)
    assert verdict.name == "invalid"
    assert "1 of 200 runs" in verdict.reason
    assert math.isnan(verdict.p_value)


def test_a_constant_outcome_decides_nothing():
    assert math.isnan(natural_gap(np.ones(5)))
    one = readings(0.9)
    constant = replace(one.unedited, base=np.full(40, 3.0), scale=natural_gap(np.full(40, 3.0)))
    verdict = decide(family_evidence([replace(one, unedited=constant)], RULE, EFFORT)[0], RULE)
    assert verdict.name == "undetermined"
    assert "constant" in verdict.reason


def test_few_runs_decide_nothing_and_are_counted():
    verdict = decide(family_evidence([readings(0.9, n=10)], RULE, EFFORT)[0], RULE)
    assert verdict.name == "undetermined"
    assert "necessity 5" in verdict.reason


def test_a_large_effect_in_few_transcripts_does_not_survive_a_large_family():
    family = [readings(1.0, n=16, seed=seed) for seed in range(18)]
    found = family_evidence(family, RULE, EFFORT)
    verdict = decide(found[0], RULE)
    assert found[0].family_size == 36
    assert verdict.name == "undetermined"
    assert "10 transcripts" in verdict.reason


def test_both_grades_of_effort_agree_on_a_clear_case():
    quick = replace(EFFORT, is_printed=False)
    for effort in (EFFORT, quick):
        found = family_evidence([replace(readings(0.6), complement=None)], RULE, effort)[0]
        assert decide(found, RULE).name == "driver"
        assert 0.5 < found.strata["necessity"].effect.low < 0.6
