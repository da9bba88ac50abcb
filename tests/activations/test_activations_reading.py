"""Rows are read mapped, selected or shuffled; a shuffled reader goes on from its state with the same batches."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mechprobe.activations.chunk_order import ChunkOrder
from mechprobe.activations.query import TokenQuery
from mechprobe.activations.shuffling import ReaderState, ShuffledReader
from mechprobe.activations.store import ActivationStore
from mechprobe.errors import ConfigError, DataError, HookError, ShapeError
from tests.activations.stores import write_store

HOOK, OTHER = "blocks.0.hook_out", "blocks.1.hook_out"
SIZES = (400, 7, 300, 200, 93)
N = sum(SIZES)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ActivationStore:
    """Row i holds i at one hook point and -i at the other, in shards of one to two conversations."""
    row = torch.arange(N, dtype=torch.float32)[:, None]
    acts = {HOOK: row + torch.zeros(4), OTHER: -row + torch.zeros(6)}
    return write_store(tmp_path_factory.mktemp("stores") / "s", acts, SIZES, cuts=(1, 3))


def rows_of(reader: ShuffledReader, n_batches: int | None = None) -> list[list[int]]:
    batches: list[list[int]] = []
    while n_batches is None or len(batches) < n_batches:
        batch = next(reader, None)
        if batch is None:
            break
        assert torch.equal(batch[HOOK][:, 0], -batch[OTHER][:, 5])
        batches.append(batch[HOOK][:, 0].int().tolist())
    return batches


def reader_of(store: ActivationStore, rows=None, **settings) -> ShuffledReader:
    return ShuffledReader(
        store,
        [HOOK, OTHER],
        rows,
        **{"batch_size": 32, "seed": 0, "buffer_bytes": 24000, **settings},
    )


def test_each_row_comes_once_an_epoch_with_hook_points_aligned(store: ActivationStore):
    batches = rows_of(reader_of(store, epochs=3))
    stream = [row for batch in batches for row in batch]
    assert [len(batch) for batch in batches] == [32] * 93 + [24]
    epochs = [stream[at : at + N] for at in (0, N, 2 * N)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(N))
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_the_order_repeats_with_the_seed_and_not_otherwise(store: ActivationStore):
    first = rows_of(reader_of(store), 40)
    assert rows_of(reader_of(store), 40) == first
    assert rows_of(reader_of(store, seed=1), 40) != first


@pytest.mark.parametrize("n_before", [0, 1, 14, 15, 30, 31, 33, 62, 100])
def test_a_reader_goes_on_from_a_state_in_the_middle_of_an_epoch(
    store: ActivationStore, n_before: int
):
    whole = rows_of(reader_of(store), 110)
    cut = reader_of(store)
    assert rows_of(cut, n_before) == whole[:n_before]
    resumed = reader_of(store)
    resumed.seek(cut.state)
    assert rows_of(resumed, 10) == whole[n_before : n_before + 10]
    resumed.seek_batch(n_before)
    assert rows_of(resumed, 3) == whole[n_before : n_before + 3]


def test_batches_mix_rows_from_all_over_the_store(
    store: ActivationStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("mechprobe.activations.chunk_order.CHUNK_BYTES", 16 * 24)
    batches = rows_of(reader_of(store, epochs=1, buffer_bytes=2 * 512 * 40))
    # A buffer of 512 rows holds 32 chunks of 16; a batch of 32 neighbours would lie in two or three.
    spread = [len({row // 16 for row in batch}) for batch in batches]
    assert min(spread[:-1]) >= 12


def test_selected_rows_alone_are_read(store: ActivationStore):
    generator = np.random.default_rng(0)
    for share in (0.01, 0.5, 0.95):
        rows = np.flatnonzero(generator.random(N) < share)
        found = Counter(row for batch in rows_of(reader_of(store, rows, epochs=1)) for row in batch)
        assert found == Counter(rows.tolist())


def test_a_last_batch_that_is_not_full_can_be_left_out(store: ActivationStore):
    assert [len(b) for b in rows_of(reader_of(store, epochs=1, drop_last=True))] == [32] * 31
    one = reader_of(store, slice(0, 5), epochs=1, drop_last=True)
    assert rows_of(one) == []


def test_batches_of_another_dtype_are_rounded_once(store: ActivationStore):
    wanted = rows_of(reader_of(store, epochs=1))
    found = [
        batch[HOOK].clone() for batch in reader_of(store, epochs=1, dtype=torch.float64, seed=0)
    ]
    assert {batch.dtype for batch in found} == {torch.float64}
    assert [batch[:, 3].int().tolist() for batch in found] == wanted


def test_memory_of_batches_is_used_again(store: ActivationStore):
    batches = reader_of(store, epochs=6)
    # The two halves of the buffer, and a place for batches of which each half holds a part.
    assert len({batch[HOOK].untyped_storage().data_ptr() for batch in batches}) == 3


def test_an_order_says_where_each_row_goes_without_reading():
    order = ChunkOrder.of(
        np.arange(1000), np.array([0, 300, 1000]), row_bytes=1 << 20, block_rows=256, seed=0
    )
    assert [order.block_length(block) for block in range(order.n_blocks)] == [256, 256, 256, 232]
    for block in range(4):
        runs = order.runs(2, block)
        slots = np.concatenate([run.slots for run in runs])
        assert sorted(slots) == list(range(order.block_length(block)))
        assert all(len(run.rows) <= 16 and (np.diff(run.rows) == 1).all() for run in runs)


def test_mapped_blocks_are_all_rows_in_order_and_no_copies(store: ActivationStore):
    blocks = list(store.blocks(max_rows=128))
    assert [block.first_row for block in blocks[:4]] == [0, 128, 256, 384]
    assert torch.cat([block.acts[HOOK] for block in blocks])[:, 0].tolist() == list(range(N))
    first = next(iter(store.blocks([OTHER])))
    assert set(first.acts) == {OTHER}
    mapped = [
        tuple(int(end, 16) for end in line.split()[0].split("-"))
        for line in Path("/proc/self/maps").read_text().splitlines()
        if str(store.path(0)) in line
    ]
    assert any(start <= first.acts[OTHER].data_ptr() < end for start, end in mapped)


def spans() -> pd.DataFrame:
    records = [("lying", True, 3, 5), ("lying", False, 100, 101), ("hiding", True, 500, 500)]
    return pd.DataFrame(records, columns=["indicator", "present", "first_row", "last_row"])


def test_rows_are_found_by_what_their_tokens_are(store: ActivationStore):
    tokens = store.tokens
    everything = TokenQuery().rows(tokens)
    assert len(everything) == N
    answers = TokenQuery(roles=("user",), sections=("answer",)).rows(tokens)
    wanted = [
        i for i in range(N) if tokens["conversation"][i] % 2 and tokens["position"][i] % 3 == 0
    ]
    assert answers.tolist() == wanted
    lying = TokenQuery(indicators=("lying",))
    assert lying.rows(tokens, spans=spans()).tolist() == [3, 4, 5, 100, 101]
    shown = TokenQuery(indicators=("lying", "hiding"), is_present=True)
    assert shown.rows(tokens, spans=spans()).tolist() == [3, 4, 5, 500]
    splits = {f"t{i}": "test" if i == 1 else "fit" for i in range(len(SIZES))}
    test = TokenQuery(splits=("test",)).rows(tokens, split_of=splits)
    assert test.tolist() == list(range(400, 407))
    assert TokenQuery(transcript_ids=("t4",)).rows(tokens).tolist() == list(range(N - 93, N))
    assert TokenQuery(is_sink=True).rows(tokens).tolist() == []


def test_questions_that_mean_nothing_are_refused(store: ActivationStore):
    tokens = store.tokens
    with pytest.raises(ConfigError, match="role has no 'asistant' in this store; it has assistant"):
        TokenQuery(roles=("asistant",)).rows(tokens)
    with pytest.raises(ConfigError, match="give spans"):
        TokenQuery(indicators=("lying",)).rows(tokens)
    with pytest.raises(ConfigError, match="give split_of"):
        TokenQuery(splits=("fit",)).rows(tokens)
    with pytest.raises(ConfigError, match="sections is empty"):
        TokenQuery(sections=())
    with pytest.raises(ConfigError, match="name indicators too"):
        TokenQuery(is_present=True)
    with pytest.raises(DataError, match="no column 'turn'"):
        TokenQuery(turns=(1,)).rows(tokens[["role"]])
    with pytest.raises(HookError):
        ShuffledReader(store, ["blocks.9.hook_out"], batch_size=4, seed=0)
    with pytest.raises(ConfigError, match="batch_size 0"):
        reader_of(store, batch_size=0)
    with pytest.raises(ShapeError, match="no rows"):
        reader_of(store, slice(0, 0))
    with pytest.raises(ConfigError, match="no place in epochs of 5 rows"):
        reader_of(store, slice(0, 5)).seek(ReaderState(position=5))
