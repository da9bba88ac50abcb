"""Shared runs give what whole runs give, compute less, and refuse what they would lose."""

from pathlib import Path

import pytest
import torch

from mechprobe.errors import HookError, ModelError, ShapeError
from mechprobe.models.batches import TokenBatch
from mechprobe.models.clean_start import align
from mechprobe.models.hooks import Edit, EditContext
from mechprobe.models.repeated_cache import RepeatedLayer
from mechprobe.models.subject import Subject
from tests.models.tiny import save_tiny

CAUSAL = ("llama", "qwen3", "gpt2", "gemma3")
SEQUENCES = [[5, 9, 30, 31, 7, 12, 44, 8], [8, 40, 3], [11, 200, 45, 46, 9, 61, 9, 9, 70, 9, 9, 10]]
FIRST = [3, 0, 8]
CASE = torch.tensor([0, 0, 1, 2, 2, 1, 0, 2])
AT = torch.tensor([[3, 4], [7, -1], [2, -1], [8, 11], [9, 10], [0, 1], [3, 7], [11, -1]])
"""Edited tokens of each run; -1 fills up."""
HOOKS = {
    "hook_embed": 0,
    "blocks.0.mlp.hook_post": 0,
    "blocks.0.hook_out": 1,
    "blocks.1.attn.hook_out": 1,
    "blocks.1.hook_out": 2,
}
"""Hook point -> blocks that runs edited there share."""


@pytest.fixture(scope="module")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Subject]:
    kinds = (*CAUSAL, "bert")
    return {kind: Subject.load(save_tiny(kind, tmp_path_factory.mktemp(kind))) for kind in kinds}


@pytest.fixture
def subject(subjects: dict[str, Subject]) -> Subject:
    return subjects["llama"]


def adding(hook_name: str, width: int, at: torch.Tensor = AT, scale: float = 2.0) -> Edit:
    """Adds another vector to the chosen tokens of each run."""
    vectors = scale * torch.randn(len(at), width, generator=torch.Generator().manual_seed(1))

    def apply(acts: torch.Tensor, where: EditContext) -> torch.Tensor:
        is_chosen = (at[:, :, None] == where.positions[:, None]) & (at[:, :, None] >= 0)
        return torch.where(is_chosen.any(1)[..., None], acts + vectors[:, None].to(acts), acts)

    return Edit(hook_name=hook_name, apply=apply)


def whole_runs(subject: Subject, edits: list[Edit], case: torch.Tensor = CASE) -> torch.Tensor:
    rows = [SEQUENCES[i] for i in case.tolist()]
    ends = torch.tensor([len(row) - 1 for row in rows])
    return subject.run(TokenBatch.of(rows, 0), edits=edits, positions=ends)


def shared_runs(subject: Subject, edits: list[Edit]) -> torch.Tensor:
    return subject.run_shared(SEQUENCES, CASE, first=FIRST, edits=edits)


@pytest.mark.parametrize("hook_name", HOOKS)
@pytest.mark.parametrize("kind", CAUSAL)
def test_shared_runs_give_what_whole_runs_give(
    subjects: dict[str, Subject], kind: str, hook_name: str
):
    """Also with grouped heads, with learned positions, and in windows of 4 tokens (gemma3)."""
    subject = subjects[kind]
    edit = adding(hook_name, subject.width(hook_name))
    assert subject.shared_blocks([hook_name]) == HOOKS[hook_name]
    wanted = whole_runs(subject, [edit])
    assert torch.allclose(shared_runs(subject, [edit]), wanted, atol=1e-5)
    assert (wanted - whole_runs(subject, [])).abs().max() > 0.1


def test_several_edits_share_what_is_below_all_of_them(subject: Subject):
    edits = [adding("blocks.1.hook_out", 32), adding("blocks.0.hook_out", 32)]
    assert subject.shared_blocks([edit.hook_name for edit in edits]) == 1
    assert torch.allclose(shared_runs(subject, edits), whole_runs(subject, edits), atol=1e-5)


def test_runs_that_are_edited_from_their_first_token_on_share_blocks_only(subject: Subject):
    edit = adding("blocks.0.hook_out", 32)
    found = subject.run_shared(SEQUENCES, CASE, first=[0, 0, 0], edits=[edit])
    assert torch.allclose(found, whole_runs(subject, [edit]), atol=1e-5)


