"""What a capture says before it runs is what it then does: the shards, the tokens, the bytes, the engine."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mechprobe.activations import capture as capturing
from mechprobe.activations import plan
from mechprobe.activations.capture import capture
from mechprobe.activations.selection import TokenSelection
from mechprobe.activations.shards import read_header
from mechprobe.activations.store import ActivationStore
from mechprobe.activations.store_header import HEADER_NAME, KIND
from mechprobe.activations.transcript_file import TranscriptFile
from mechprobe.activations.writing import StoreWriter
from mechprobe.errors import DataError
from mechprobe.models.batches import TokenBatch
from mechprobe.models.fused import FusedModel
from mechprobe.models.subject import Subject
from mechprobe.transcripts.transcript import Message, Transcript, number_turns

HOOKS = ("blocks.0.hook_out", "blocks.1.hook_out")
INSIDE = "blocks.0.ln2.hook_in"
THOUGHTS = TokenSelection(roles=("assistant",), sections=("reasoning",))


def conversation(index: int) -> Transcript:
    messages = [
        Message(role="user", content="task " * (1 + index)),
        Message(role="assistant", reasoning="plan hide records now", content="done"),
    ]
    return Transcript(id=f"t{index}", messages=number_turns(messages))


TRANSCRIPTS = [conversation(index) for index in range(7)]


@pytest.fixture(scope="module")
def subject(tiny_llama: Path) -> Subject:
    return Subject.load(tiny_llama)


def run(subject: Subject, out: Path, **changes: Any) -> ActivationStore:
    settings = {"select": THOUGHTS, "batch_tokens": 64, "shard_tokens": 10, **changes}
    transcripts = settings.pop("transcripts", TRANSCRIPTS)
    return capture(transcripts, subject, settings.pop("hooks", HOOKS), out, **settings)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_estimate_is_what_is_read_and_written(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    read: list[int] = []
    said: list[str] = []
    run_model = FusedModel.capture

    def counted(self: FusedModel, batch: TokenBatch, names: Any) -> Any:
        assert said, "nothing was said before the first pass"
        read.append(int(batch.mask.sum()))
        return run_model(self, batch, names)

    monkeypatch.setattr(FusedModel, "capture", counted)
    store = run(subject, tmp_path, say=said.append)
    n_thought = [int((subject.render(t).section == 2).sum()) for t in TRANSCRIPTS]
    assert store.n_tokens == sum(n_thought)
    assert [shard.n_rows for shard in store.shards] == np.add.reduceat(
        n_thought, [shard.facts["first_conversation"] for shard in store.shards]
    ).tolist()
    assert said == [
        f"{len(store.shards)} shards to write: the model reads {sum(read):,} tokens, {store.n_tokens:,} are stored in "
        f"about {store.n_tokens * (2 * 32 * 2 + 16 + 2 * 4) / 1e6:.1f} MB; memory beside the model about "
        f"{2 * 32 * (max(s.n_rows for s in store.shards) * 2 + 64 * 4) / 1e6:.1f} MB"
    ]
    run(subject, tmp_path, say=said.append)
    assert len(said) == 1, "a finished store needs nothing"


@pytest.mark.parametrize(("n_held", "n_renders"), [(10_000, 7), (0, 14), (80, 12)])
def test_a_conversation_is_rendered_once_while_there_is_room_to_keep_it(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_held: int, n_renders: int
):
    rendered: list[str] = []
    render = Subject.render

    def counted(self: Subject, transcript: Transcript) -> Any:
        rendered.append(transcript.id)
        return render(self, transcript)

    lengths = [len(subject.render(t).token_ids) for t in TRANSCRIPTS]
    assert sum(lengths[:2]) <= 80 < sum(lengths[:3])
    monkeypatch.setattr(Subject, "render", counted)
    monkeypatch.setattr(capturing, "HELD_TOKENS", n_held)
    run(subject, tmp_path)
    assert len(rendered) == n_renders


def test_transcripts_in_their_file_give_the_same_store(subject: Subject, tmp_path: Path):
    TranscriptFile.write(tmp_path / "texts.jsonl", TRANSCRIPTS)
    file = TranscriptFile.open(tmp_path / "texts.jsonl")
    assert (len(file), file[3], list(file[2:5])) == (7, TRANSCRIPTS[3], TRANSCRIPTS[2:5])
    run(subject, tmp_path / "list", limit=5)
    run(subject, tmp_path / "file", transcripts=file, limit=5)
    assert contents(tmp_path / "file") == contents(tmp_path / "list")
    with pytest.raises(DataError, match=r"no plain \.jsonl file"):
        TranscriptFile.open(tmp_path / "texts.jsonl.zst")


def test_a_hook_point_within_a_block_takes_the_bridge_for_all(subject: Subject, tmp_path: Path):
    inside = run(subject, tmp_path / "inside", hooks=(INSIDE, HOOKS[1]), dtype="float32")
    blocks = run(subject, tmp_path / "blocks", dtype="float32")
    assert "engine" not in inside.config
    assert blocks.config["engine"] == "fused"
    torch.testing.assert_close(inside.acts(HOOKS[1]), blocks.acts(HOOKS[1]), atol=1e-5, rtol=1e-5)


def test_a_store_goes_on_with_the_engine_that_it_was_begun_with(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """So does one of before there was a choice, whose header names none."""
    write = StoreWriter.write

    def cut(self: StoreWriter, index: int, *args: Any, **options: Any) -> Any:
        if index == 1:
            raise InterruptedError
        return write(self, index, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(capturing, "engine_for", lambda *_: "bridge")
        run(subject, tmp_path / "whole")
        patch.setattr(StoreWriter, "write", cut)
        with pytest.raises(InterruptedError):
            run(subject, tmp_path / "cut")
    assert "engine" not in read_header(tmp_path / "cut" / HEADER_NAME, KIND)["config"]
    monkeypatch.setattr(FusedModel, "capture", lambda *_: pytest.fail("changed the engine"))
    run(subject, tmp_path / "cut")
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_half_precision_is_stored_as_the_model_computes_it(tiny_llama: Path, tmp_path: Path):
    half = Subject.load(tiny_llama, dtype="bfloat16")
    store = run(half, tmp_path, dtype="bfloat16", batch_tokens=1)
    assert half.fused is not None
    rendering = half.render(TRANSCRIPTS[0])
    batch = TokenBatch.of([rendering.token_ids.tolist()], half.pad_id)
    wanted = half.fused.capture(batch, HOOKS)[HOOKS[1]][0][rendering.section == 2]
    rows = np.flatnonzero(store.tokens["conversation"] == 0)
    assert torch.equal(store.acts(HOOKS[1], rows, dtype=torch.bfloat16), wanted)


def test_a_kept_conversation_is_let_go_when_it_is_taken(subject: Subject):
    conversations = plan.Conversations(TRANSCRIPTS, subject.render, THOUGHTS, hold_tokens=10_000)
    looked = conversations.look(2)
    assert conversations.take(2) is looked
    assert conversations.take(2) is not looked
