"""The activations by feature are those by row, sorted otherwise, and can always be built again."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from mechprobe.activations.store import ActivationStore
from mechprobe.errors import StoreError
from mechprobe.executors.work import Done
from mechprobe.saes.codes import pack_rows, unpack_rows
from mechprobe.saes.encoding import encode_store
from mechprobe.saes.features import INDEX_FOLDER, FeatureStore
from tests.saes.made_sae import D_SAE, HOOK, MadeSae, write_store


@pytest.fixture
def features(tmp_path: Path) -> FeatureStore:
    store = write_store(tmp_path / "store", sizes=(5, 7, 6))
    return encode_store(store, HOOK, MadeSae(), tmp_path / "features")


def bytes_of(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def same_as_rows(features: FeatureStore) -> bool:
    wanted = features.csr().toarray()
    for feature, rows, values in features.index.in_order():
        fired = np.flatnonzero(wanted[:, feature])
        if not (
            np.array_equal(rows, features.rows[fired])
            and np.array_equal(values, wanted[fired, feature])
        ):
            return False
    return True


def test_bands_of_any_size_hold_the_same_activations(
    features: FeatureStore, monkeypatch: pytest.MonkeyPatch
):
    assert len(features.index.bands) == 1
    assert same_as_rows(features)
    third = features.feature(3)
    for size in (1, 7, 30):
        monkeypatch.setattr("mechprobe.saes.inverted._BAND_ENTRIES", size)
        shutil.rmtree(features.folder / INDEX_FOLDER)
        again = FeatureStore.open(features.folder)
        assert len(again.index.bands) > 1
        assert same_as_rows(again)
        assert [feature for feature, _, _ in again.index.in_order()] == list(range(D_SAE))
        assert np.array_equal(again.index.counts(), again.csr().getnnz(axis=0))
        assert np.array_equal(again.feature(3), third)


def test_a_lost_or_stale_index_is_built_again_with_the_same_bytes(
    features: FeatureStore, tmp_path: Path
):
    folder = features.folder / INDEX_FOLDER
    before = bytes_of(folder)
    (folder / "index.json").unlink()
    assert same_as_rows(FeatureStore.open(features.folder))
    assert bytes_of(folder) == before
    store = write_store(tmp_path / "other_store", sizes=(5, 7, 6), seed=3)
    other = encode_store(store, HOOK, MadeSae(), tmp_path / "other")
    shutil.rmtree(folder)
    shutil.copytree(other.folder / INDEX_FOLDER, folder)
    assert same_as_rows(FeatureStore.open(features.folder))
    assert bytes_of(folder) == before


def test_damage_to_the_index_is_found(features: FeatureStore):
    path = features.folder / INDEX_FOLDER / "shard-00000.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(StoreError, match=r"by_feature.*built again from the rows"):
        FeatureStore.open(features.folder).verify()


def test_rows_of_one_length_are_kept_without_bounds_and_read_alike():
    rng = np.random.default_rng(0)
    even = sp.csr_matrix(
        (
            rng.uniform(1, 2, 12),
            rng.permuted(np.tile(np.arange(6), (4, 1)), axis=1)[:, :3].ravel(),
            np.arange(0, 13, 3),
        ),
        shape=(4, 6),
    )
    even.sort_indices()
    short = even.copy()
    short.data[4] = 1e-9  # nothing in float16: the row gets a pad
    uneven = sp.csr_matrix(np.eye(40, 6) + (np.arange(40)[:, None] == 7) * np.ones(6))
    for matrix, is_fixed in ((even, True), (short, True), (uneven, False)):
        arrays = {
            name: t.numpy() for name, t in pack_rows(matrix, np.arange(matrix.shape[0])).items()
        }
        assert ("indptr" not in arrays) == is_fixed
        wanted = matrix.toarray().astype(np.float16).astype(np.float32)
        for local in (None, np.array([3, 0, 3])):
            counts, index, value = unpack_rows(arrays, local)
            bounds = np.concatenate([[0], np.cumsum(counts)])
            found = sp.csr_matrix((value, index, bounds), shape=(len(counts), 6)).toarray()
            assert np.array_equal(found, wanted if local is None else wanted[local])
            assert (value != 0).all()


class Elsewhere:
    """An executor whose work may not use this process's objects; it takes the last unit first, and one twice."""

    is_here = False

    def map(self, make_work, units):
        work = make_work()
        for unit in [*reversed(units), *units[:1]]:
            yield Done(unit=unit, result=work(unit))


def test_shards_made_elsewhere_in_any_order_are_the_same_bytes(
    features: FeatureStore, tmp_path: Path
):
    store = ActivationStore.open(tmp_path / "store")
    encode_store(store, HOOK, MadeSae(), tmp_path / "elsewhere", executor=Elsewhere())
    assert bytes_of(tmp_path / "elsewhere") == bytes_of(features.folder)
    some = np.array([1, 6, 7, 16])
    for name, executor in (("some", None), ("some_elsewhere", Elsewhere())):
        encode_store(store, HOOK, MadeSae(), tmp_path / name, some, executor=executor)
    assert bytes_of(tmp_path / "some") == bytes_of(tmp_path / "some_elsewhere")
