import pytest
import torch

from mechprobe.errors import HookError, ShapeError
from mechprobe.models.readers import residual_readers
from mechprobe.models.subject import Subject
from tests.models.tiny import save_tiny

ATTENTION = ["blocks.1.attn.q", "blocks.1.attn.k", "blocks.1.attn.v"]
GATED = ["blocks.1.mlp.gate", "blocks.1.mlp.in"]


@pytest.fixture(scope="module", params=["llama", "gemma3", "gpt2"])
def kind_and_subject(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Subject]:
    folder = save_tiny(request.param, tmp_path_factory.mktemp(request.param))
    return request.param, Subject.load(folder)


def names(subject: Subject, hook_name: str) -> list[str]:
    return [reader.name for reader in residual_readers(subject, hook_name)]


def test_readers_are_those_that_run_after_the_hook_point(
    kind_and_subject: tuple[str, Subject],
) -> None:
    kind, subject = kind_and_subject
    mlp = ["blocks.1.mlp.in"] if kind == "gpt2" else GATED
    assert names(subject, "blocks.0.hook_out") == [*ATTENTION, *mlp, "unembed"]
    assert names(subject, "blocks.1.attn.hook_out") == [*mlp, "unembed"]
    assert names(subject, "blocks.1.hook_out") == ["unembed"]
    before = [name.replace(".1.", ".0.") for name in (*ATTENTION, *mlp)]
    assert names(subject, "blocks.0.hook_in") == [*before, *ATTENTION, *mlp, "unembed"]


def test_gains_and_centring_are_folded_in(kind_and_subject: tuple[str, Subject]) -> None:
    kind, subject = kind_and_subject
    norm = subject.bridge.blocks[1].ln1
    gain = torch.linspace(0.5, 2.0, subject.d_model)
    with torch.no_grad():
        norm.original_component.weight.copy_(gain - 1 if kind == "gemma3" else gain)
    key = residual_readers(subject, "blocks.0.hook_out")[1]
    raw = subject.bridge.blocks[1].attn.k.original_component.weight.detach().float()
    wanted = (raw if raw.shape == key.weight.shape else raw.T) * gain
    if kind == "gpt2":
        wanted = wanted - wanted.mean(1, keepdim=True)
    assert torch.allclose(key.weight, wanted, atol=1e-4)


def test_watching_leaves_the_model_as_it_was(kind_and_subject: tuple[str, Subject]) -> None:
    _kind, subject = kind_and_subject
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in subject.bridge.modules()]
    residual_readers(subject, "blocks.0.hook_out")
    after = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in subject.bridge.modules()]
    assert hooks == after


def test_bad_input_is_one_clear_error(kind_and_subject: tuple[str, Subject]) -> None:
    _kind, subject = kind_and_subject
    with pytest.raises(ShapeError, match="residual stream has 32"):
        residual_readers(subject, "blocks.0.mlp.in.hook_out")
    with pytest.raises(HookError, match="near names"):
        residual_readers(subject, "blocks.0.hook_oot")