def test_half_precision_is_shared_too(tmp_path: Path):
    subject = Subject.load(save_tiny("llama", tmp_path), dtype="bfloat16")
    edit = adding("blocks.0.hook_out", 32)
    found, wanted = shared_runs(subject, [edit]), whole_runs(subject, [edit])
    assert found.dtype == torch.bfloat16
    assert torch.allclose(found.float(), wanted.float(), atol=0.1)


def test_edits_fire_once_on_the_tokens_from_the_first_edited_one_on(subject: Subject):
    seen: list[list[list[int]]] = []
    change = adding("blocks.0.hook_out", 32)

    def watch(acts: torch.Tensor, where: EditContext) -> torch.Tensor:
        seen.append(where.positions.tolist())
        return change.apply(acts, where)

    shared_runs(subject, [Edit(hook_name="blocks.0.hook_out", apply=watch)])
    shown_before, run = seen
    assert [row[-1] for row in shown_before] == [FIRST[i] - 1 for i in CASE.tolist()]
    for row, case in zip(run, CASE.tolist(), strict=True):
        tokens = list(range(FIRST[case], len(SEQUENCES[case])))
        assert row == tokens + [-1] * (5 - len(tokens))


def test_what_is_shared_is_computed_once(subject: Subject):
    edit = adding("blocks.0.hook_out", 32)
    subject.shared_blocks(["blocks.0.hook_out"])
    computed: dict[int, int] = {0: 0, 1: 0}

    def count(layer: int):
        def hook(_module: object, _inputs: object, out: torch.Tensor) -> None:
            computed[layer] += out.shape[0] * out.shape[1]

        return hook

    handles = [
        block.original_component.register_forward_hook(count(layer))
        for layer, block in enumerate(subject.bridge.blocks)
    ]
    shared_runs(subject, [edit])
    for handle in handles:
        handle.remove()
    assert computed == {0: 3 * 13, 1: 3 * 13 + 8 * 5}


def test_outer_edits_reach_the_shared_part(subject: Subject):
    """An edit that is active around shared runs acts on all tokens, before the others and once."""
    everywhere = Edit(hook_name="blocks.0.hook_out", apply=lambda acts, _where: acts * 1.5)
    inner = adding("blocks.0.hook_out", 32)
    subject.shared_blocks(["blocks.0.hook_out"])
    with subject.editing([everywhere]) as counts:
        found = shared_runs(subject, [inner])
    assert counts == [2]
    assert torch.allclose(found, whole_runs(subject, [everywhere, inner]), atol=1e-5)


@pytest.mark.parametrize("n_blocks", [1, 2])
def test_an_edit_before_the_first_token_is_refused(subject: Subject, n_blocks: int):
    hook_name = f"blocks.{n_blocks - 1}.hook_out"
    early = AT.clone()
    early[3, 1] = 6
    with pytest.raises(HookError, match=r"changes token 6 .* said to be 8"):
        shared_runs(subject, [adding(hook_name, 32, early)])
    everywhere = Edit(hook_name=hook_name, apply=lambda acts, _where: acts + 1)
    with pytest.raises(HookError, match="changes token 0 "):
        shared_runs(subject, [everywhere])


def test_a_first_token_outside_its_sequence_is_refused(subject: Subject):
    edit = adding("blocks.0.hook_out", 32)
    for first in ([3, 3, 8], [3, -1, 8]):
        with pytest.raises(ShapeError, match="of a run of 3 tokens"):
            subject.run_shared(SEQUENCES, CASE, first=first, edits=[edit])
    with pytest.raises(ShapeError, match="600 tokens is longer"):
        subject.run_shared([[5] * 600], CASE[:1], first=[3], edits=[edit])


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_sequences_too_long_to_be_aligned_run_whole(subjects: dict[str, Subject], kind: str):
    """Each has 400 of the 512 tokens that the model reads; aligned at tokens 20 and 390 they would have 770."""
    subject = subjects[kind]
    sequences = [[5 + i % 90 for i in range(400)], [7 + i % 80 for i in range(400)]]
    edit = adding("blocks.0.hook_out", 32, torch.tensor([[20], [390]]))
    found = subject.run_shared(sequences, torch.arange(2), first=[20, 390], edits=[edit])
    ends = torch.tensor([399, 399])
    wanted = subject.run(TokenBatch.of(sequences, 0), edits=[edit], positions=ends)
    assert torch.allclose(found, wanted, atol=1e-5)


