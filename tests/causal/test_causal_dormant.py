"""Splits by exact linear algebra, and an illusion planted in a model whose weights are written by hand."""

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mechprobe.causal.cases import Case, natural_cases, render_pairs
from mechprobe.causal.checks.dormant import (
    DormantFigures,
    dormant_figures,
    dormant_split,
    gradient_space,
    is_illusion,
    natural_share,
    outcome_gradients,
    reader_space,
    weight_space,
)
from mechprobe.causal.directions import Direction
from mechprobe.causal.effects import measure
from mechprobe.causal.places.sites import Site, SiteActs, site_acts
from mechprobe.causal.verdicts.strata import Baseline, baseline, natural_gap
from mechprobe.errors import DataError, ShapeError
from mechprobe.models.readers import Reader

SITE = Site(hook_name="blocks.0.hook_out", position="span_last")


def reader(*axes: int, width: int = 6, size: float = 1.0) -> Reader:
    return reader_of(size * torch.eye(width)[list(axes)])


def reader_of(weight: Tensor) -> Reader:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight = nn.Parameter(weight)
    return Reader(name="made", layer=layer)


def unit(*values: float) -> Tensor:
    vector = torch.tensor(values, dtype=torch.float32)
    return vector / vector.norm()


def test_a_direction_is_split_into_what_is_read_and_what_is_not() -> None:
    split = dormant_split(unit(1, 0, 0, 0, 0, 1), reader_space([reader(0, 1, 2)]))
    assert torch.allclose(split.read, unit(1, 0, 0, 0, 0, 0), atol=1e-6)
    assert torch.allclose(split.unread, unit(0, 0, 0, 0, 0, 1), atol=1e-6)
    assert split.read_share == pytest.approx(0.5)
    assert split.chance_share == pytest.approx(0.5)
    assert split.energy_read == pytest.approx(1.0), (
        "half of a direction that is read twice the mean"
    )


def test_a_direction_wholly_inside_or_outside_has_no_other_part() -> None:
    space = reader_space([reader(0, 1, 2)])
    inside = dormant_split(unit(0, 1, 1, 0, 0, 0), space)
    outside = dormant_split(unit(0, 0, 0, 1, 1, 0), space)
    assert (inside.read_share, outside.read_share) == (pytest.approx(1), pytest.approx(0))
    assert not inside.unread.any() and not outside.read.any()
    assert outside.energy_read == pytest.approx(0)


def test_every_reader_counts_equally_and_faint_readings_are_no_reading() -> None:
    space = reader_space([reader(0, size=100.0), reader(1)])
    assert dormant_split(unit(0, 1, 0, 0, 0, 0), space).energy_read == pytest.approx(3.0)
    weight = torch.diag(torch.tensor([1.0, 1.0, 1.0, 0.01, 0.01, 0.01]))
    faint = reader_space([reader_of(weight)])
    assert len(faint.basis) == 3, "the later axes hold far less than one percent of what is read"


def test_gradients_span_the_directions_that_the_outcome_depends_on() -> None:
    gradients = torch.randn(40, 2, generator=torch.Generator().manual_seed(0)) @ torch.eye(6)[:2]
    space = gradient_space(gradients)
    assert space.source == "gradients"
    assert dormant_split(unit(3, 4, 0, 0, 0, 0), space).read_share == pytest.approx(1)
    assert dormant_split(unit(0, 0, 1, 0, 0, 0), space).read_share == pytest.approx(0)


def made_acts(change: Tensor) -> SiteActs:
    own = torch.zeros(len(change), 1, change.shape[1])
    return SiteActs(
        site=SITE,
        positions=torch.ones(len(change), 1, dtype=torch.long),
        own=own,
        partner=change[:, None],
    )


def direction_of(vector: Tensor) -> Direction:
    return Direction(indicator="made", name="made", vector=vector, gap=1.0)


