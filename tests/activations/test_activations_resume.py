"""One process writes a store at a time, a kill leaves what can be gone on from, and a refused write loses nothing."""

import errno
import multiprocessing
import os
import pickle
import resource
from pathlib import Path

import pytest
import torch

from benchmarks.kill_campaign import run_campaign
from mechprobe.activations.lock import LOCK_NAME
from mechprobe.activations.store import ActivationStore
from mechprobe.activations.writing import StoreWriter
from mechprobe.errors import StoreError
from tests.activations.stores import token_table, write_store

HOOK = "blocks.0.hook_out"
SIZES = (50, 60, 70)


def acts() -> torch.Tensor:
    return torch.arange(sum(SIZES) * 8, dtype=torch.float32).view(-1, 8)


def start(folder: Path) -> StoreWriter:
    return StoreWriter.start(
        folder, hooks={HOOK: 8}, dtype="float32", config={}, n_conversations=len(SIZES)
    )


def write(writer: StoreWriter, index: int) -> None:
    first = sum(SIZES[:index])
    part = acts()[first : first + SIZES[index]]
    writer.write(
        index,
        {HOOK: part},
        token_table([SIZES[index]], index),
        first_conversation=index,
        transcript_ids=[f"t{index}"],
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, bytes]:
    write_store(tmp_path / "whole", {HOOK: acts()}, SIZES, cuts=(1, 2))
    return contents(tmp_path / "whole")


def in_other_process(work, *arguments: object) -> str:
    """What an error says that is raised there, empty for none."""
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=_tell, args=(send, work, *arguments))
    child.start()
    said = receive.recv()
    child.join()
    return said


def _tell(send, work, *arguments: object) -> None:
    try:
        work(*arguments)
        send.send("")
    except StoreError as error:
        send.send(str(error))


@pytest.mark.slow
def test_captures_killed_at_any_moment_end_with_the_same_bytes(tmp_path: Path):
    # A third by time, a third at a byte, a third at a sync or rename; the campaign of 200 is a benchmark.
    found = run_campaign(3, tmp_path, seed=5)
    assert found.n_identical == 3
    assert found.n_shards > 3


def test_a_second_process_is_refused_and_told_who_writes(tmp_path: Path):
    with start(tmp_path / "s"):
        said = in_other_process(start, tmp_path / "s")
        assert f"is being written by process {os.getpid()} on " in said
    assert in_other_process(start, tmp_path / "s") == ""
    assert LOCK_NAME not in contents(tmp_path / "s")


def _die_writing(folder: Path) -> None:
    writer = start(folder)
    write(writer, 0)
    os._exit(9)


def test_the_lock_of_a_dead_process_holds_nobody_up(tmp_path: Path, whole: dict[str, bytes]):
    child = multiprocessing.get_context("fork").Process(target=_die_writing, args=(tmp_path / "s",))
    child.start()
    child.join()
    assert LOCK_NAME in contents(tmp_path / "s")
    with start(tmp_path / "s") as writer:
        assert [writer.finished(index) is not None for index in range(3)] == [True, False, False]
        write(writer, 1)
        write(writer, 2)
    assert contents(tmp_path / "s") == whole


def test_workers_write_under_the_lock_of_who_sent_them(tmp_path: Path, whole: dict[str, bytes]):
    with start(tmp_path / "s") as writer:
        sent = pickle.dumps(writer)
        assert pickle.loads(sent) == writer
        for index in (2, 0, 1):
            work = lambda index=index: write(pickle.loads(sent), index)  # noqa: E731
            assert in_other_process(work) == ""
        assert LOCK_NAME in contents(tmp_path / "s")
    assert contents(tmp_path / "s") == whole


def test_two_writers_of_one_process_share_the_lock(tmp_path: Path, whole: dict[str, bytes]):
    first, second = start(tmp_path / "s"), start(tmp_path / "s")
    for index, writer in enumerate((first, second, first)):
        write(writer, index)
    del first, second, writer
    assert contents(tmp_path / "s") == whole


def test_leftovers_of_a_kill_are_swept_away(tmp_path: Path, whole: dict[str, bytes]):
    with start(tmp_path / "s") as writer:
        (tmp_path / "s" / "shard-00001.safetensors.123-4.tmp").write_bytes(b"half")
        for index in range(3):
            write(writer, index)
    assert contents(tmp_path / "s") == whole


def test_a_disk_that_refuses_in_the_middle_loses_nothing(tmp_path: Path, whole: dict[str, bytes]):
    with start(tmp_path / "s") as writer:
        write(writer, 0)
        before = contents(tmp_path / "s")
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        try:
            with pytest.raises(StoreError, match=r"could not be written .*make room"):
                write(writer, 1)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert contents(tmp_path / "s") == before
        write(writer, 1)
        write(writer, 2)
    assert contents(tmp_path / "s") == whole


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_a_full_disk_at_any_sync_is_explained(
    tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, at: int
):
    calls = 0

    def full(_: int) -> None:
        nonlocal calls
        calls += 1
        if calls == at + 1:
            raise OSError(errno.ENOSPC, "No space left on device")

    with start(tmp_path / "s") as writer:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(StoreError, match="No space left on device"):
                write(writer, 0)
        assert writer.finished(0) is None
        for index in range(3):
            write(writer, index)
    assert contents(tmp_path / "s") == whole


def test_a_folder_that_cannot_be_written_to_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: object, **__: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    (tmp_path / "new").mkdir()
    write_store(tmp_path / "done", {HOOK: acts()}, SIZES)
    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(StoreError, match=r"Read-only file system.*can be written to"):
        start(tmp_path / "new")
    # A finished store needs no writing.
    assert start(tmp_path / "done").finished(0) is not None
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StoreError, match="Read-only file system"):
        start(tmp_path / "nowhere" / "s")


def test_a_truncated_shard_is_written_again(tmp_path: Path, whole: dict[str, bytes]):
    store = write_store(tmp_path / "s", {HOOK: acts()}, SIZES, cuts=(1, 2))
    os.truncate(store.path(1), 100)
    with pytest.raises(StoreError, match="has 100 bytes, its sidecar says"):
        ActivationStore.open(tmp_path / "s")
    with start(tmp_path / "s") as writer:
        assert [writer.finished(index) is not None for index in range(3)] == [True, False, True]
        write(writer, 1)
    assert contents(tmp_path / "s") == whole


def test_a_shard_that_ends_while_it_is_read_is_no_zeros(tmp_path: Path):
    store = write_store(tmp_path / "s", {HOOK: acts()}, SIZES)
    os.truncate(store.path(0), 2000)
    with pytest.raises(StoreError, match="verify the store"):
        store.acts(HOOK)
