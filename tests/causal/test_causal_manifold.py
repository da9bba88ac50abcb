import math

import numpy as np
import pytest
import torch
from sklearn.covariance import ledoit_wolf
from torch import Tensor, nn

from mechprobe.causal.checks.manifold import (
    BEYOND_CHANCE,
    fit_manifold,
    manifold_figures,
    manifold_rows,
    shrunk_covariance,
)
from mechprobe.causal.directions import Direction
from mechprobe.causal.places.sites import Site, SiteActs
from mechprobe.errors import DataError, ShapeError

WIDTH, RANK = 16, 6


def natural(n: int, seed: int = 0) -> Tensor:
    """Gaussian rows that vary in the first six axes and hardly at all in the others, away from the origin."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.tensor([1.0] * RANK + [0.01] * (WIDTH - RANK))
    return 5.0 + spread * torch.randn(n, WIDTH, generator=generator)


class ProjectingSae(nn.Module):
    """Reconstructs the first axes and drops the rest, which here are always about 5."""

    def __init__(self) -> None:
        super().__init__()
        self.W_dec = nn.Parameter(torch.eye(WIDTH)[:RANK])

    def encode(self, acts: Tensor) -> Tensor:
        return acts[:, :RANK] - 5.0

    def decode(self, feature_acts: Tensor) -> Tensor:
        return feature_acts @ self.W_dec + 5.0


def axis(index: int) -> Tensor:
    return torch.eye(WIDTH)[index]


def test_natural_rows_lie_beyond_with_the_stated_chance() -> None:
    manifolds = [fit_manifold(natural(2000, seed)) for seed in range(10)]
    fresh = natural(2000, 99)
    found = [manifold.compare(fresh) for manifold in manifolds]
    for name in ("mahalanobis_beyond", "residual_beyond", "norm_beyond"):
        share = np.mean([getattr(one, name) for one in found])
        assert BEYOND_CHANCE / 2 < share < 1.5 * BEYOND_CHANCE, name
    assert not any(one.is_off_manifold for one in found)


def test_a_move_inside_the_natural_spread_is_on_the_manifold() -> None:
    found = manifold_figures(natural(1000), natural(200, 1) + 0.3 * axis(0))
    assert not found.is_off_manifold
    assert found.mahalanobis_beyond < 0.05
    assert found.n == 200


def test_a_small_move_out_of_the_natural_subspace_is_flagged_though_rows_keep_their_length() -> (
    None
):
    found = manifold_figures(natural(1000), natural(200, 1) + 0.3 * axis(WIDTH - 1))
    assert found.residual_beyond == 1.0
    assert found.mahalanobis_beyond > 0.1, "shrinkage makes it blunter there than the residual"
    assert found.norm_beyond < 0.05
    assert found.is_off_manifold


@pytest.mark.parametrize("factor", [0.7, 1.4])
def test_rows_too_short_or_too_long_are_flagged(factor: float) -> None:
    assert manifold_figures(natural(1000), factor * natural(200, 1)).norm_beyond > 0.9


def test_what_an_sae_cannot_reconstruct_is_flagged() -> None:
    sae = ProjectingSae()
    manifold = fit_manifold(natural(1000), sae)
    assert manifold.compare(natural(200, 1) + 0.3 * axis(WIDTH - 1)).sae_error_beyond == 1.0
    assert manifold.compare(natural(200, 1) + 3.0 * axis(0)).sae_error_beyond < 0.05
    assert math.isnan(fit_manifold(natural(1000)).compare(natural(200, 1)).sae_error_beyond)


def test_shrinkage_is_that_of_ledoit_and_wolf() -> None:
    for n in (30, 500):
        rows = natural(n).double()
        wanted, _shrinkage = ledoit_wolf(rows.numpy())
        assert np.allclose(shrunk_covariance(rows).numpy(), wanted, atol=1e-8)


def test_rows_that_do_not_vary_still_have_a_manifold() -> None:
    same = torch.ones(300, WIDTH)
    manifold = fit_manifold(same)
    assert not manifold.compare(same).is_off_manifold
    assert manifold.compare(same + axis(0)).is_off_manifold


def test_edits_are_told_apart_from_the_rows_that_they_start_from() -> None:
    own, partner = natural(100, 1), natural(100, 2)
    acts = SiteActs(
        site=Site(hook_name="blocks.0.hook_out", position="span_last"),
        positions=torch.tensor([[3]] * 99 + [[-1]]),
        own=own[:, None],
        partner=partner[:, None],
    )
    direction = Direction(indicator="hide", name="made", vector=axis(0), gap=1.0)
    rows = manifold_rows(fit_manifold(natural(1000)), acts, direction, strengths=(1.0, 9.0))
    by_name = {str(row["operation"]): row for row in rows}
    assert list(by_name) == ["unedited", "whole_patch", "interchange", "steering 1", "steering 9"]
    assert all(row["n"] == 99 for row in rows), "a token that is not there is no row"
    assert not by_name["interchange"]["is_off_manifold"]
    assert by_name["steering 9"]["is_off_manifold"]


def test_bad_input_is_one_clear_error() -> None:
    with pytest.raises(DataError, match=r"199 natural activations.*at least 200"):
        fit_manifold(natural(199))
    broken = natural(300)
    broken[7, 0] = torch.nan
    with pytest.raises(DataError, match="1 of them not finite"):
        fit_manifold(broken)
    manifold = fit_manifold(natural(300))
    with pytest.raises(ShapeError, match="width 3 are compared with natural rows of width 16"):
        manifold.compare(torch.zeros(4, 3))
    with pytest.raises(ShapeError, match="0 edited rows"):
        manifold.compare(torch.zeros(0, WIDTH))
