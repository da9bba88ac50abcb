"""A store that goes to object storage and back is the same store, whatever happens on the way."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pytest
import torch

from mechprobe.activations import object_storage
from mechprobe.activations.object_storage import copy_store, fetch
from mechprobe.activations.store import ActivationStore
from mechprobe.activations.writing import StoreWriter
from mechprobe.errors import DataError, StoreError

URL = "memory://bucket/store"
HOOK, WIDTH, N_ROWS = "blocks.0.hook_out", 300, 1500


@pytest.fixture
def bucket() -> Iterator[Any]:
    """fsspec's object store in memory."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield files
    files.store.clear()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Three shards of more than one block each, and a file of labels."""
    with StoreWriter.start(
        tmp_path / "store", hooks={HOOK: WIDTH}, dtype="float32", config={}, n_conversations=3
    ) as writer:
        for index in range(3):
            acts = torch.randn(N_ROWS, WIDTH, generator=torch.Generator().manual_seed(index))
            writer.write(
                index,
                {HOOK: acts},
                _tokens(index),
                first_conversation=index,
                transcript_ids=[f"t{index}"],
            )
    (tmp_path / "store" / "labels.parquet").write_bytes(b"labels")
    return tmp_path / "store"


def _tokens(index: int) -> pd.DataFrame:
    numbers = np.arange(N_ROWS, dtype=np.int32)
    return pd.DataFrame(
        {
            "conversation": np.full(N_ROWS, index, np.int32),
            "transcript_id": f"t{index}",
            "position": numbers,
            "token_id": numbers,
            "message": np.int32(0),
            "turn": np.int32(0),
            "role": "assistant",
            "section": "answer",
            "char_start": numbers,
            "char_end": numbers + 1,
        }
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.usefixtures("bucket")
def test_up_and_down_again_gives_the_same_bytes(store: Path, tmp_path: Path):
    report = copy_store(store, URL)
    assert report.n_copied == report.n_files == len(contents(store))
    assert report.n_bytes == sum(map(len, contents(store).values()))
    assert copy_store(store, URL).n_copied == 0
    copy_store(URL, tmp_path / "down")
    assert contents(tmp_path / "down") == contents(store)
    assert ActivationStore.open(tmp_path / "down").n_tokens == 3 * N_ROWS


def test_a_copy_that_was_cut_off_goes_on_and_never_looks_whole(
    store: Path, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = len(contents(store))
    original, n_left = object_storage._copy, 6

    def cut(*args: Any) -> int:
        nonlocal n_left
        n_left -= 1
        if n_left < 0:
            raise InterruptedError
        return original(*args)

    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(object_storage, "_copy", cut)
        copy_store(store, URL)
    copy_store(URL, tmp_path / "part")
    with pytest.raises(StoreError, match="unfinished"):
        ActivationStore.open(tmp_path / "part")
    # A file that is cut off, without the sidecar that would make it count.
    bucket.pipe_file("/bucket/store/shard-00002.safetensors", b"half")
    assert 0 < copy_store(store, URL).n_copied < whole
    copy_store(URL, tmp_path / "down")
    assert contents(tmp_path / "down") == contents(store)


def test_a_changed_byte_is_found_on_its_way(store: Path, bucket: Any, tmp_path: Path):
    copy_store(store, URL)
    path = "/bucket/store/shard-00001.safetensors"
    damaged = bytearray(bucket.cat_file(path))
    damaged[-5] ^= 1
    bucket.pipe_file(path, bytes(damaged))
    with pytest.raises(StoreError, match=r"shard-00001\.safetensors is damaged between bytes"):
        copy_store(URL, tmp_path / "down")
    assert (tmp_path / "down" / "shard-00000.json").exists()
    found = {path.name for path in (tmp_path / "down").iterdir()}
    assert found.isdisjoint({"shard-00001.json", "shard-00001.safetensors"})
    assert not [name for name in found if name.endswith(".tmp")]


def test_transcripts_are_fetched_and_paths_left_alone(bucket: Any, tmp_path: Path):
    bucket.pipe_file("/bucket/texts.jsonl", b"{}\n")
    assert fetch("memory://bucket/texts.jsonl", tmp_path / "in").read_bytes() == b"{}\n"
    assert fetch(tmp_path / "here.jsonl", tmp_path) == tmp_path / "here.jsonl"
    with pytest.raises(DataError, match="there is no file memory://bucket/other"):
        fetch("memory://bucket/other.jsonl", tmp_path)


def test_mistakes_are_explained(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="is no store: it has no header"):
        copy_store(tmp_path / "empty", tmp_path / "to")
    with pytest.raises(DataError, match="nosuch://x cannot be reached"):
        copy_store("nosuch://x", tmp_path / "to")
