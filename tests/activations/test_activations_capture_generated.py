"""What a model writes is stored with the activations that its text has when it is read again."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mechprobe.activations.author import GenerationConfig
from mechprobe.activations.capture import capture
from mechprobe.activations.generated import generate_and_capture
from mechprobe.activations.selection import TokenSelection
from mechprobe.activations.writing import StoreWriter
from mechprobe.errors import DataError, StoreError
from mechprobe.models.batches import TokenBatch
from mechprobe.models.organism.datasets import DatasetConfig, draw_transcripts
from mechprobe.models.organism.truth import read_truth
from mechprobe.models.subject import Subject
from mechprobe.study.shipped import find_organism
from mechprobe.transcripts.jsonl import read_transcripts
from mechprobe.transcripts.transcript import Message, Transcript, number_turns

HOOKS = ["blocks.0.hook_out", "blocks.1.hook_in"]
EVERYTHING = TokenSelection(roles=None, sections=None)
CONFIG = GenerationConfig(max_new_tokens=6, batch_prompts=2, shard_prompts=2)


@pytest.fixture(scope="module")
def subject(tiny_llama: Path) -> Subject:
    return Subject.load(tiny_llama)


def prompt(index: int) -> Transcript:
    messages = [Message(role="user", content="task " * (1 + index))]
    return Transcript(id=f"p{index}", messages=number_turns(messages))


PROMPTS = [prompt(index) for index in range(5)]


def test_one_pass_with_the_cache_gives_the_rows_of_the_finished_sequences(subject: Subject):
    prompts = [[5, 9, 30], [8, 40, 41, 42, 43], [11]]
    plain = subject.generate(prompts, max_new_tokens=7, seed=3)
    stop = plain[1][2]
    written = subject.generate_with_acts(
        prompts, HOOKS, max_new_tokens=7, seed=3, stop_token_ids=[stop]
    )
    assert len(written[1].new_ids) == 3, "one text ends before the others"
    for before, text, whole in zip(prompts, written, plain, strict=True):
        assert text.new_ids == whole[: len(text.new_ids)]
        batch = TokenBatch.of([[*before, *text.new_ids]], subject.pad_id)
        for name, wanted in subject.capture(batch, HOOKS).items():
            assert text.acts[name].shape == wanted[0].shape
            torch.testing.assert_close(text.acts[name], wanted[0], atol=1e-5, rtol=1e-5)


def test_the_store_is_the_capture_of_the_texts_that_were_written(subject: Subject, tmp_path: Path):
    store = generate_and_capture(
        PROMPTS, subject, HOOKS, tmp_path, config=CONFIG, select=EVERYTHING, dtype="float32"
    )
    texts = list(read_transcripts(tmp_path / "transcripts.jsonl"))
    assert [text.id for text in texts] == [one.id for one in PROMPTS]
    assert all(text.messages[:-1] == p.messages for text, p in zip(texts, PROMPTS, strict=True))
    assert {text.messages[-1].role for text in texts} == {"assistant"}
    assert {text.messages[-1].turn for text in texts} == {1}
    again = capture(texts, subject, HOOKS, tmp_path / "again", select=EVERYTHING, dtype="float32")
    columns = ["conversation", "position", "token_id", "role", "section", "char_start"]
    assert store.tokens[columns].equals(again.tokens[columns])
    for name in HOOKS:
        torch.testing.assert_close(store.acts(name), again.acts(name), atol=2e-5, rtol=1e-5)


def test_rows_come_from_the_pass_that_wrote_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A trained organism ends its answers as the template does, so that none needs to be read again."""
    folder = find_organism("organism-natural")
    drawn = draw_transcripts(read_truth(folder).roles, DatasetConfig(n_fit=2, n_select=1, n_test=1))
    prompts = [
        Transcript(id=one.id, messages=one.messages[: roles(one).index("assistant")])
        for one in drawn
    ]
    organism = Subject.load(folder)
    monkeypatch.setattr(Subject, "capture", lambda *_, **__: pytest.fail("read a text again"))
    store = generate_and_capture(
        prompts,
        organism,
        ["blocks.1.hook_out"],
        tmp_path,
        config=GenerationConfig(max_new_tokens=80),
    )
    texts = list(read_transcripts(tmp_path / "transcripts.jsonl"))
    lengths = [len(organism.tokenizer(text.messages[-1].content)["input_ids"]) for text in texts]
    assert 0 < min(lengths) <= max(lengths) < 80
    assert store.n_tokens == sum(lengths)
    assert set(store.tokens["section"]) == {"answer"}


def roles(transcript: Transcript) -> list[str]:
    return [message.role for message in transcript.messages]


def test_a_run_that_was_cut_off_ends_with_the_same_bytes(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def run(folder: Path) -> dict[str, bytes]:
        generate_and_capture(PROMPTS, subject, HOOKS, folder, config=CONFIG)
        files = [path for path in folder.rglob("*") if path.is_file()]
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}

    whole = run(tmp_path / "whole")
    original = StoreWriter.write

    def write(self: StoreWriter, index: int, *args, **options):
        if index == 1:
            raise InterruptedError
        return original(self, index, *args, **options)

    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(StoreWriter, "write", write)
        run(tmp_path / "cut")
    assert run(tmp_path / "cut") == whole
    assert sum(name.endswith(".safetensors") for name in whole) >= 3


def test_batches_do_not_change_what_is_written(subject: Subject, tmp_path: Path):
    alone = GenerationConfig(max_new_tokens=6, batch_prompts=1, shard_prompts=5)
    for folder, config in (("two", CONFIG), ("one", alone)):
        generate_and_capture(PROMPTS, subject, HOOKS, tmp_path / folder, config=config)
    two, one = (tmp_path / name / "transcripts.jsonl" for name in ("two", "one"))
    assert two.read_text() == one.read_text()
    assert len({line.split('"assistant"')[1] for line in one.read_text().splitlines()}) > 1


def test_prompts_that_cannot_be_answered_are_refused(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    answered = Message(role="assistant", content="done")
    done = Transcript(id="d", messages=number_turns([*PROMPTS[0].messages, answered]))
    with pytest.raises(DataError, match="prompt 'd' ends with a message of the assistant"):
        generate_and_capture([done], subject, HOOKS, tmp_path)
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    monkeypatch.setattr(
        Subject, "generate_with_acts", lambda *_, **__: pytest.fail("ran the model")
    )
    with pytest.raises(StoreError, match="GB free, and about"):
        generate_and_capture(PROMPTS, subject, HOOKS, tmp_path / "full")


def test_rows_are_counted_like_any_store(subject: Subject, tmp_path: Path):
    store = generate_and_capture(PROMPTS, subject, HOOKS, tmp_path, config=CONFIG)
    assert store.transcript_ids == tuple(one.id for one in PROMPTS)
    assert list(np.unique(store.tokens["conversation"])) == list(range(5))
