"""After erasure no linear probe reads the concept, and no smaller affine change would do."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import roc_auc_score

from mechprobe.causal.edits.edited_rows import edit_at
from mechprobe.causal.edits.erasure import ConceptEraser, fit_eraser
from mechprobe.errors import DataError, ShapeError
from mechprobe.models.hooks import EditContext

N, D = 3000, 12


@pytest.fixture(scope="module")
def rows() -> tuple[torch.Tensor, torch.Tensor]:
    """A concept written along one direction, and told by another one that correlates with it."""
    rng = np.random.default_rng(0)
    held = rng.random(N) < 0.4
    mixing = rng.normal(size=(D, D))
    acts = rng.normal(size=(N, D)) @ mixing + 2.0 * held[:, None] * rng.normal(size=D)
    return torch.tensor(acts, dtype=torch.float32), torch.tensor(held)


@pytest.fixture(scope="module")
def eraser(rows) -> ConceptEraser:
    return fit_eraser(*rows)


def auroc(acts: torch.Tensor, held: torch.Tensor) -> float:
    """The best that a linear probe does on the rows that it was fitted on."""
    probe = LogisticRegression(C=1e4, max_iter=2000).fit(acts.numpy(), held.numpy())
    return float(roc_auc_score(held.numpy(), probe.decision_function(acts.numpy())))


def test_no_linear_probe_beats_chance_after_erasure(rows, eraser: ConceptEraser):
    acts, held = rows
    assert auroc(acts, held) > 0.8
    # What is left are third moments, which a logistic fit can follow a little.
    assert abs(auroc(eraser(acts), held) - 0.5) < 0.01
    r2 = (
        LinearRegression()
        .fit(eraser(acts).numpy(), held.numpy())
        .score(eraser(acts).numpy(), held.numpy())
    )
    assert r2 < 1e-5


def test_taking_one_direction_out_leaves_the_concept_readable(rows, eraser: ConceptEraser):
    acts, held = rows
    unit = torch.nn.functional.normalize(
        torch.tensor(
            LogisticRegression(C=1e4, max_iter=2000).fit(acts.numpy(), held.numpy()).coef_[0],
            dtype=torch.float32,
        ),
        dim=0,
    )
    projected = acts - (acts @ unit)[:, None] * unit
    assert auroc(projected, held) > auroc(eraser(acts), held) + 0.1


def test_it_holds_on_rows_that_were_not_fitted_on(rows):
    acts, held = rows
    eraser = fit_eraser(acts[:2000], held[:2000])
    probe = LogisticRegression(C=1.0, max_iter=2000).fit(
        eraser(acts[:2000]).numpy(), held[:2000].numpy()
    )
    scores = probe.decision_function(eraser(acts[2000:]).numpy())
    assert abs(roc_auc_score(held[2000:].numpy(), scores) - 0.5) < 0.06


def test_it_is_the_smallest_affine_change_that_does(rows, eraser: ConceptEraser):
    """Any other projection with the same kernel condition moves the activations further, in every metric."""
    acts, held = rows
    x = acts.double() - acts.double().mean(0)
    covariance = x.T @ x / N
    cross = x.T @ (held.double() - held.double().mean()) / N
    own = float((eraser(acts).double() - acts.double()).pow(2).sum(-1).mean())
    # (I - c w'/(w'c)) takes the covariance c with the labels out, whatever w is; LEACE has w = inverse(covariance) c.
    generator = torch.Generator().manual_seed(0)
    best = torch.linalg.solve(covariance, cross)
    others = [
        cross,
        *(best + 0.1 * best.norm() * torch.randn(D, generator=generator) for _ in range(20)),
    ]
    for weight in others:
        moved = torch.outer(x @ weight, cross / (weight @ cross))
        assert (
            float(((x - moved).T @ (held.double() - held.double().mean())).abs().max()) < 1e-6 * N
        )
        assert float(moved.pow(2).sum(-1).mean()) > own
    closed = torch.outer(x @ best, cross / (best @ cross))
    assert float(closed.pow(2).sum(-1).mean()) == pytest.approx(own, rel=1e-4)
    assert torch.allclose(eraser(acts).double(), acts.double() - closed, atol=1e-4)


def test_orth_erases_too_and_moves_more(rows, eraser: ConceptEraser):
    acts, held = rows
    orth = fit_eraser(acts, held, method="orth")
    assert abs(auroc(orth(acts), held) - 0.5) < 0.01
    assert (orth(acts) - acts).pow(2).sum() > (eraser(acts) - acts).pow(2).sum()


def test_erasing_twice_is_erasing_once_and_the_mean_stays(rows, eraser: ConceptEraser):
    acts, _held = rows
    once = eraser(acts)
    assert torch.allclose(eraser(once), once, atol=1e-4)
    assert torch.allclose(once.mean(0), acts.mean(0), atol=1e-4)


def test_classes_are_erased_in_one_dimension_fewer_than_there_are():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 4, N)
    acts = torch.tensor(
        rng.normal(size=(N, D)) + rng.normal(size=(4, D))[labels], dtype=torch.float32
    )
    eraser = fit_eraser(acts, torch.tensor(labels))
    assert eraser.rank == 3
    probe = LogisticRegression(max_iter=2000).fit(eraser(acts).numpy(), labels)
    assert (probe.predict(eraser(acts).numpy()) == labels).mean() < 0.30
    assert fit_eraser(acts, torch.tensor(labels) == 2).rank == 1


def test_numbers_are_erased_as_classes_are():
    rng = np.random.default_rng(2)
    concept = torch.tensor(rng.normal(size=(N, 2)), dtype=torch.float32)
    acts = torch.tensor(rng.normal(size=(N, D)), dtype=torch.float32)
    acts = acts + concept @ torch.tensor(rng.normal(size=(2, D)), dtype=torch.float32)
    erased = fit_eraser(acts, concept)(acts)
    assert (
        LinearRegression()
        .fit(erased.numpy(), concept.numpy())
        .score(erased.numpy(), concept.numpy())
        < 1e-5
    )


def test_a_large_coordinate_of_real_residual_streams_does_not_hurt_it(rows):
    acts, held = rows
    massive = acts.clone()
    massive[:, 0] = massive[:, 0] + 3000.0
    massive[:, 1] *= 100.0
    erased = fit_eraser(massive, held)(massive)
    centred = (erased - erased.mean(0)) / erased.std(0).clamp(min=1e-6)
    gap = centred[held].mean(0) - centred[~held].mean(0)
    assert float(gap.abs().max()) < 5e-3


def test_few_rows_of_many_dimensions_are_erased_on_themselves():
    rng = np.random.default_rng(3)
    held = torch.tensor(np.arange(20) < 10)
    acts = torch.tensor(rng.normal(size=(20, 50)) + held.numpy()[:, None], dtype=torch.float32)
    for shrinkage in (False, True):
        erased = fit_eraser(acts, held, shrinkage=shrinkage)(acts)
        assert float((erased[held].mean(0) - erased[~held].mean(0)).abs().max()) < 1e-3


def test_it_is_an_operation_on_chosen_tokens(rows, eraser: ConceptEraser):
    live = rows[0][:8].reshape(2, 4, D)
    context = EditContext(positions=torch.arange(4).expand(2, -1))
    edited = edit_at("blocks.0.hook_out", torch.tensor([[1], [3]]), eraser).apply(live, context)
    assert torch.allclose(edited[0, 1], eraser(live[0, 1:2])[0])
    assert torch.allclose(edited[1, 3], eraser(live[1, 3:4])[0])
    assert torch.equal(edited[0, [0, 2, 3]], live[0, [0, 2, 3]])


def test_what_cannot_be_fitted_is_refused(rows, eraser: ConceptEraser):
    acts, held = rows
    with pytest.raises(DataError, match="labels of 3000 activations are the same"):
        fit_eraser(acts, torch.ones(N, dtype=torch.bool))
    with pytest.raises(ShapeError, match="3000 activations and 10 labels"):
        fit_eraser(acts, held[:10])
    broken = acts.clone()
    broken[3, 4] = float("nan")
    with pytest.raises(ShapeError, match="NaN"):
        fit_eraser(broken, held)
    with pytest.raises(ShapeError, match=f"has {D} numbers, the hook point has 5"):
        eraser(acts[:, :5])
