import math
from dataclasses import replace
from typing import Any

import pytest

from mechprobe.causal.verdicts.deciding import decide
from mechprobe.causal.verdicts.statistics import Equivalence, Interval
from mechprobe.causal.verdicts.verdict import Evidence, Pool, Stratum, StratumEffect, VerdictRule
from mechprobe.errors import ConfigError

RULE = VerdictRule()
SILENT: dict[str, Any] = {"ceiling": math.nan}
"""Flipping the thought in the text changes nothing while the later text stands."""


def effect(value: float, *, flips: float = 0.9, n: int = 30, p: float = 0.001) -> StratumEffect:
    """A stratum with a tight interval."""
    is_zero = abs(value) < RULE.margin - 0.02
    return StratumEffect(
        n=n,
        n_clusters=n,
        effect=Interval(value=value, low=value - 0.02, high=value + 0.02),
        flip_rate=flips,
        p_sign=p,
        p_holm=p,
        p_random=0.04 if value > 0.2 else 0.5,
        zero=Equivalence(
            p_value=0.001 if is_zero else 0.9, low=value - 0.02, high=value + 0.02, n_needed=0
        ),
    )


def evidence(
    necessity: float | None = 0.0,
    sufficiency: float | None = 0.0,
    release: float | None = 0.0,
    inhibition: float | None = 0.0,
    **changes: object,
) -> Evidence:
    values: dict[Stratum, float | None] = {
        "necessity": necessity,
        "release": release,
        "sufficiency": sufficiency,
        "inhibition": inhibition,
    }
    found = {name: effect(value) for name, value in values.items() if value is not None}
    pooled: dict[Pool, Equivalence] = {}
    if {"necessity", "release"} & set(found):
        pooled["removing"] = effect(0.0).zero
    if {"sufficiency", "inhibition"} & set(found):
        pooled["adding"] = effect(0.0).zero
    base = Evidence(
        indicator="lie",
        direction="diff_of_means",
        strata=found,
        pooled_zero=pooled,
        n_items={name: (30 if name in found else 2) for name in values},
        ceiling=1.0,
        ceiling_effects=dict.fromkeys(values, 1.0),
        audit_ceiling=1.0,
        audit_effect=1.0,
        auroc=0.99,
        moved=2.0,
        specificity=0.8,
        rises={"necessity": True, "sufficiency": True},
        family_size=36,
        resampled=Interval(value=0.01, low=-0.05, high=0.06),
        resampled_zero=Equivalence(p_value=0.001, low=-0.04, high=0.05, n_needed=0),
    )
    return replace(base, **changes)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (evidence(0.9, 0.8), "driver"),
        (evidence(0.9, 0.05), "necessary_only"),
        (evidence(0.08, 0.8), "sufficient_only"),
        (evidence(None, 0.8), "sufficient_only"),
        (evidence(inhibition=0.9), "inhibitor"),
        (evidence(necessity=None, release=0.5, inhibition=None, sufficiency=-0.6), "inhibitor"),
        (evidence(ceiling=math.nan), "readout_only"),
        (evidence(**SILENT, resampled=Interval(value=0.4, low=0.2, high=0.6)), "text_mediated"),
        (evidence(**SILENT, resampled=Interval(value=-0.4, low=-0.6, high=-0.2)), "text_mediated"),
        (evidence(ceiling=0.9, resampled=None), "readout_only"),
        (evidence(necessity=0.17), "undetermined"),
    ],
)
def test_each_pattern_of_effects_has_its_verdict(found: Evidence, wanted: str):
    verdict = decide(found, RULE)
    assert verdict.name == wanted
    assert verdict.reason
    assert math.isnan(verdict.p_value) == (wanted == "undetermined")


def test_a_claim_is_as_strong_as_its_weakest_part():
    strata = {"necessity": effect(0.9, p=0.03), "sufficiency": effect(0.9, p=0.001)}
    verdict = decide(evidence(strata=strata), RULE)
    assert verdict.name == "driver"
    assert verdict.p_value == pytest.approx(0.04)


