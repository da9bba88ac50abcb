"""A capture stores what the model computes at the selected tokens, and can be cut off at any shard."""

import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch

from mechprobe.activations.capture import capture, digest_texts
from mechprobe.activations.rows import span_table
from mechprobe.activations.selection import TokenSelection
from mechprobe.activations.store import ActivationStore
from mechprobe.activations.writing import StoreWriter
from mechprobe.errors import ConfigError, DataError, HookError, StoreError
from mechprobe.models.batches import TokenBatch
from mechprobe.models.fused import FusedModel
from mechprobe.models.subject import Subject
from mechprobe.transcripts.transcript import Message, Span, Transcript, number_turns

HOOKS = ("blocks.0.hook_out", "blocks.1.hook_out")
EVERYTHING = TokenSelection(roles=None, sections=None)


def conversation(index: int) -> Transcript:
    reasoning = "plan hide records now " * (1 + index % 3)
    messages = (
        Message(role="user", content="task " * (1 + index)),
        Message(role="assistant", reasoning=reasoning.strip(), content="done"),
        Message(role="user", content="why"),
        Message(role="assistant", reasoning="plan", content="done now"),
    )
    span = Span(indicator="hiding", message=1, section="reasoning", start=5, end=9)
    return Transcript(id=f"t{index}", messages=number_turns(messages), spans=(span,))


TRANSCRIPTS = [conversation(index) for index in range(6)]


@pytest.fixture(scope="module")
def subject(tiny_llama: Path) -> Subject:
    return Subject.load(tiny_llama)


def run(subject: Subject, out: Path, **changes) -> ActivationStore:
    settings = {"dtype": "float32", "batch_tokens": 64, "shard_tokens": 20, **changes}
    return capture(TRANSCRIPTS, subject, HOOKS, out, **settings)


def test_what_is_stored_is_what_the_model_computes_one_conversation_at_a_time(
    subject: Subject, tmp_path: Path
):
    store = run(subject, tmp_path, select=EVERYTHING)
    assert len(store.shards) > 2
    assert store.transcript_ids == tuple(t.id for t in TRANSCRIPTS)
    tokens = store.tokens
    for index, transcript in enumerate(TRANSCRIPTS):
        rendering = subject.render(transcript)
        batch = TokenBatch.of([rendering.token_ids.tolist()], subject.pad_id)
        rows = np.flatnonzero(tokens["conversation"] == index)
        assert list(tokens["token_id"].iloc[rows]) == list(rendering.token_ids)
        assert set(tokens["transcript_id"].iloc[rows]) == {transcript.id}
        for name, wanted in subject.capture(batch, HOOKS).items():
            assert torch.allclose(store.acts(name, rows), wanted[0], atol=1e-5)


def test_only_selected_tokens_are_stored(subject: Subject, tmp_path: Path):
    everything = run(subject, tmp_path / "all", select=EVERYTHING)
    store = run(
        subject,
        tmp_path / "some",
        select=TokenSelection(roles=("assistant",), sections=("reasoning",)),
    )
    tokens = everything.tokens
    kept = ((tokens["role"] == "assistant") & (tokens["section"] == "reasoning")).to_numpy()
    assert 0 < store.n_tokens < everything.n_tokens
    assert set(store.tokens["section"]) == {"reasoning"}
    assert torch.allclose(store.acts(HOOKS[1]), everything.acts(HOOKS[1], kept), atol=1e-5)


