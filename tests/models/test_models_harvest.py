"""Fused attention gives the rows that the bridge gives, over the same weights, and only where it was found to."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mechprobe.errors import HookError
from mechprobe.models import fused
from mechprobe.models.batches import TokenBatch
from mechprobe.models.hooks import Edit
from mechprobe.models.subject import Subject
from tests.models.tiny import save_tiny

KINDS = ("llama", "gpt2", "gemma3", "bert")
SEQUENCES = [[5, 9, 30, 31, 7, 12], [8, 40], [11, 200, 45, 46]]
NAMES = ["blocks.0.hook_in", "blocks.0.hook_out", "blocks.1.hook_out"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: save_tiny(kind, tmp_path_factory.mktemp(kind)) for kind in KINDS}


@pytest.fixture(scope="module")
def subjects(folders: dict[str, Path]) -> dict[str, Subject]:
    return {kind: Subject.load(folder) for kind, folder in folders.items()}


def fused_of(subject: Subject) -> fused.FusedModel:
    assert subject.fused is not None
    return subject.fused


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", KINDS)
def test_padded_rows_are_those_of_single_sequences_and_of_the_bridge(
    subjects: dict[str, Subject], kind: str, side: Any
):
    subject = subjects[kind]
    batch = TokenBatch.of(SEQUENCES, subject.pad_id, side)
    found = fused_of(subject).capture(batch, NAMES)
    bridged = subject.capture(batch, NAMES)
    assert list(found) == NAMES
    for row, sequence in enumerate(SEQUENCES):
        alone = fused_of(subject).capture(TokenBatch.of([sequence], subject.pad_id), NAMES)
        for name in NAMES:
            rows = found[name][row][batch.mask[row]]
            torch.testing.assert_close(rows, alone[name][0], atol=2e-5, rtol=1e-5)
            wanted = bridged[name][row][batch.mask[row]]
            torch.testing.assert_close(rows, wanted, atol=2e-5, rtol=1e-5)


def test_the_model_runs_with_its_own_fused_attention_over_the_bridges_weights(
    subjects: dict[str, Subject], monkeypatch: pytest.MonkeyPatch
):
    subject = subjects["llama"]
    mine = {tensor.data_ptr() for tensor in fused_of(subject).model.parameters()}
    theirs = {tensor.data_ptr() for tensor in subject.bridge.original_model.parameters()}
    assert mine <= theirs
    calls: list[int] = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def counted(*args: Any, **options: Any) -> torch.Tensor:
        calls.append(1)
        return attend(*args, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
    batch = TokenBatch.of(SEQUENCES, subject.pad_id)
    subject.capture(batch, [NAMES[1]])
    assert not calls
    fused_of(subject).capture(batch, [NAMES[1]])
    assert len(calls) == 1, "one block of the two: the pass stops after the last that is wanted"


def test_rows_in_half_precision_are_the_bridges_up_to_their_rounding(folders: dict[str, Path]):
    subject = Subject.load(folders["llama"], dtype="bfloat16")
    batch = TokenBatch.of(SEQUENCES, subject.pad_id)
    found, wanted = (
        run(batch, NAMES)[NAMES[2]][batch.mask]
        for run in (fused_of(subject).capture, subject.capture)
    )
    assert found.dtype == torch.bfloat16
    exact = Subject.load(folders["llama"]).capture(batch, NAMES)[NAMES[2]][batch.mask]
    errors = [(rows.float() - exact).norm() / exact.norm() for rows in (found, wanted)]
    assert errors[0] < 2 * errors[1] < 0.1


def test_edits_stay_with_the_bridge(subjects: dict[str, Subject]):
    subject = subjects["llama"]
    batch = TokenBatch.of(SEQUENCES, subject.pad_id)
    clean = fused_of(subject).capture(batch, NAMES)[NAMES[2]]
    with subject.editing([Edit(hook_name=NAMES[1], apply=lambda acts, _: acts * 2)]):
        edited = subject.capture(batch, NAMES)[NAMES[2]]
        torch.testing.assert_close(fused_of(subject).capture(batch, NAMES)[NAMES[2]], clean)
    assert (edited - clean)[batch.mask].abs().max() > 0.1


def test_hook_points_within_blocks_are_refused_by_name(subjects: dict[str, Subject]):
    batch = TokenBatch.of(SEQUENCES, 0)
    with pytest.raises(HookError, match=r"blocks\.0\.ln2\.hook_in is not among the inputs"):
        fused_of(subjects["llama"]).capture(batch, ["blocks.0.ln2.hook_in"])


def test_a_twin_that_computes_something_else_serves_nothing(folders: dict[str, Path]):
    subject = Subject.load(folders["llama"])
    twin = subject._twin
    for layer, served in (
        (1, {"blocks.0.hook_in", "blocks.0.hook_out", "blocks.1.hook_in"}),
        (0, {"blocks.0.hook_in"}),
    ):
        projection = twin.model.layers[layer].self_attn.o_proj
        projection.weight = torch.nn.Parameter(projection.weight * 1.05)
        found = fused.fused_model(twin, subject.bridge, subject.capture, subject.hook_names)
        assert found is not None
        assert found.served == served


def test_a_device_map_reaches_the_loader(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch):
    import transformers

    seen: dict[str, Any] = {}
    load = transformers.AutoModelForCausalLM.from_pretrained

    def watched(*args: Any, **options: Any) -> Any:
        seen.update(options)
        return load(*args, **options)

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", watched)
    Subject.load(folders["llama"])
    assert "device_map" not in seen
    subject = Subject.load(folders["llama"], device={"": "cpu"})
    assert seen["device_map"] == {"": "cpu"}
    assert subject.device == torch.device("cpu")
    assert subject.loading.device == {"": "cpu"}
