"""Heads patched many to a batch are heads patched one by one by TransformerLens."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mechprobe.causal.cases import render_pairs
from mechprobe.causal.places.heads import HEAD_COLUMNS, head_map, head_parts
from mechprobe.causal.places.parts import part_map
from mechprobe.causal.places.sites import Site, SiteActs
from mechprobe.causal.swaps import swap_plan
from mechprobe.errors import HookError, ShapeError
from mechprobe.models.batches import TokenBatch
from mechprobe.models.head_patching import head_hooks, patch_each_head
from mechprobe.models.subject import Subject
from tests.models.tiny import save_tiny

OWN = [1, 20, 31, 42, 53, 64, 75, 86]
PARTNER = [1, 20, 90, 43, 53, 65, 75, 86]


@pytest.fixture(scope="module")
def rendered(planted):
    wanted = ("lie", "hide", "boast")
    pairs = [p for p in planted.pairs if p.split == "select" and p.indicator in wanted]
    return render_pairs(planted.subject, pairs)


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma3", "gpt2"])
@pytest.mark.parametrize("tokens", [[2, 3], [7]])
def test_batched_heads_equal_transformer_lens(kind: str, tokens: list[int], tmp_path: Path):
    subject = Subject.load(save_tiny(kind, tmp_path / kind))
    for hook in head_hooks(subject):
        (own,), (partner,) = (
            subject.capture(TokenBatch.of([ids], subject.pad_id), [hook.hook_name])[hook.hook_name]
            for ids in (OWN, PARTNER)
        )
        acts = SiteActs(
            site=Site(hook_name=hook.hook_name, position="span_all"),
            positions=torch.tensor([tokens]),
            own=own[None, tokens],
            partner=partner[None, tokens],
        )
        heads = torch.arange(hook.n_heads)
        case = torch.zeros(hook.n_heads, dtype=torch.long)
        edit = swap_plan(acts, head_parts(acts, hook.n_heads))(heads, case)
        rows = TokenBatch.of([OWN] * hook.n_heads, subject.pad_id)
        batched = subject.run(rows, edits=[edit])[:, -1, 5]
        reference = patch_each_head(
            subject,
            hook.layer,
            token_ids=OWN,
            partner_ids=PARTNER,
            tokens=tokens,
            metric=lambda logits: float(logits[0, 5]),
        )
        unedited = subject.run(TokenBatch.of([OWN], subject.pad_id))[0, -1, 5]
        torch.testing.assert_close(batched, reference, atol=1e-4, rtol=0)
        # At the last layer only the last token is read.
        does_something = hook.layer == 0 or tokens == [7]
        assert bool(((reference - unedited).abs() > 1e-4).any()) == does_something


def test_both_engines_give_the_same_map(planted, rendered):
    options = {"positions": ("span_all", "decision"), "n_boot": 50}
    own = head_map(planted.subject, rendered, **options)
    vendor = head_map(planted.subject, rendered, engine="transformer_lens", **options)
    keys = ["layer", "head", "hook_name", "position", "outcome", "indicator", "n"]
    assert own[keys].equals(vendor[keys])
    np.testing.assert_allclose(own["effect"], vendor["effect"], atol=1e-4)


def test_where_a_layer_has_one_head_the_head_is_the_layer(planted, rendered):
    heads = head_map(planted.subject, rendered, positions=("decision",), n_boot=50)
    parts = part_map(planted.subject, rendered, positions=("decision",), n_boot=50)
    attention = parts[parts["part"] == "attention"]
    assert tuple(heads.columns) == HEAD_COLUMNS
    both = heads.merge(attention, on=["layer", "position", "outcome", "indicator", "n"])
    assert len(both) == len(heads)
    np.testing.assert_allclose(both["effect_x"], both["effect_y"], atol=1e-4)
    lie = heads[(heads["indicator"] == "lie") & (heads["layer"] == 1)]
    assert lie["effect"].item() == pytest.approx(1, abs=0.05)


def test_runs_of_unequal_length_are_refused(tiny_llama: Path):
    subject = Subject.load(tiny_llama)
    with pytest.raises(ShapeError, match="8 tokens and its partner 7"):
        patch_each_head(
            subject, 0, token_ids=OWN, partner_ids=OWN[1:], tokens=[1], metric=lambda _: 0.0
        )


def test_a_model_whose_heads_cannot_be_told_apart_is_refused(tiny_llama: Path, monkeypatch):
    subject = Subject.load(tiny_llama)
    monkeypatch.setattr(subject.bridge.cfg, "n_heads", 5)
    with pytest.raises(HookError, match="5 heads divide"):
        head_hooks(subject)