def test_natural_share_tells_a_carried_change_from_a_natural_one() -> None:
    space = reader_space([reader(0)])
    mixed = unit(1, 0, 0, 0, 0, 1)
    concept = torch.tensor([1.0, -1.0, 2.0])
    only_unread = made_acts(torch.outer(concept, torch.eye(6)[5]))
    as_mixed = made_acts(torch.outer(concept, mixed))
    nothing = made_acts(torch.zeros(3, 6))
    found = [
        natural_share(acts, direction_of(mixed), space) for acts in (only_unread, as_mixed, nothing)
    ]
    assert found[:2] == [pytest.approx(0, abs=1e-6), pytest.approx(1)]
    assert math.isnan(found[2])


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The pairs of one thought of the planted world, ready to be edited."""

    subject: Any
    cases: list[Case]
    acts: SiteActs
    unedited: Baseline
    change: Tensor
    """Unit vector of the natural change at the site, the same in every pair."""

    def figures(self, direction: Tensor, source: str) -> DormantFigures:
        space = (
            weight_space(self.subject, SITE)
            if source == "weights"
            else gradient_space(outcome_gradients(self.subject, self.cases, SITE, "behavior"))
        )
        return dormant_figures(
            self.subject,
            self.cases,
            self.acts,
            direction_of(direction),
            space,
            self.unedited,
            "behavior",
        )


@pytest.fixture(scope="module")
def scene(planted: Any) -> Any:
    pairs = [pair for pair in planted.pairs if pair.split == "test"]
    everything = natural_cases(render_pairs(planted.subject, pairs))
    scale = natural_gap(measure(planted.subject, everything, "behavior").logit_diff[0])

    def make(thought: str) -> Scene:
        cases = [case for case in everything if case.pair.indicator == thought]
        acts = site_acts(planted.subject, cases, SITE, "behavior")
        base = measure(planted.subject, cases, "behavior").logit_diff[0]
        change = acts.partner[0, 0] - acts.own[0, 0]
        return Scene(
            subject=planted.subject,
            cases=cases,
            acts=acts,
            unedited=baseline(cases, base, base, scale),
            change=change / change.norm(),
        )

    return make


@pytest.mark.parametrize("source", ["weights", "gradients"])
def test_the_driver_is_no_illusion(scene: Any, source: str) -> None:
    one = scene("lie")
    found = one.figures(one.change, source)
    assert found.effect > 0.3
    assert found.kept_plane == pytest.approx(1, abs=0.01)
    assert found.kept_patch == pytest.approx(1, abs=0.01)
    assert not found.illusion_suspected
    assert found.n == 48


def test_gradients_can_miss_a_driver_but_the_plane_does_not_flag_it(scene: Any) -> None:
    # The norm makes the outcome flat along the step from one word to the other, at both of its ends.
    one = scene("lie")
    by_weights, by_gradients = (one.figures(one.change, name) for name in ("weights", "gradients"))
    assert by_weights.kept_read == pytest.approx(1, abs=0.02)
    assert by_weights.natural_share == pytest.approx(1, abs=0.01)
    assert by_gradients.read_share < 1e-6
    assert by_gradients.kept_plane == pytest.approx(1, abs=0.01)
    assert not by_gradients.illusion_suspected


@pytest.mark.parametrize("source", ["weights", "gradients"])
def test_a_read_out_that_wakes_a_dormant_driver_is_an_illusion(
    scene: Any, planted: Any, source: str
) -> None:
    one = scene("boast")
    lie = torch.eye(one.change.shape[0])[planted.held_axis["lie"]]
    mixed = (one.change + lie) / 2**0.5
    found = one.figures(mixed, source)
    assert found.effect > 0.3, "interchange along the mix does lie's work"
    assert abs(found.kept_patch) < 0.1, "boasting itself does nothing"
    assert abs(found.kept_plane) < 0.1
    assert found.natural_share < 0.5
    assert found.illusion_suspected


def test_a_direction_that_does_nothing_is_no_illusion(scene: Any) -> None:
    one = scene("boast")
    found = one.figures(one.change, "weights")
    assert found.effect < 0.02
    assert not found.illusion_suspected


def test_an_illusion_needs_an_effect_and_its_loss() -> None:
    assert is_illusion(0.5, kept_plane=0.1, kept_patch=1.0)
    assert is_illusion(0.5, kept_plane=1.0, kept_patch=-0.2)
    assert not is_illusion(0.5, kept_plane=0.9, kept_patch=1.2)
    assert not is_illusion(0.05, kept_plane=0.0, kept_patch=0.0)
    assert not is_illusion(0.0, kept_plane=math.nan, kept_patch=math.nan)


def test_the_parts_of_a_feature_are_those_of_what_it_contributes(scene: Any, planted: Any) -> None:
    one = scene("boast")
    lie = torch.eye(one.change.shape[0])[planted.held_axis["lie"]]
    mixed = (one.change + lie) / 2**0.5

    def part(acts: Tensor) -> Tensor:
        """A feature that reads the boast and writes the mix."""
        return 2**0.5 * (acts @ one.change)[..., None] * mixed

    feature = Direction(indicator="boast", name="made", vector=mixed, gap=1.0, part_of=part)
    found = dormant_figures(
        one.subject,
        one.cases,
        one.acts,
        feature,
        weight_space(one.subject, SITE),
        one.unedited,
        "behavior",
    )
    assert found.effect > 0.3
    assert found.illusion_suspected, "the decoder writes what the boast does not naturally change"


def test_bad_input_is_one_clear_error(scene: Any) -> None:
    space = reader_space([reader(0)])
    with pytest.raises(ShapeError, match="has 5 numbers"):
        dormant_split(torch.eye(5)[0], space)
    with pytest.raises(ShapeError, match="length 2"):
        dormant_split(2 * torch.eye(6)[0], space)
    with pytest.raises(DataError, match="zero or not finite"):
        gradient_space(torch.zeros(3, 6))
    with pytest.raises(DataError, match="zero or not finite"):
        gradient_space(torch.full((3, 6), torch.nan))
    with pytest.raises(ShapeError, match="has 3 numbers"):
        scene("lie").figures(torch.eye(3)[0], "weights")
