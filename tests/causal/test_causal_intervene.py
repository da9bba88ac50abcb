"""An intervention on a model: at the selected tokens, in every pass, in order, and gone when it is over."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mechprobe.causal.edits.intervene import chosen_tokens, intervene, selected_edit
from mechprobe.causal.edits.operations import (
    interchange,
    mean_ablation,
    resample_ablation,
    set_value,
    steer,
    steer_keeping_norm,
    where_probe_fires,
    within,
    zero_ablation,
)
from mechprobe.causal.edits.rotations import plane_of, rotate_by, rotate_to, turn_to
from mechprobe.causal.edits.selection import EVERY_TOKEN, NEW_TOKENS, InSpans, Where
from mechprobe.errors import HookError, LabelError, ShapeError
from mechprobe.models.batches import TokenBatch
from mechprobe.models.hooks import EditContext
from mechprobe.models.rendering import Rendering
from mechprobe.models.subject import Subject
from mechprobe.models.windows import Window
from mechprobe.probes.linear import LinearProbe
from mechprobe.transcripts.transcript import Message, Span, Transcript

HOOK, LATER, D = "blocks.0.hook_out", "blocks.1.hook_out", 32
GENERATOR = torch.Generator().manual_seed(0)
DIRECTION = torch.nn.functional.normalize(torch.randn(D, generator=GENERATOR), dim=0)
OTHER = torch.nn.functional.normalize(torch.randn(D, generator=GENERATOR), dim=0)
POOL = torch.randn(20, D, generator=GENERATOR)
PLANE = plane_of(DIRECTION, OTHER)
PROBE = LinearProbe(kind="given", weight=OTHER.numpy(), bias=0.0)
ASSISTANT = Where(roles=("assistant",), generated=True)


def talk(name: str, user: str, reasoning: str) -> Transcript:
    return Transcript(
        id=name,
        messages=(
            Message(role="user", content=user, turn=1),
            Message(role="assistant", reasoning=reasoning, content="done", turn=1),
        ),
        spans=(Span(indicator="hide", message=1, section="reasoning", start=0, end=6),),
    )


TALKS = [
    talk("a", "why", "i plan to hide"),
    talk("b", "hide the records now", "i plan"),
    talk("c", "why now , then ?", "i hide the records then the task is done"),
]


@pytest.fixture(scope="module")
def subject(tiny_llama: Path) -> Subject:
    return Subject.load(tiny_llama)


@pytest.fixture(scope="module")
def renderings(subject: Subject) -> list[Rendering]:
    return [subject.render(transcript) for transcript in TALKS]


def ids(renderings: list[Rendering]) -> list[list[int]]:
    return [rendering.token_ids.tolist() for rendering in renderings]


def selected(selector, renderings: list[Rendering]) -> list[np.ndarray]:
    return [
        selector.mask(rendering, spans=transcript.spans)
        for rendering, transcript in zip(renderings, TALKS, strict=True)
    ]


OPERATIONS = {
    "steer": steer(DIRECTION, 3.0),
    "keeping norm": steer_keeping_norm(DIRECTION, 3.0),
    "set": set_value(DIRECTION, 2.0),
    "mean": mean_ablation(POOL.mean(0)),
    "zero": zero_ablation(),
    "within": within(PLANE, mean_ablation(POOL.mean(0))),
    "rotate to": rotate_to(PLANE, 70.0),
    "rotate by": rotate_by(PLANE, 70.0),
    "turn": turn_to(DIRECTION, 30.0),
    "conditional": where_probe_fires(steer(DIRECTION, 3.0), PROBE),
}


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_padded_batch_is_edited_as_single_sequences_are(
    subject: Subject, renderings: list[Rendering], name: str, side
):
    operation = OPERATIONS[name]
    batch = TokenBatch.of(ids(renderings), subject.pad_id, side=side)
    together = subject.run(batch, edits=[selected_edit(HOOK, operation, ASSISTANT, renderings)])
    clean = subject.run(batch)
    for row, rendering in enumerate(renderings):
        edit = selected_edit(HOOK, operation, ASSISTANT, [rendering])
        alone = subject.run(TokenBatch.of(ids([rendering]), 0), edits=[edit])[0]
        held = batch.mask[row]
        assert torch.allclose(together[row, held], alone, atol=1e-5)
        assert not torch.allclose(together[row, held], clean[row, held], atol=1e-3)


def test_draws_and_partners_belong_to_the_case_and_not_to_its_place_in_a_batch(
    subject: Subject, renderings: list[Rendering]
):
    selector = InSpans()
    spans = [transcript.spans for transcript in TALKS]
    counts = [int(mask.sum()) for mask in selected(selector, renderings)]
    partner = torch.randn(3, max(counts), D, generator=torch.Generator().manual_seed(1))
    batch = TokenBatch.of(ids(renderings), 0)
    for together, alone in [
        (resample_ablation(POOL, [5, 6, 7]), lambda i: resample_ablation(POOL, [5 + i])),
        (interchange(partner), lambda i: interchange(partner[i : i + 1])),
    ]:
        edit = selected_edit(HOOK, together, selector, renderings, spans=spans)
        all_logits = subject.run(batch, edits=[edit])
        for i, rendering in enumerate(renderings):
            one = selected_edit(HOOK, alone(i), selector, [rendering], spans=[spans[i]])
            logits = subject.run(TokenBatch.of(ids([rendering]), 0), edits=[one])[0]
            assert torch.allclose(all_logits[i, : len(logits)], logits, atol=1e-5)


def test_only_the_selected_tokens_change(subject: Subject, renderings: list[Rendering]):
    selector = InSpans().window(after=1)
    spans = [transcript.spans for transcript in TALKS]
    batch = TokenBatch.of(ids(renderings), 0)
    clean = subject.capture(batch, [HOOK])[HOOK]
    with intervene(
        subject, HOOK, steer(DIRECTION, 3.0), selector, renderings, spans=spans
    ) as firings:
        edited = subject.capture(batch, [HOOK])[HOOK]
    masks = selected(selector, renderings)
    for row, mask in enumerate(masks):
        moved = (edited[row, : len(mask)] - clean[row, : len(mask)]).norm(dim=-1)
        assert torch.allclose(moved, torch.tensor(mask) * 3.0, atol=1e-5)
    assert firings.passes == 1
    assert firings.tokens == sum(mask.sum() for mask in masks)


STEPS = 6


def test_in_generation_it_acts_at_every_step_as_in_one_pass_over_the_text(
    subject: Subject, renderings: list[Rendering]
):
    operation = steer(DIRECTION, 2.0)
    with intervene(subject, HOOK, operation, ASSISTANT, renderings) as firings:
        written = subject.generate(ids(renderings), max_new_tokens=STEPS, temperature=0.0)
    assert firings.passes == STEPS
    # The token that is written last is never read.
    in_prompts = sum(mask.sum() for mask in selected(ASSISTANT, renderings))
    assert firings.tokens == in_prompts + 3 * (STEPS - 1)
    for prompt, new, rendering in zip(ids(renderings), written, renderings, strict=True):
        edit = selected_edit(HOOK, operation, ASSISTANT, [rendering])
        logits = subject.run(TokenBatch.of([prompt + new[:-1]], 0), edits=[edit])
        assert logits[0, len(prompt) - 1 :].argmax(-1).tolist() == new


def test_new_tokens_alone_can_be_edited(subject: Subject, renderings: list[Rendering]):
    with intervene(subject, HOOK, zero_ablation(), NEW_TOKENS, renderings) as firings:
        subject.generate(ids(renderings), max_new_tokens=STEPS, temperature=0.0)
    assert (firings.passes, firings.tokens) == (STEPS - 1, 3 * (STEPS - 1))


def test_a_prompt_selection_acts_on_the_prompt_once(subject: Subject, renderings: list[Rendering]):
    with intervene(subject, HOOK, zero_ablation(), Where(), renderings) as firings:
        subject.generate(ids(renderings), max_new_tokens=STEPS, temperature=0.0)
    assert (firings.passes, firings.tokens) == (1, sum(len(r.token_ids) for r in renderings))


def test_a_text_that_continues_a_cut_rendering_counts_as_new(
    subject: Subject, renderings: list[Rendering]
):
    cut = [len(rendering.token_ids) - 4 for rendering in renderings]
    prompts = [tokens[:n] for tokens, n in zip(ids(renderings), cut, strict=True)]
    with intervene(subject, HOOK, zero_ablation(), NEW_TOKENS, renderings, n_prompt=cut) as firings:
        subject.generate(prompts, max_new_tokens=STEPS, temperature=0.0)
    assert (firings.passes, firings.tokens) == (STEPS - 1, 3 * (STEPS - 1))


def test_batched_generation_is_single_generation(subject: Subject, renderings: list[Rendering]):
    for name in ("steer", "within", "rotate to", "conditional"):
        operation = OPERATIONS[name]
        with intervene(subject, HOOK, operation, ASSISTANT, renderings):
            together = subject.generate(ids(renderings), max_new_tokens=4, seed=[1, 2, 3])
        for i, rendering in enumerate(renderings):
            with intervene(subject, HOOK, operation, ASSISTANT, [rendering]):
                alone = subject.generate(ids([rendering]), max_new_tokens=4, seed=[1 + i])
            assert alone == [together[i]]


def test_edits_compose_in_the_order_in_which_they_are_entered(
    subject: Subject, renderings: list[Rendering]
):
    batch = TokenBatch.of(ids(renderings), 0)
    clean = subject.capture(batch, [HOOK])[HOOK]

    def acts(*operations) -> torch.Tensor:
        edits = [selected_edit(HOOK, op, EVERY_TOKEN, renderings) for op in operations]
        return subject.capture(batch, [HOOK], edits=edits)[HOOK]

    add, hold = steer(DIRECTION, 3.0), set_value(DIRECTION, 1.0)
    held = batch.mask
    assert torch.allclose((acts(add, hold) @ DIRECTION)[held], torch.ones(()), atol=1e-5)
    assert torch.allclose((acts(hold, add) @ DIRECTION)[held], torch.tensor(4.0), atol=1e-5)
    with (
        intervene(subject, HOOK, hold, EVERY_TOKEN, renderings),
        intervene(subject, HOOK, add, EVERY_TOKEN, renderings),
    ):
        nested = subject.capture(batch, [HOOK])[HOOK]
    assert torch.equal(nested, acts(hold, add))
    there_and_back = acts(steer(DIRECTION, 3.0), steer(DIRECTION, -3.0))
    assert torch.allclose(there_and_back[held], clean[held], atol=1e-5)


def test_two_hook_points_can_be_edited_together(subject: Subject, renderings: list[Rendering]):
    batch = TokenBatch.of(ids(renderings), 0)
    with (
        intervene(subject, HOOK, steer(DIRECTION, 2.0), ASSISTANT, renderings) as first,
        intervene(subject, LATER, steer(OTHER, 2.0), ASSISTANT, renderings) as second,
    ):
        both = subject.capture(batch, [HOOK, LATER])
    only_first = subject.capture(
        batch, [LATER], edits=[selected_edit(HOOK, steer(DIRECTION, 2.0), ASSISTANT, renderings)]
    )
    mask = selected(ASSISTANT, renderings)[0]
    moved = (both[LATER] - only_first[LATER])[0, : len(mask)]
    assert torch.allclose(moved, torch.tensor(mask)[:, None] * 2.0 * OTHER, atol=1e-5)
    assert (first.passes, second.passes) == (1, 1)


@pytest.mark.parametrize(
    "hook_name",
    [
        "blocks.0.attn.hook_out",
        "blocks.1.mlp.hook_out",
        "blocks.1.hook_in",
        "blocks.0.hook_resid_post",
    ],
)
def test_any_hook_point_of_the_stream_can_be_edited(
    subject: Subject, renderings: list[Rendering], hook_name: str
):
    batch = TokenBatch.of(ids(renderings), 0)
    with intervene(subject, hook_name, steer(DIRECTION, 2.0), ASSISTANT, renderings) as firings:
        edited = subject.run(batch)
    assert firings.passes == 1
    assert not torch.allclose(edited, subject.run(batch), atol=1e-3)


def test_the_model_is_as_before_after_an_error_in_the_block(
    subject: Subject, renderings: list[Rendering]
):
    batch = TokenBatch.of(ids(renderings), 0)
    clean = subject.run(batch)
    hooks = [len(m._forward_hooks) for m in subject.bridge.modules()]
    with (
        pytest.raises(RuntimeError, match="mine"),
        intervene(subject, HOOK, steer(DIRECTION, 3.0), ASSISTANT, renderings),
    ):
        subject.run(batch)
        raise RuntimeError("mine")
    with (
        pytest.raises(ShapeError),
        intervene(subject, HOOK, steer(torch.ones(D - 1), 1.0), ASSISTANT, renderings),
    ):
        subject.run(batch)
    assert torch.equal(subject.run(batch), clean)
    assert [len(m._forward_hooks) for m in subject.bridge.modules()] == hooks


def test_a_conditional_edit_acts_only_where_its_probe_fires(
    subject: Subject, renderings: list[Rendering]
):
    batch = TokenBatch.of(ids(renderings), 0)
    clean = subject.capture(batch, [HOOK])[HOOK]
    fires = (clean @ OTHER > 0.2) & batch.mask
    masks = torch.zeros_like(batch.mask)
    for row, mask in enumerate(selected(ASSISTANT, renderings)):
        masks[row, : len(mask)] = torch.tensor(mask)
    gated = where_probe_fires(steer(DIRECTION, 3.0), PROBE, threshold=0.2)
    with intervene(subject, HOOK, gated, ASSISTANT, renderings) as firings:
        edited = subject.capture(batch, [HOOK])[HOOK]
    assert 0 < int((fires & masks).sum()) < int(masks.sum())
    assert torch.equal((edited != clean).any(-1), fires & masks)
    assert firings.tokens == int((fires & masks).sum())


def test_a_probe_that_never_fires_leaves_every_bit_and_says_so(
    subject: Subject, renderings: list[Rendering]
):
    batch = TokenBatch.of(ids(renderings), 0)
    never = where_probe_fires(steer(DIRECTION, 3.0), PROBE, threshold=1e6)
    with intervene(subject, HOOK, never, ASSISTANT, renderings) as firings:
        edited = subject.run(batch)
    assert (firings.passes, firings.tokens) == (1, 0)
    assert torch.equal(edited, subject.run(batch))


def test_what_cannot_act_is_refused(subject: Subject, renderings: list[Rendering]):
    add = steer(DIRECTION, 1.0)
    batch = TokenBatch.of(ids(renderings), 0)
    with (
        pytest.raises(HookError, match=r"blocks\.0\.hook_ou"),
        intervene(subject, "blocks.0.hook_ou", add, ASSISTANT, renderings),
    ):
        pass
    with (
        pytest.raises(HookError, match="never fired"),
        intervene(subject, HOOK, add, ASSISTANT, renderings),
    ):
        pass
    with (
        pytest.raises(HookError, match="never fired"),
        intervene(subject, HOOK, add, NEW_TOKENS, renderings),
    ):
        subject.run(batch)
    with (
        pytest.raises(LabelError, match="selects none"),
        intervene(subject, HOOK, add, Where(roles=("tool",)), renderings),
    ):
        pass
    with (
        pytest.raises(ShapeError, match="2 texts, the batch has 3"),
        intervene(subject, HOOK, add, ASSISTANT, renderings[:2]),
    ):
        subject.run(batch)
    with pytest.raises(ShapeError, match="spans is given for 1 texts of 3"):
        selected_edit(HOOK, add, InSpans(), renderings, spans=[TALKS[0].spans])


def test_a_text_that_is_read_in_windows_is_refused(tiny_llama: Path):
    windowed = Subject.load(tiny_llama, window=8)
    with pytest.raises(ShapeError, match="windows"):
        selected_edit(HOOK, zero_ablation(), Where(), [windowed.render(TALKS[0])])


def test_special_tokens_round_a_window_are_never_selected(renderings: list[Rendering]):
    rendering = renderings[0]
    n = len(rendering.token_ids)
    window = Window(
        token_ids=np.concatenate([[1], rendering.token_ids, [2]]),
        tokens=np.concatenate([[-1], np.arange(n), [-1]]),
    )
    framed = replace(rendering, windows=(window,))
    choose = chosen_tokens(ASSISTANT, [framed])
    rows = choose(EditContext(positions=torch.arange(n + 2)[None]))
    wanted = np.flatnonzero(ASSISTANT.mask(rendering)) + 1
    assert rows.position.tolist() == wanted.tolist()
    assert rows.slot.tolist() == list(range(len(wanted)))
