"""A store gives back what was written, and says which file is wrong when it cannot."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mechprobe.activations.durable import json_text, seal_of
from mechprobe.activations.store import ActivationStore
from mechprobe.activations.writing import StoreWriter
from mechprobe.errors import ConfigError, HookError, MechprobeError, ShapeError, StoreError

HOOK = "blocks.0.hook_out"
OTHER = "blocks.1.hook_out"
SIZES = (5, 7, 3)


def token_table(first: int, sizes: list[int]) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "conversation": np.repeat(np.arange(first, first + len(sizes), dtype=np.int32), sizes),
            "transcript_id": np.repeat([f"t{first + i}" for i in range(len(sizes))], sizes),
            "position": np.concatenate([np.arange(size) for size in sizes]).astype(np.int32),
            "token_id": np.arange(sum(sizes), dtype=np.int32),
        }
    )
    return frame.astype({"transcript_id": "category"})


def planted(dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        HOOK: torch.randn(sum(SIZES), 4, generator=generator).to(dtype),
        OTHER: torch.randn(sum(SIZES), 6, generator=generator).to(dtype),
    }


def start(folder: Path, dtype: str = "float32", config: dict | None = None) -> StoreWriter:
    return StoreWriter.start(
        folder,
        hooks={HOOK: 4, OTHER: 6},
        dtype=dtype,
        config=config or {"model": "toy"},
        n_conversations=len(SIZES),
    )


def write(folder: Path, dtype: str = "float32", skip: int | None = None) -> dict[str, Tensor]:
    """One conversation a shard."""
    acts, writer = planted(), start(folder, dtype)
    bounds = np.cumsum([0, *SIZES])
    for index, size in enumerate(SIZES):
        if index != skip:
            writer.write(
                index,
                {name: acts[name][bounds[index] : bounds[index + 1]] for name in acts},
                token_table(index, [size]),
                first_conversation=index,
                transcript_ids=[f"t{index}"],
            )
    return acts


def test_rows_come_back_exactly_in_the_order_asked_for(tmp_path: Path):
    acts = write(tmp_path / "store")
    store = ActivationStore.open(tmp_path / "store")
    assert store.n_tokens == sum(SIZES)
    assert store.hook_names == (HOOK, OTHER)
    assert store.transcript_ids == ("t0", "t1", "t2")
    rows = np.array([14, 0, 6, 6, 5, 4])
    for name in (HOOK, OTHER):
        assert torch.equal(store.acts(name), acts[name])
        assert torch.equal(store.acts(name, slice(3, 13)), acts[name][3:13])
        assert torch.equal(store.acts(name, rows), acts[name][rows])
        assert torch.equal(store.acts(name, np.arange(15) % 2 == 0), acts[name][::2])
    assert store.acts(HOOK, np.array([], dtype=np.int64)).shape == (0, 4)
    assert list(store.tokens["transcript_id"]) == ["t0"] * 5 + ["t1"] * 7 + ["t2"] * 3


def test_a_change_to_what_was_read_does_not_reach_the_store(tmp_path: Path):
    acts = write(tmp_path / "store")
    store = ActivationStore.open(tmp_path / "store")
    store.acts(HOOK, slice(0, 5)).zero_()
    assert torch.equal(store.acts(HOOK), acts[HOOK])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_rounded_once(tmp_path: Path, dtype: str):
    acts = write(tmp_path / "store", dtype)
    read = ActivationStore.open(tmp_path / "store").acts(HOOK)
    assert read.dtype == torch.float32
    assert torch.equal(read, acts[HOOK].to(getattr(torch, dtype)).float())


def test_the_shards_are_plain_safetensors(tmp_path: Path):
    acts = write(tmp_path / "store")
    read = load_file(tmp_path / "store" / "shard-00001.safetensors")
    assert torch.equal(read[OTHER], acts[OTHER][5:12])


def test_batches_in_order_cover_each_row_once(tmp_path: Path):
    acts = write(tmp_path / "store")
    store = ActivationStore.open(tmp_path / "store")
    batches = list(store.batches(HOOK, batch_size=4))
    assert [len(batch) for batch in batches] == [4, 4, 4, 3]
    assert torch.equal(torch.cat(batches), acts[HOOK])
    assert [len(batch) for batch in store.batches(HOOK, batch_size=4, drop_last=True)] == [4, 4, 4]


def test_shuffled_batches_hold_each_row_once_an_epoch_and_repeat_with_the_seed(tmp_path: Path):
    acts = write(tmp_path / "store")
    store = ActivationStore.open(tmp_path / "store")
    rows = np.array([0, 2, 5, 9, 13, 14])
    first = torch.cat(list(store.batches(HOOK, rows, batch_size=4, seed=1, epochs=2)))
    again = torch.cat(list(store.batches(HOOK, rows, batch_size=4, seed=1, epochs=2)))
    other = torch.cat(list(store.batches(HOOK, rows, batch_size=4, seed=2, epochs=2)))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    for epoch in first.split(len(rows)):
        assert sorted(map(tuple, epoch.tolist())) == sorted(map(tuple, acts[HOOK][rows].tolist()))


def test_endless_batches_are_always_full(tmp_path: Path):
    write(tmp_path / "store")
    batches = ActivationStore.open(tmp_path / "store").batches(
        HOOK, batch_size=8, seed=0, epochs=None
    )
    assert {len(next(batches)) for _ in range(20)} == {8}


def test_writing_twice_gives_the_same_bytes(tmp_path: Path):
    write(tmp_path / "a")
    write(tmp_path / "b")
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_verify_names_the_damaged_file(tmp_path: Path):
    write(tmp_path)
    store = ActivationStore.open(tmp_path)
    store.verify()
    path = tmp_path / "shard-00001.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))
    place = r"shard-00001\.safetensors, blocks\.1\.hook_out, rows 5 to 11: has another xxh3"
    with pytest.raises(StoreError, match=place):
        ActivationStore.open(tmp_path).verify()


def truncate(folder: Path) -> None:
    path = folder / "shard-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def edit_json(name: str, is_sealed: bool = True, /, **changes: object):
    def edit(folder: Path) -> None:
        path = folder / name
        fields = {**json.loads(path.read_text()), **changes}
        path.write_text(json_text({**fields, "seal": seal_of(fields)} if is_sealed else fields))

    return edit


DAMAGES = {
    "truncated shard": (truncate, r"shard-00002\.safetensors has \d+ bytes, its sidecar says \d+"),
    "missing shard": (
        lambda folder: (folder / "shard-00001.parquet").unlink(),
        r"shard-00001\.parquet is missing",
    ),
    "missing sidecar": (
        lambda folder: (folder / "shard-00001.json").unlink(),
        "unfinished: it holds the first 1 of 3",
    ),
    "newer schema": (edit_json("store.json", schema=99), "schema 99.*upgrade"),
    "older schema": (edit_json("store.json", schema=1), "schema 1.*write it again"),
    "schema is no number": (edit_json("store.json", schema="2"), "schema 2.*upgrade"),
    "changed header": (edit_json("store.json", False, dtype="float16"), "changed after it was"),
    "changed sidecar": (edit_json("shard-00001.json", False, n_rows=9), "changed after it was"),
    "newer shard": (edit_json("shard-00000.json", schema=99), "schema 99.*upgrade"),
    "another store's shard": (edit_json("shard-00000.json", config="x"), "other settings"),
    "broken header": (lambda folder: (folder / "store.json").write_text("{"), "cannot be read"),
    "no header": (lambda folder: (folder / "store.json").unlink(), "no activation store"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_seen_at_opening(tmp_path: Path, name: str):
    write(tmp_path)
    damage, message = DAMAGES[name]
    damage(tmp_path)
    with pytest.raises(StoreError, match=message):
        ActivationStore.open(tmp_path)


def test_a_missing_folder_is_no_store(tmp_path: Path):
    with pytest.raises(StoreError, match="does not exist"):
        ActivationStore.open(tmp_path / "nowhere")


def test_a_foreign_folder_is_left_alone(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(StoreError, match=r"not empty \(found: thesis.tex\)"):
        start(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_other_settings_are_refused_by_name(tmp_path: Path):
    start(tmp_path, config={"model": "toy", "batch": 1})
    with pytest.raises(StoreError, match=r"batch is 1, wanted 2\); capture into a new folder"):
        start(tmp_path, config={"model": "toy", "batch": 2})
    with pytest.raises(StoreError, match="dtype is 'float32', wanted 'bfloat16'"):
        start(tmp_path, "bfloat16", config={"model": "toy", "batch": 1})


def test_a_finished_shard_is_known_and_a_damaged_one_is_not(tmp_path: Path):
    write(tmp_path, skip=1)
    writer = start(tmp_path)
    assert [writer.finished(index) is not None for index in range(4)] == [True, False, True, False]
    truncate(tmp_path)
    assert writer.finished(2) is None


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_activations_that_are_not_finite_are_refused_with_their_place(tmp_path: Path, bad: float):
    acts = {name: tensor[:5].clone() for name, tensor in planted().items()}
    acts[OTHER][3, 2] = bad
    with pytest.raises(StoreError, match=rf"{OTHER} are not finite in transcript 't0', token 3"):
        start(tmp_path).write(
            0, acts, token_table(0, [5]), first_conversation=0, transcript_ids=["t0"]
        )
    assert [path.name for path in tmp_path.iterdir()] == ["store.json"]


def test_overflow_in_half_precision_is_told_from_a_broken_model(tmp_path: Path):
    acts = {name: tensor[:5] * 1e6 for name, tensor in planted().items()}
    with pytest.raises(StoreError, match="rounding to float16"):
        start(tmp_path, "float16").write(
            0, acts, token_table(0, [5]), first_conversation=0, transcript_ids=["t0"]
        )


def test_bad_questions_are_answered_in_one_line(tmp_path: Path):
    write(tmp_path)
    store = ActivationStore.open(tmp_path)
    questions: list[tuple[type[MechprobeError], str, object]] = [
        (
            HookError,
            "blocks.0.hook_out, blocks.1.hook_out",
            lambda: store.acts("blocks.9.hook_out"),
        ),
        (ShapeError, "rows 0 to 14", lambda: store.acts(HOOK, np.array([15]))),
        (ShapeError, "rows -1 to", lambda: store.acts(HOOK, np.array([-1]))),
        (ShapeError, "mask", lambda: store.acts(HOOK, np.array([True]))),
        (ShapeError, "no rows", lambda: store.batches(HOOK, slice(0, 0), batch_size=2)),
        (ConfigError, "int4", lambda: start(tmp_path, "int4")),
        (
            ShapeError,
            r"shape \(15, 4\), wanted \(5, 4\)",
            lambda: start(tmp_path).write(
                0, planted(), token_table(0, [5]), first_conversation=0, transcript_ids=["t0"]
            ),
        ),
    ]
    for kind, message, ask in questions:
        with pytest.raises(kind, match=message):
            ask()
