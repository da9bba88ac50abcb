"""What each intervention does to an activation, computed by hand or held to the law that defines it."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from mechprobe.causal.edits import interventions, operations
from mechprobe.causal.edits.edited_rows import Operation, Rows, edit_at
from mechprobe.causal.edits.rotations import plane_of, rotate_by, rotate_to, turn_to
from mechprobe.errors import DataError, ShapeError
from mechprobe.models.hooks import Edit, EditContext
from mechprobe.probes.linear import LinearProbe

D, HOOK = 6, "blocks.0.hook_out"
LIVE = torch.randn(3, 5, D, generator=torch.Generator().manual_seed(0))
# The second case is shorter and padded in front, the third behind.
POSITIONS = torch.tensor([[0, 1, 2, 3, 4], [-1, -1, 0, 1, 2], [0, 1, 2, 3, -1]])
CONTEXT = EditContext(positions=POSITIONS)
CHOSEN = torch.tensor([[1, 4], [0, -1], [3, 2]])
AT = [(0, 1, 0), (0, 4, 1), (1, 2, 0), (2, 3, 0), (2, 2, 1)]
"""Case, column and slot of every chosen token."""


def unit(*numbers: float) -> torch.Tensor:
    vector = torch.tensor([*numbers, *[0.0] * (D - len(numbers))])
    return vector / vector.norm()


def applied(edit: Edit, live: torch.Tensor = LIVE) -> torch.Tensor:
    before = live.clone()
    edited = edit.apply(live, CONTEXT)
    assert torch.equal(live, before)
    return edited


def after(operation: Operation, live: torch.Tensor = LIVE) -> torch.Tensor:
    """The chosen rows after an operation; all others must have kept their bits."""
    edited = applied(edit_at(HOOK, CHOSEN, operation), live)
    case, column = (torch.tensor(index) for index in list(zip(*AT, strict=True))[:2])
    untouched = torch.ones(3, 5, dtype=torch.bool)
    untouched[case, column] = False
    assert torch.equal(edited[untouched], live[untouched])
    return edited[case, column]


def chosen_rows(live: torch.Tensor = LIVE) -> torch.Tensor:
    return torch.stack([live[case, column] for case, column, _slot in AT])


def basis(k: int, seed: int = 3) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(D, k, generator=torch.Generator().manual_seed(seed))).Q


def test_set_coordinate_sets_it_and_leaves_what_is_orthogonal():
    directions = torch.stack([unit(1), unit(1, 1), unit(0, 2, 1)])
    values = torch.tensor([[5.0, 6.0], [7.0, float("nan")], [8.0, 9.0]])
    edited = applied(interventions.set_coordinate(HOOK, CHOSEN, directions, values))
    for case, column, slot in AT:
        u, before, now = directions[case], LIVE[case, column], edited[case, column]
        assert torch.isclose(now @ u, values[case, slot], atol=1e-5)
        assert torch.allclose(now - (now @ u) * u, before - (before @ u) * u, atol=1e-5)
    assert torch.equal(edited[1, :2], LIVE[1, :2])


def test_an_interchange_in_the_whole_space_is_a_full_patch():
    partner = torch.randn(3, 2, D, generator=torch.Generator().manual_seed(1))
    patched = applied(interventions.replace_at(HOOK, CHOSEN, partner))
    whole = basis(D).expand(3, -1, -1)
    swapped = applied(interventions.interchange_subspace(HOOK, CHOSEN, whole, partner))
    assert torch.allclose(swapped, patched, atol=1e-5)
    operation = operations.within(basis(D), operations.interchange(partner))
    assert torch.allclose(after(operation), patched[[0, 0, 1, 2, 2], [1, 4, 2, 3, 2]], atol=1e-5)


def test_an_interchange_in_a_subspace_moves_that_part_only():
    partner = torch.randn(3, 2, D, generator=torch.Generator().manual_seed(1))
    bases = torch.stack([basis(2, seed) for seed in (1, 2, 3)])
    edited = applied(interventions.interchange_subspace(HOOK, CHOSEN, bases, partner))
    for case, column, slot in AT:
        inside = bases[case]
        outside = torch.eye(D) - inside @ inside.T
        now, before = edited[case, column], LIVE[case, column]
        assert torch.allclose(now @ inside, partner[case, slot] @ inside, atol=1e-5)
        assert torch.allclose(outside @ now, outside @ before, atol=1e-5)


def test_one_direction_is_a_subspace_of_one_dimension():
    u, values = unit(1, 2, 3), torch.randn(3, 2, generator=torch.Generator().manual_seed(4))
    one = interventions.set_coordinate(HOOK, CHOSEN, u.expand(3, -1), values)
    many = interventions.set_in_subspace(
        HOOK, CHOSEN, u[:, None].expand(3, -1, -1), values[..., None]
    )
    assert torch.allclose(applied(one), applied(many), atol=1e-6)


def test_ablations_write_the_mean_zero_or_another_activation():
    mean = torch.arange(float(D))
    assert torch.equal(after(operations.mean_ablation(mean)), mean.expand(5, -1))
    assert torch.equal(after(operations.zero_ablation()), torch.zeros(5, D))
    pool = torch.arange(10.0)[:, None].expand(-1, D)
    drawn = after(operations.resample_ablation(pool, seed=0))
    assert torch.equal(drawn, drawn[:, :1].expand(-1, D))
    assert set(drawn[:, 0].tolist()) <= set(range(10))
    assert torch.equal(drawn, after(operations.resample_ablation(pool, seed=0)))
    assert not torch.equal(drawn, after(operations.resample_ablation(pool, seed=1)))


def test_resampling_draws_evenly():
    pool = torch.arange(4.0)[:, None]
    n = 2000
    rows = Rows(
        case=torch.zeros(n, dtype=torch.long),
        slot=torch.arange(n),
        position=torch.arange(n),
        column=torch.arange(n),
    )
    drawn = operations.resample_ablation(pool, seed=7)(torch.zeros(n, 1), rows)
    counts = np.bincount(drawn[:, 0].long().numpy(), minlength=4)
    # Chi-squared with 3 degrees of freedom: 16.3 is passed once in a thousand.
    assert ((counts - n / 4) ** 2 / (n / 4)).sum() < 16.3


def test_mean_ablation_of_a_direction_is_the_class_mean_set_there():
    u, mean = unit(1, -1, 2), torch.arange(float(D))
    inside = after(operations.within(u[:, None], operations.mean_ablation(mean)))
    assert torch.allclose(inside, after(operations.set_value(u, float(mean @ u))), atol=1e-5)


def test_steering_adds_and_can_keep_the_length():
    direction = torch.randn(D, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(after(operations.steer(direction, 2.5)), chosen_rows() + 2.5 * direction)
    kept = after(operations.steer_keeping_norm(direction, 2.5))
    assert torch.allclose(kept.norm(dim=-1), chosen_rows().norm(dim=-1), atol=1e-5)
    added = chosen_rows() + 2.5 * direction
    assert torch.allclose(
        torch.nn.functional.cosine_similarity(kept, added), torch.ones(5), atol=1e-5
    )


ROTATIONS: list[Callable[[torch.Tensor, float], Operation]] = [
    rotate_to,
    rotate_by,
    lambda plane, degrees: rotate_to(plane, degrees, only_aligned=True),
    lambda plane, degrees: turn_to(plane[:, 0], degrees % 180),
]


@pytest.mark.parametrize("rotation", ROTATIONS, ids=["to", "by", "aligned", "turn"])
@pytest.mark.parametrize("degrees", [0.0, 30.0, 90.0, 180.0, 250.0])
def test_a_rotation_keeps_every_length(rotation, degrees: float):
    turned = after(rotation(basis(2), degrees))
    assert torch.allclose(turned.norm(dim=-1), chosen_rows().norm(dim=-1), atol=1e-5)


@pytest.mark.parametrize("degrees", [0.0, 30.0, 90.0, 180.0, 250.0])
def test_rotation_in_a_plane_reaches_the_angle_and_leaves_the_rest(degrees: float):
    plane, before = basis(2), chosen_rows()
    turned = after(rotate_to(plane, degrees))
    inside = turned @ plane
    angles = torch.rad2deg(torch.atan2(inside[:, 1], inside[:, 0])) - degrees
    assert torch.allclose((angles + 180) % 360 - 180, torch.zeros(5), atol=1e-3)
    outside = torch.eye(D) - plane @ plane.T
    assert torch.allclose(turned @ outside, before @ outside, atol=1e-5)


def test_turning_by_angles_adds_them_up_and_a_full_turn_is_nothing():
    plane, rows = basis(2), chosen_rows()
    none = torch.zeros(5, dtype=torch.long)
    nowhere = Rows(case=none, slot=none, position=none, column=none)
    twice = rotate_by(plane, 50.0)(rotate_by(plane, 20.0)(rows, nowhere), nowhere)
    assert torch.allclose(twice, rotate_by(plane, 70.0)(rows, nowhere), atol=1e-5)
    assert torch.allclose(rotate_by(plane, 360.0)(rows, nowhere), rows, atol=1e-5)
    # The first vector turns towards the second.
    turned = rotate_by(plane, 90.0)(plane[:, 0].expand(5, -1), nowhere)
    assert torch.allclose(turned, plane[:, 1].expand(5, -1), atol=1e-6)


def test_the_adaptive_rotation_turns_only_what_points_along_the_direction():
    plane, before = basis(2), chosen_rows()
    turned = after(rotate_to(plane, 180.0, only_aligned=True))
    is_aligned = before @ plane[:, 0] > 0
    assert 0 < int(is_aligned.sum()) < 5
    assert torch.equal(turned[~is_aligned], before[~is_aligned])
    assert (turned[is_aligned] @ plane[:, 0] < 0).all()


@pytest.mark.parametrize("degrees", [0.0, 25.0, 90.0, 180.0])
def test_turning_the_whole_activation_stays_in_its_plane_with_the_direction(degrees: float):
    direction, before = unit(1, 2, -1), chosen_rows()
    turned = after(turn_to(direction, degrees))
    cosine = torch.nn.functional.cosine_similarity(turned, direction.expand(5, -1))
    assert torch.allclose(
        torch.rad2deg(cosine.clamp(-1, 1).acos()), torch.full((5,), degrees), atol=0.1
    )
    for row, old in zip(turned, before, strict=True):
        assert torch.linalg.matrix_rank(torch.stack([row, old, direction]), tol=1e-4) <= 2


def test_an_activation_along_the_direction_has_no_plane_to_turn_in():
    direction = unit(1, 2, -1)
    live = 3.7 * direction.expand(3, 5, -1)
    assert torch.equal(after(turn_to(direction, 40.0), live), chosen_rows(live))


def test_the_plane_of_two_directions_starts_with_the_first():
    first, second = torch.randn(2, D, generator=torch.Generator().manual_seed(5))
    plane = plane_of(first, second)
    assert torch.allclose(plane.T @ plane, torch.eye(2), atol=1e-6)
    assert torch.allclose(plane[:, 0], first / first.norm(), atol=1e-6)
    assert torch.linalg.matrix_rank(torch.cat([plane, second[:, None]], 1), tol=1e-4) == 2


def test_a_conditional_edit_touches_the_tokens_that_a_probe_scores_high():
    weight = np.array([1.0, -2.0, 0.5, 0, 0, 1], dtype=np.float32)
    probe = LinearProbe(kind="given", weight=weight, bias=0.3)
    fires = probe.score(chosen_rows().numpy()) > 0.1
    assert 0 < fires.sum() < 5
    gated = operations.where_probe_fires(operations.zero_ablation(), probe, threshold=0.1)
    edited = after(gated).numpy()
    assert (edited[fires] == 0).all()
    assert (edited[~fires] == chosen_rows().numpy()[~fires]).all()


def test_half_precision_stays_half():
    half = LIVE.to(torch.bfloat16)
    edited = applied(
        interventions.set_coordinate(HOOK, CHOSEN, unit(1, 1).expand(3, -1), torch.zeros(3, 2)),
        half,
    )
    assert edited.dtype == torch.bfloat16
    assert after(rotate_to(basis(2), 30.0), half).dtype == torch.bfloat16


def test_a_pass_without_the_tokens_is_no_firing():
    edit = interventions.replace_at(HOOK, torch.tensor([[9], [8], [-1]]), torch.ones(3, 1, D))
    assert edit.apply(LIVE, CONTEXT) is LIVE


NARROW = {
    "replace": lambda: interventions.replace_at(HOOK, CHOSEN, torch.ones(3, 2, 4)),
    "set": lambda: interventions.set_coordinate(HOOK, CHOSEN, torch.eye(4)[:3], torch.ones(3, 2)),
    "subspace": lambda: interventions.set_in_subspace(
        HOOK, CHOSEN, torch.eye(4)[:, :2].expand(3, -1, -1), torch.ones(3, 2, 2)
    ),
    "add": lambda: interventions.add_direction(HOOK, CHOSEN, torch.ones(3, 4), torch.ones(3, 2)),
    "steer_everywhere": lambda: interventions.steer_everywhere(HOOK, torch.ones(4), 1.0),
    "ablate_everywhere": lambda: interventions.ablate_everywhere(HOOK, torch.eye(4)[0]),
    "steer": lambda: edit_at(HOOK, CHOSEN, operations.steer(torch.ones(4), 1.0)),
    "set_value": lambda: edit_at(HOOK, CHOSEN, operations.set_value(torch.eye(4)[0], 1.0)),
    "mean": lambda: edit_at(HOOK, CHOSEN, operations.mean_ablation(torch.ones(4))),
    "resample": lambda: edit_at(HOOK, CHOSEN, operations.resample_ablation(torch.ones(2, 4))),
    "interchange": lambda: edit_at(HOOK, CHOSEN, operations.interchange(torch.ones(3, 2, 4))),
    "within": lambda: edit_at(
        HOOK, CHOSEN, operations.within(torch.eye(4)[:, :2], operations.zero_ablation())
    ),
    "rotate": lambda: edit_at(HOOK, CHOSEN, rotate_to(torch.eye(4)[:, :2], 10.0)),
    "turn": lambda: edit_at(HOOK, CHOSEN, turn_to(torch.eye(4)[0], 10.0)),
    "probe": lambda: edit_at(
        HOOK,
        CHOSEN,
        operations.where_probe_fires(
            operations.zero_ablation(),
            LinearProbe(kind="given", weight=np.ones(4, dtype=np.float32), bias=0.0),
        ),
    ),
}


@pytest.mark.parametrize("name", NARROW)
def test_another_width_than_the_hook_point_is_refused(name: str):
    with pytest.raises(ShapeError, match="has 4 numbers, the hook point has 6"):
        NARROW[name]().apply(LIVE, CONTEXT)


NAN = torch.tensor([1.0, float("nan"), 0, 0, 0, 0])
REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "set_coordinate nan": (
        lambda: interventions.set_coordinate(HOOK, CHOSEN, NAN.expand(3, -1), torch.ones(3, 2)),
        "NaN",
    ),
    "set_coordinate long": (
        lambda: interventions.set_coordinate(
            HOOK, CHOSEN, torch.full((3, D), 2.0), torch.ones(3, 2)
        ),
        "length 4.89",
    ),
    "add_direction nan": (
        lambda: interventions.add_direction(HOOK, CHOSEN, NAN.expand(3, -1), torch.ones(3, 2)),
        "NaN",
    ),
    "subspace": (
        lambda: interventions.set_in_subspace(
            HOOK, CHOSEN, torch.ones(D, 2).expand(3, -1, -1), torch.ones(3, 2, 2)
        ),
        "not orthonormal",
    ),
    "steer_everywhere": (lambda: interventions.steer_everywhere(HOOK, NAN, 1.0), "NaN"),
    "ablate_everywhere": (lambda: interventions.ablate_everywhere(HOOK, NAN), "NaN"),
    "steer": (lambda: operations.steer(NAN, 1.0), "NaN"),
    "set_value": (lambda: operations.set_value(torch.zeros(D), 1.0), "length 0"),
    "mean": (lambda: operations.mean_ablation(NAN), "NaN"),
    "interchange": (lambda: operations.interchange(NAN.expand(1, 1, -1)), "NaN"),
    "within": (lambda: operations.within(NAN[:, None], operations.zero_ablation()), "NaN"),
    "rotate_to": (lambda: rotate_to(NAN[:, None].expand(-1, 2), 1.0), "NaN"),
    "rotate_by": (lambda: rotate_by(basis(2), float("inf")), "angle is inf"),
    "turn_to": (lambda: turn_to(unit(1), 200.0), "from 0 to 180"),
    "plane": (lambda: plane_of(unit(1, 2), -3 * unit(1, 2)), "no plane"),
    "plane of nothing": (lambda: plane_of(unit(1, 2), torch.zeros(D)), "no plane"),
    "probe": (
        lambda: operations.where_probe_fires(
            operations.zero_ablation(),
            LinearProbe(kind="given", weight=NAN.numpy().astype(np.float32), bias=0.0),
        ),
        "NaN",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_an_intervention_is_refused_when_it_is_made(name: str):
    make, message = REFUSED[name]
    with pytest.raises(ShapeError, match=message):
        make()


def test_too_little_to_draw_from_is_refused():
    with pytest.raises(DataError, match="empty"):
        operations.resample_ablation(torch.ones(0, D))
    with pytest.raises(ShapeError, match="2 seeds, case 3"):
        after(operations.resample_ablation(torch.ones(4, D), seed=[1, 2]))
    with pytest.raises(ShapeError, match="3 cases of 1 tokens"):
        after(operations.interchange(torch.ones(3, 1, D)))
    with pytest.raises(ShapeError, match="2 cases, the batch has 3"):
        interventions.replace_at(HOOK, CHOSEN[:2], torch.ones(2, 2, D)).apply(LIVE, CONTEXT)
