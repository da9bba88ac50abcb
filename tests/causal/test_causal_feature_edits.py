"""Features of an SAE as interventions: a clamp moves an activation by its decoder row, an empty edit by no bit."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mechprobe.causal.edits.edited_rows import edit_at
from mechprobe.causal.edits.feature_edits import (
    ablate_features,
    clamp_features,
    feature_interchange_plan,
    feature_plan,
    scale_active_features,
    set_feature_at,
)
from mechprobe.causal.edits.intervene import intervene
from mechprobe.causal.edits.selection import Where
from mechprobe.causal.places.sites import Site, SiteActs
from mechprobe.errors import CheckpointError, ShapeError
from mechprobe.models.batches import TokenBatch
from mechprobe.models.hooks import EditContext
from mechprobe.models.subject import Subject
from mechprobe.transcripts.transcript import Message, Transcript
from tests.saes.made_sae import D_IN, D_SAE, MadeSae

HOOK = "blocks.0.hook_out"
LIVE = torch.randn(2, 4, D_IN, generator=torch.Generator().manual_seed(3))
LIVE[0, 1, 0] = -0.0
CONTEXT = EditContext(positions=torch.tensor([[0, 1, 2, 3], [-1, 0, 1, 2]]))
CHOSEN = torch.tensor([[1, 3], [0, -1]])
AT = [(0, 1, 0), (0, 3, 1), (1, 1, 0)]
SAE = MadeSae()


def features_of(acts: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return SAE.encode(acts)


@torch.no_grad()
def test_a_clamp_moves_the_chosen_tokens_by_their_decoder_row():
    for feature in range(D_SAE):
        edited = edit_at(HOOK, CHOSEN, clamp_features(SAE, [feature], 2.5)).apply(LIVE, CONTEXT)
        wanted = LIVE.clone()
        for case, column, _slot in AT:
            change = 2.5 - features_of(LIVE[case, column])[feature]
            wanted[case, column] += change * SAE.W_dec[feature]
        assert torch.allclose(edited, wanted, atol=1e-5)
        untouched = torch.ones(2, 4, dtype=torch.bool)
        untouched[[0, 0, 1], [1, 3, 1]] = False
        assert torch.equal(edited[untouched], LIVE[untouched])


@pytest.mark.parametrize(
    "operation",
    [
        clamp_features(SAE, [], 9.0),
        ablate_features(SAE, []),
        scale_active_features(SAE, range(D_SAE), 1.0),
    ],
    ids=["clamp", "ablate", "scale"],
)
@torch.no_grad()
def test_an_empty_edit_changes_no_bit(operation):
    edited = edit_at(HOOK, CHOSEN, operation).apply(LIVE, CONTEXT)
    assert torch.equal(edited.view(torch.int32), LIVE.view(torch.int32))


@torch.no_grad()
def test_ablating_and_scaling_move_active_features_only():
    before = features_of(LIVE[0, 1])
    active = int(before.argmax())
    inactive = int(before.argmin())
    assert before[inactive] == 0 < before[active]
    for operation, share in [
        (ablate_features(SAE, [active, inactive]), -1.0),
        (scale_active_features(SAE, [active, inactive], 3.0), 2.0),
    ]:
        edited = edit_at(HOOK, CHOSEN[:, :1], operation).apply(LIVE, CONTEXT)
        moved = edited[0, 1] - LIVE[0, 1]
        assert torch.allclose(moved, share * before[active] * SAE.W_dec[active], atol=1e-5)


@torch.no_grad()
def test_each_case_can_have_its_own_feature_and_values():
    features, values = torch.tensor([3, 7]), torch.tensor([[1.0, 2.0], [4.0, 0.0]])
    edited = set_feature_at(HOOK, CHOSEN, SAE, features, values).apply(LIVE, CONTEXT)
    for case, column, slot in AT:
        single = clamp_features(SAE, [int(features[case])], float(values[case, slot]))
        alone = edit_at(HOOK, CONTEXT.positions[case, column].reshape(1, 1), single)
        own = EditContext(positions=CONTEXT.positions[case : case + 1])
        wanted = alone.apply(LIVE[case : case + 1], own)
        assert torch.allclose(edited[case, column], wanted[0, column], atol=1e-6)
    same = set_feature_at(
        HOOK, CHOSEN[:, :1], SAE, features, features_of(LIVE)[[0, 1], [1, 1], features][:, None]
    ).apply(LIVE, CONTEXT)
    assert torch.equal(same.view(torch.int32), LIVE.view(torch.int32))


@torch.no_grad()
def test_a_plan_gives_each_condition_its_feature():
    own = torch.stack([LIVE[0, [1, 3]], LIVE[1, [1, 1]]])
    partner = torch.randn(2, 2, D_IN, generator=torch.Generator().manual_seed(8))
    acts = SiteActs(
        site=Site(hook_name=HOOK, position="span_all"), positions=CHOSEN, own=own, partner=partner
    )
    features = torch.tensor([2, 5, 11])
    plan = feature_interchange_plan(acts, SAE, features)
    wanted_values = features_of(partner)
    condition, case = torch.tensor([2, 0]), torch.tensor([1, 0])
    context = EditContext(positions=CONTEXT.positions[case])
    edited = plan(condition, case).apply(LIVE[case], context)
    value = wanted_values[1, 0, 11] - features_of(LIVE[1, 1])[11]
    assert torch.allclose(edited[0, 1], LIVE[1, 1] + value * SAE.W_dec[11], atol=1e-5)
    value = wanted_values[0, 1, 2] - features_of(LIVE[0, 3])[2]
    assert torch.allclose(edited[1, 3], LIVE[0, 3] + value * SAE.W_dec[2], atol=1e-5)
    given = feature_plan(acts, SAE, features, wanted_values[..., features].movedim(-1, 0))
    assert torch.equal(given(condition, case).apply(LIVE[case], context), edited)


def test_features_are_held_at_every_step_of_generation(tiny_llama: Path):
    subject = Subject.load(tiny_llama)
    torch.manual_seed(0)
    sae = MadeSae()
    for name, shape in {
        "W_enc": (32, 40),
        "W_dec": (40, 32),
        "b_enc": (40,),
        "b_dec": (32,),
    }.items():
        setattr(sae, name, torch.nn.Parameter(0.3 * torch.randn(*shape)))
    talk = Transcript(id="t", messages=(Message(role="user", content="plan hide", turn=1),))
    rendering = subject.render(talk)
    seen: list[torch.Tensor] = []
    operation = clamp_features(sae, [6], 4.0)

    def watched(acts: torch.Tensor, rows: object) -> torch.Tensor:
        edited = operation(acts, rows)
        moved = (4.0 - sae.encode(acts)[:, 6])[:, None] * sae.W_dec[6]
        seen.append((edited - acts - moved).abs().max())
        return edited

    with intervene(subject, HOOK, watched, Where(generated=True), [rendering]) as firings:
        subject.generate([rendering.token_ids.tolist()], max_new_tokens=5, temperature=0.0)
    assert (firings.passes, len(seen)) == (5, 5)
    assert firings.tokens == len(rendering.token_ids) + 4
    assert float(torch.stack(seen).max()) < 1e-5
    batch = TokenBatch.of([rendering.token_ids.tolist()], 0)
    with intervene(subject, HOOK, clamp_features(sae, [], 4.0), Where(), [rendering]) as firings:
        assert torch.equal(subject.run(batch), subject.run(batch))
        edited = subject.run(batch)
    assert firings.tokens == 0
    assert torch.equal(edited, subject.run(batch))


def test_features_that_the_sae_does_not_have_are_refused():
    for make in (
        lambda: clamp_features(SAE, [1, D_SAE], 0.0),
        lambda: scale_active_features(SAE, [-1], 0.0),
        lambda: set_feature_at(HOOK, CHOSEN, SAE, torch.tensor([0, D_SAE]), torch.ones(2, 2)),
    ):
        with pytest.raises(ShapeError, match=f"the SAE has 0 to {D_SAE - 1}"):
            make()


def test_numbers_and_widths_that_cannot_be_are_refused():
    with pytest.raises(ShapeError, match="value for the features is nan"):
        clamp_features(SAE, [1], float("nan"))
    with pytest.raises(ShapeError, match="factor for the features is inf"):
        scale_active_features(SAE, [1], float("inf"))
    wide = torch.ones(2, 4, D_IN + 1)
    with pytest.raises(ShapeError, match=f"reads {D_IN} numbers, the hook point has {D_IN + 1}"):
        edit_at(HOOK, CHOSEN, clamp_features(SAE, [1], 1.0)).apply(wide, CONTEXT)
    one = set_feature_at(HOOK, CHOSEN, SAE, torch.tensor([0, 1]), torch.ones(2, 2))
    with pytest.raises(ShapeError, match=f"has {D_IN} numbers, the hook point has {D_IN + 1}"):
        one.apply(wide, CONTEXT)
    with pytest.raises(CheckpointError, match="layer_norm"):
        set_feature_at(
            HOOK,
            CHOSEN,
            MadeSae(normalize_activations="layer_norm"),
            torch.tensor([0, 1]),
            torch.ones(2, 2),
        )


@torch.no_grad()
def test_real_inputs_in_half_precision_stay_half():
    rng = np.random.default_rng(0)
    half = torch.tensor(rng.normal(size=(2, 4, D_IN)), dtype=torch.float32)

    class Upcasting(MadeSae):
        """Encodes in its own precision, as sae-lens does."""

        def encode(self, acts: torch.Tensor) -> torch.Tensor:
            return super().encode(acts.float())

    sae = Upcasting()
    live = half.bfloat16()
    for edit in (
        edit_at(HOOK, CHOSEN, clamp_features(sae, [3], 2.0)),
        set_feature_at(HOOK, CHOSEN, sae, torch.tensor([3, 3]), torch.full((2, 2), 2.0)),
    ):
        edited = edit.apply(live, CONTEXT)
        assert edited.dtype == torch.bfloat16
        assert not torch.equal(edited, live)