@pytest.mark.parametrize(
    ("change", "wanted", "words"),
    [
        ({"ceiling": 0.1}, "invalid", "whole activation"),
        ({"ceiling": math.nan, "audit_ceiling": 0.1}, "invalid", "not be represented"),
        ({"ceiling": math.nan, "audit_ceiling": math.nan}, "invalid", "refused"),
        ({"moved": 0.01}, "invalid", "hardly moves"),
        ({"ceiling_effects": {"necessity": 0.0, "sufficiency": 0.0}}, "invalid", "illusion"),
        ({"rises": {"necessity": True, "sufficiency": False}}, "undetermined", "sufficiency"),
        ({"rises": {}}, "undetermined", "does not rise"),
        ({"specificity": -0.1}, "undetermined", "other indicators"),
        ({"faults": ("3 runs have NaN logits",)}, "invalid", "NaN"),
        ({"gaps": ("the outcome is constant",)}, "undetermined", "constant"),
        ({"strata": {}}, "undetermined", "too few runs"),
    ],
)
def test_what_spoils_a_driver_is_named(change: dict[str, object], wanted: str, words: str):
    verdict = decide(evidence(0.9, 0.9, **change), RULE)
    assert verdict.name == wanted
    assert words in verdict.reason
    assert math.isnan(verdict.p_value)


def test_a_shift_that_changes_no_run_is_no_sufficiency():
    strata = {"necessity": effect(0.9), "sufficiency": effect(0.4, flips=0.1)}
    verdict = decide(evidence(strata=strata), RULE)
    assert verdict.name == "necessary_only"
    assert "10% of the runs change sides" in verdict.reason


def test_an_effect_no_larger_than_random_directions_is_none():
    weak = replace(effect(0.9), p_random=0.2)
    verdict = decide(evidence(strata={"necessity": weak, "sufficiency": weak}), RULE)
    assert verdict.name == "undetermined"
    assert "random directions" in verdict.reason


def test_too_few_transcripts_say_how_many_are_needed():
    few = replace(effect(0.9, n=8), p_holm=0.14)
    verdict = decide(evidence(strata={"necessity": few, "sufficiency": few}), RULE)
    assert verdict.name == "undetermined"
    assert "10 transcripts" in verdict.reason


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"resampled": None}, "not tested"),
        ({"audit_effect": 0.1}, "positive control"),
        ({"auroc": 0.6}, "positive control"),
        (
            {
                "resampled_zero": Equivalence(p_value=0.3, low=-0.3, high=0.3, n_needed=80),
            },
            "80 transcripts",
        ),
    ],
)
def test_no_effect_alone_does_not_make_a_read_out(change: dict[str, object], words: str):
    verdict = decide(evidence(**SILENT, **change), RULE)
    assert verdict.name == "undetermined"
    assert words in verdict.reason


def test_a_direction_beside_the_cause_is_no_text_mediation():
    moved = Interval(value=0.5, low=0.4, high=0.6)
    verdict = decide(evidence(ceiling=0.9, resampled=moved, audit_effect=0.0), RULE)
    assert verdict.name == "undetermined"
    assert "other directions" in verdict.reason


def test_no_effect_seen_on_one_side_only_is_no_equivalence():
    verdict = decide(evidence(sufficiency=None, inhibition=None), RULE)
    assert verdict.name == "undetermined"
    assert "too few runs" in verdict.reason


def test_a_small_noisy_stratum_does_not_hide_that_its_side_shows_nothing():
    noisy = replace(
        effect(0.06, n=10), zero=Equivalence(p_value=0.2, low=-0.1, high=0.2, n_needed=90)
    )
    calm = evidence()
    assert decide(replace(calm, strata={**calm.strata, "inhibition": noisy}), RULE).name == (
        "readout_only"
    )
    large = {**calm.strata, "inhibition": replace(noisy, n=20)}
    assert decide(replace(calm, strata=large), RULE).name == "undetermined"
    shifted = {**calm.strata, "inhibition": replace(noisy, effect=effect(0.12).effect)}
    verdict = decide(replace(calm, strata=shifted), RULE)
    assert verdict.name == "undetermined"
    assert "about 90 transcripts" in verdict.reason


def test_a_rule_without_room_between_none_and_some_is_refused():
    with pytest.raises(ConfigError, match="margin"):
        VerdictRule(margin=0.3, min_effect=0.25)
    with pytest.raises(ConfigError, match="alpha"):
        VerdictRule(alpha=0.9)
