import torch

from mechprobe.causal.checks.controls import (
    covariance_matched_directions,
    random_directions,
    shuffled_label_directions,
    without,
)


def test_random_directions_have_unit_length_and_a_seed():
    drawn = random_directions(50, 16, seed=1)
    assert torch.allclose(drawn.norm(dim=-1), torch.ones(50))
    assert torch.equal(drawn, random_directions(50, 16, seed=1))
    assert not torch.equal(drawn, random_directions(50, 16, seed=2))


def test_covariance_matched_directions_lie_where_the_activations_vary():
    spread = torch.tensor([10.0, 1.0, 0.1, 0.0])
    acts = torch.randn(500, 4, generator=torch.Generator().manual_seed(0)) * spread
    drawn = covariance_matched_directions(acts, 200, seed=0).abs().mean(0)
    assert drawn[0] > 0.9
    assert drawn[3] == 0


def test_shuffled_labels_do_not_find_the_true_direction_even_where_all_variance_is_along_it():
    is_present = torch.arange(200) % 2 == 0
    acts = torch.randn(200, 8, generator=torch.Generator().manual_seed(0)) * 0.1
    acts[:, 0] += 20.0 * is_present
    drawn = shuffled_label_directions(acts, is_present, 20, seed=0)
    assert torch.allclose(drawn.norm(dim=-1), torch.ones(20))
    assert drawn[:, 0].abs().mean() < 0.7
    assert shuffled_label_directions(acts, is_present, 0, seed=0).shape == (0, 8)


def test_a_control_loses_its_overlap_with_the_real_direction():
    real = torch.tensor([1.0, 0.0, 0.0])
    drawn = without(torch.tensor([[0.6, 0.8, 0.0], [1.0, 0.0, 0.0]]), real)
    assert torch.allclose(drawn, torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]), atol=1e-6)


def test_classes_without_spread_give_no_shuffled_direction():
    is_present = torch.arange(20) % 2 == 0
    acts = torch.zeros(20, 4)
    acts[is_present, 0] = 1.0
    assert not shuffled_label_directions(acts, is_present, 3, seed=0).any()
