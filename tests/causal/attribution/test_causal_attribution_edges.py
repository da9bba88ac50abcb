"""Edges between features: the slope of small changes, and the exact loss without the upstream feature."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mechprobe.causal.attribution.edges import ERROR, SaeAt, feature_edges
from mechprobe.causal.attribution.runs import AskedTokens
from mechprobe.errors import CheckpointError, ConfigError, HookError
from mechprobe.models.batches import TokenBatch
from mechprobe.models.hooks import Edit
from mechprobe.models.subject import Subject
from tests.causal.attribution.made import HOOK, IDS, LATER, made_runs, random_sae

UP = SaeAt(hook_name=HOOK, sae=random_sae())
DOWN = SaeAt(hook_name=LATER, sae=random_sae(1, LATER))


@pytest.fixture(scope="module")
def subject(tiny_llama: Path) -> Subject:
    return Subject.load(tiny_llama)


def active_below(subject: Subject) -> int:
    """A downstream feature that is active somewhere."""
    return int(downstream(subject).sum((0, 1)).argmax())


def downstream(subject: Subject, change: torch.Tensor | None = None) -> torch.Tensor:
    """Downstream features of the first run's explained tokens, the upstream activations changed."""
    batch = TokenBatch.of([IDS[0]], subject.pad_id)

    def add(acts: torch.Tensor, _where: object) -> torch.Tensor:
        acts = acts.clone()
        acts[0, 1:3] += 0 if change is None else change
        return acts

    edits = [Edit(hook_name=HOOK, apply=add)]
    acts = subject.capture(batch, [LATER], edits=edits)[LATER]
    with torch.no_grad():
        return DOWN.sae.encode(acts[:, 1:3])


def first_run() -> AskedTokens:
    runs = made_runs()
    return AskedTokens(
        ids=runs.ids[:1],
        positions=runs.positions[:1],
        spans=runs.spans[:1],
        span_names=runs.span_names,
        clusters=runs.clusters[:1],
    )


def test_an_edge_is_the_slope_and_its_check_is_the_ablation(subject: Subject) -> None:
    feature = active_below(subject)
    found = feature_edges(subject, first_run(), UP, DOWN, [feature], m=3)
    acts = subject.capture(TokenBatch.of([IDS[0]], subject.pad_id), [HOOK])[HOOK][0, 1:3]
    up = UP.sae.encode(acts)
    rows = found.table[found.table["kind"] != ERROR]
    assert len(rows) == 6
    for row in rows.itertuples():
        brought = up[:, int(row.upstream), None] * UP.sae.W_dec[int(row.upstream)]
        size = 1e-3
        high, low = (
            downstream(subject, sign * size * brought)[..., feature].sum() for sign in (1, -1)
        )
        assert row.linear == pytest.approx(float(high - low) / (2 * size), rel=0.03, abs=2e-3)
        lost = (downstream(subject) - downstream(subject, -brought))[..., feature].sum()
        assert row.exact == pytest.approx(float(lost), abs=1e-4)
    error = found.table[found.table["kind"] == ERROR].iloc[0]
    assert np.isnan(error["exact"]) and abs(error["linear"]) > 0
    assert "6 edges checked" in found.line()


def test_edges_lead_from_a_hook_point_to_a_later_one(subject: Subject) -> None:
    with pytest.raises(HookError, match="does not depend on the activations"):
        feature_edges(subject, made_runs(), DOWN, UP, [0])
    with pytest.raises(ConfigError, match="both SAEs stand at"):
        feature_edges(subject, made_runs(), UP, UP, [0])
    with pytest.raises(ConfigError, match="downstream feature 99 does not exist"):
        feature_edges(subject, made_runs(), UP, DOWN, [99])
    with pytest.raises(CheckpointError, match="trained at"):
        other = SaeAt(hook_name=LATER, sae=random_sae())
        feature_edges(subject, made_runs(), UP, other, [0])