def test_an_edit_that_never_fires_is_an_error(subject: Subject):
    edit = Edit(hook_name="blocks.0.hook_out", apply=lambda acts, _where: acts)
    with pytest.raises(HookError, match="never fired"):
        shared_runs(subject, [edit])


def test_the_model_is_itself_again_after_an_error(subject: Subject):
    before = whole_runs(subject, [])

    def fail(acts: torch.Tensor, where: EditContext) -> torch.Tensor:
        if int(where.positions.max()) == 11:
            raise RuntimeError("planted")
        return acts

    with pytest.raises(RuntimeError, match="planted"):
        shared_runs(subject, [Edit(hook_name="blocks.1.hook_out", apply=fail)])
    assert torch.equal(whole_runs(subject, []), before)
    for block in subject.bridge.blocks:
        assert "forward" not in vars(block)


def test_nan_stays_in_its_run(subject: Subject):
    edit = adding("blocks.0.hook_out", 32)

    def spoil(acts: torch.Tensor, where: EditContext) -> torch.Tensor:
        edited = edit.apply(acts, where).clone()
        edited[4][where.positions[4] == 9] = torch.nan
        return edited

    found = shared_runs(subject, [Edit(hook_name="blocks.0.hook_out", apply=spoil)])
    assert torch.isnan(found[4]).all()
    others = [0, 1, 2, 3, 5, 6, 7]
    assert torch.allclose(found[others], whole_runs(subject, [edit])[others], atol=1e-5)


@pytest.mark.parametrize(
    ("where", "name", "value"),
    [
        ("config", "layer_types", ["full_attention", "linear_attention"]),
        ("config", "layer_types", ["chunked_attention", "full_attention"]),
        ("model", "_is_stateful", True),
    ],
)
def test_models_that_remember_something_else_run_whole(
    subject: Subject, monkeypatch: pytest.MonkeyPatch, where: str, name: str, value: object
):
    model = subject.bridge.original_model
    target = model if where == "model" else model.config
    edit = adding("blocks.0.hook_out", 32)
    wanted = whole_runs(subject, [edit])
    monkeypatch.setattr(target, name, value, raising=False)
    assert subject.shared_blocks(["blocks.0.hook_out"]) is None
    assert torch.allclose(shared_runs(subject, [edit]), wanted, atol=1e-5)


def test_a_model_that_goes_on_otherwise_from_its_cache_runs_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    subject = Subject.load(save_tiny("llama", tmp_path))
    real = RepeatedLayer.update

    def forgetful(self: RepeatedLayer, keys: torch.Tensor, values: torch.Tensor, *rest: object):
        keys, values = real(self, keys, values, *rest)
        return keys, values * 1.01

    monkeypatch.setattr(RepeatedLayer, "update", forgetful)
    assert subject.shared_blocks(["blocks.0.hook_out"]) is None
    edit = adding("blocks.0.hook_out", 32)
    assert torch.allclose(shared_runs(subject, [edit]), whole_runs(subject, [edit]), atol=1e-5)


def test_edits_of_the_unembedding_and_encoders_share_nothing(subjects: dict[str, Subject]):
    assert subjects["llama"].shared_blocks(["unembed.hook_out"]) is None
    assert subjects["bert"].shared_blocks(["blocks.0.hook_out"]) is None
    with pytest.raises(ModelError, match="encoder"):
        shared_runs(subjects["bert"], [adding("blocks.0.hook_out", 32)])
    with pytest.raises(HookError, match="no hook point"):
        subjects["llama"].shared_blocks(["blocks.7.hook_out"])


def test_alignment_puts_every_first_token_into_one_column():
    batch, n_before = align(SEQUENCES, FIRST, 0)
    assert (n_before, batch.token_ids.shape[1]) == (8, 13)
    for row, (sequence, first) in enumerate(zip(SEQUENCES, FIRST, strict=True)):
        assert batch.token_ids[row][batch.mask[row]].tolist() == sequence
        assert batch.positions[row, n_before] == first
