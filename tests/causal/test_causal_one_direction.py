from dataclasses import replace

import pytest
import torch

from mechprobe.causal.directions import Direction
from mechprobe.causal.one_direction import interchange_effect, steering_curve
from mechprobe.causal.places.sites import Site
from mechprobe.errors import DataError, ShapeError

SITE = Site(hook_name="blocks.0.hook_resid_post", position="span_last")


@pytest.fixture(scope="module")
def lie(planted) -> Direction:
    vector = torch.zeros(planted.subject.d_model)
    vector[planted.held_axis["lie"]] = 1.0
    return Direction(indicator="lie", name="planted", vector=vector, gap=1.0)


@pytest.fixture(scope="module")
def pairs(planted):
    return [p for p in planted.pairs if p.indicator == "lie" and p.split == "test"][:20]


def test_a_planted_direction_moves_the_outcome_and_random_ones_do_not(planted, pairs, lie):
    found = interchange_effect(planted.subject, pairs, lie, SITE, n_random=5)
    mean = found.groupby(["stratum", "control"])["effect"].mean()
    assert mean["necessity", "none"] > 0.3
    assert abs(mean["necessity", "random"]) < 0.1
    own = found[found["control"] == "none"].dropna()
    assert (own["low"] <= own["effect"]).all()
    assert (own["effect"] <= own["high"]).all()


def test_steering_rises_from_compliance_to_misbehaviour(planted, pairs, lie):
    curve = steering_curve(planted.subject, pairs, lie, SITE, side="negative", n_random=2)
    own = curve[curve["control"] == "none"].set_index("strength")["misbehaves"]
    assert own[1.0] > own[0.0] + 0.3
    assert own.is_monotonic_increasing
    assert len(curve) == 8 * 3


def test_pairs_of_one_kind_have_no_scale(planted, pairs, lie):
    good = [
        pair
        for pair in pairs
        if pair.positive.messages[1].content == pair.negative.messages[1].content == "good"
    ]
    with pytest.raises(DataError, match="constant"):
        interchange_effect(planted.subject, good, lie, SITE)
    with pytest.raises(DataError, match="natural side"):
        steering_curve(planted.subject, [], lie, SITE)


def test_a_direction_of_another_width_is_refused(planted, pairs, lie):
    with pytest.raises(ShapeError, match="5 numbers"):
        interchange_effect(planted.subject, pairs, replace(lie, vector=torch.ones(5)), SITE)