def test_spans_are_found_among_the_rows(subject: Subject, tmp_path: Path):
    store = run(subject, tmp_path)
    table = span_table(store.tokens, TRANSCRIPTS)
    assert list(table["transcript_id"]) == [t.id for t in TRANSCRIPTS]
    for row in table.to_dict("records"):
        rendering = subject.render(TRANSCRIPTS[row["conversation"]])
        wanted = rendering.tokens_of(TRANSCRIPTS[row["conversation"]].spans[0])
        assert list(store.tokens["position"][row["first_row"] : row["last_row"] + 1]) == list(
            wanted
        )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_capture_that_was_cut_off_ends_with_the_same_bytes(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
):
    run(subject, tmp_path / "whole")

    class Cut(Exception):
        pass

    def write(self: StoreWriter, index: int, *args, **options):
        if index == after:
            raise Cut
        return original(self, index, *args, **options)

    original = StoreWriter.write
    with monkeypatch.context() as patch, pytest.raises(Cut):
        patch.setattr(StoreWriter, "write", write)
        run(subject, tmp_path / "cut")
    assert len(list((tmp_path / "cut").glob("shard-*.json"))) == after
    with pytest.raises(StoreError, match="unfinished"):
        ActivationStore.open(tmp_path / "cut")
    run(subject, tmp_path / "cut")
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_a_damaged_shard_in_the_middle_is_made_again(subject: Subject, tmp_path: Path):
    run(subject, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    (tmp_path / "cut" / "shard-00001.safetensors").write_bytes(b"")
    run(subject, tmp_path / "cut")
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_a_finished_capture_runs_nothing(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run(subject, tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    monkeypatch.setattr(Subject, "render", lambda *_: pytest.fail("rendered again"))
    monkeypatch.setattr(FusedModel, "capture", lambda *_, **__: pytest.fail("ran again"))
    run(subject, tmp_path)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_other_settings_in_the_same_folder_are_refused_by_name(subject: Subject, tmp_path: Path):
    run(subject, tmp_path)
    with pytest.raises(StoreError, match="batch_tokens is 64, wanted 32"):
        run(subject, tmp_path, batch_tokens=32)
    with pytest.raises(StoreError, match="n_conversations is 6, wanted 2; transcripts is"):
        run(subject, tmp_path, limit=2)


def test_labels_are_no_setting_but_texts_are():
    unlabelled = [Transcript(id=t.id, messages=t.messages) for t in TRANSCRIPTS]
    assert digest_texts(unlabelled) == digest_texts(TRANSCRIPTS)
    assert digest_texts(TRANSCRIPTS[:5]) != digest_texts(TRANSCRIPTS)


def test_a_disk_that_is_too_small_is_refused_before_the_work(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(1000, 0, 1000))
    monkeypatch.setattr(FusedModel, "capture", lambda *_, **__: pytest.fail("ran the model"))
    with pytest.raises(StoreError, match="GB free, and about"):
        run(subject, tmp_path)


def test_activations_that_are_not_finite_name_hook_and_transcript(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    original = FusedModel.capture

    def broken(self: FusedModel, batch: TokenBatch, names):
        found = original(self, batch, names)
        found[HOOKS[1]][0, -1] = torch.nan
        return found

    monkeypatch.setattr(FusedModel, "capture", broken)
    with pytest.raises(StoreError, match=rf"{HOOKS[1]} are not finite in transcript 't\d'"):
        run(subject, tmp_path, select=EVERYTHING)


def test_alias_names_are_stored_under_their_canonical_name(subject: Subject, tmp_path: Path):
    store = capture(TRANSCRIPTS, subject, ["blocks.1.hook_resid_post"], tmp_path)
    assert store.hook_names == ("blocks.1.hook_out",)
    assert store.dtype == "bfloat16"


def test_windows_of_short_models_put_each_token_in_its_row(tiny_llama: Path, tmp_path: Path):
    subject = Subject.load(tiny_llama, window=8)
    store = run(subject, tmp_path, select=EVERYTHING)
    rendering = subject.render(TRANSCRIPTS[0])
    assert len(rendering.windows) > 1
    window = rendering.windows[1]
    batch = TokenBatch.of([window.token_ids.tolist()], subject.pad_id)
    wanted = subject.capture(batch, HOOKS)[HOOKS[0]][0]
    inside = window.tokens >= 0
    assert torch.allclose(store.acts(HOOKS[0], window.tokens[inside]), wanted[inside], atol=1e-5)


def test_mistakes_are_explained(subject: Subject, tmp_path: Path):
    with pytest.raises(HookError):
        capture(TRANSCRIPTS, subject, ["blocks.9.hook_out"], tmp_path)
    with pytest.raises(DataError, match="no transcripts"):
        capture([], subject, HOOKS, tmp_path)
    with pytest.raises(DataError, match="the id 't0'"):
        capture([*TRANSCRIPTS, TRANSCRIPTS[0]], subject, HOOKS, tmp_path)
    with pytest.raises(DataError, match="no token of 6 transcripts"):
        run(subject, tmp_path / "none", select=TokenSelection(sections=("tool_call",)))
    with pytest.raises(ConfigError, match="'reasonings' cannot be selected"):
        run(subject, tmp_path / "typo", select=TokenSelection(sections=("reasonings",)))
    with pytest.raises(ConfigError, match="at least one"):
        TokenSelection(roles=())
    with pytest.raises(ConfigError, match="batch_tokens 0"):
        run(subject, tmp_path / "zero", batch_tokens=0)
