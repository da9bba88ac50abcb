"""A feature store gives back, by row and by feature, what the SAE computed."""

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from mechprobe.errors import CheckpointError, ShapeError, StoreError
from mechprobe.saes.decoding import decode_sparse
from mechprobe.saes.encoding import encode_rows, encode_store
from mechprobe.saes.features import FeatureStore
from tests.saes.made_sae import D_IN, D_SAE, HOOK, MadeSae, write_store


@torch.no_grad()
def dense(sae: MadeSae, acts: torch.Tensor) -> np.ndarray:
    return sae.encode(acts).numpy()


def test_rows_and_features_agree_with_the_dense_encoding(tmp_path: Path):
    store, sae = write_store(tmp_path / "store"), MadeSae()
    features = encode_store(store, HOOK, sae, tmp_path / "features")
    wanted = dense(sae, store.acts(HOOK)).astype(np.float16).astype(np.float32)
    assert np.array_equal(features.csr().toarray(), wanted)
    some = np.array([17, 0, 5, 5, 4])
    assert np.array_equal(features.csr(some).toarray(), wanted[some])
    assert features.csr(some[:0]).shape == (0, D_SAE)
    for feature in range(D_SAE):
        rows, values = features.feature(feature)
        assert np.array_equal(rows, np.flatnonzero(wanted[:, feature]))
        assert np.array_equal(values, wanted[rows, feature])


def test_a_selection_of_rows_keeps_the_numbers_of_the_activation_store(tmp_path: Path):
    store, sae = write_store(tmp_path / "store"), MadeSae()
    chosen = np.array([16, 2, 3, 11])
    features = encode_store(store, HOOK, sae, tmp_path / "features", chosen)
    assert list(features.rows) == [2, 3, 11, 16]
    wanted = dense(sae, store.acts(HOOK, chosen)).astype(np.float16)
    assert np.array_equal(features.csr(chosen).toarray().astype(np.float16), wanted)
    with pytest.raises(ShapeError, match="row 4 is not among the 4 rows"):
        features.csr(np.array([2, 4]))


def test_encoding_in_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch):
    sae, acts = MadeSae(), torch.randn(70, D_IN, generator=torch.Generator().manual_seed(3))
    whole = encode_rows(sae, acts)
    monkeypatch.setattr("mechprobe.saes.encoding._DENSE_NUMBERS", 16 * D_SAE)
    chunked = encode_rows(sae, acts)
    # The same features are active; a product with fewer rows may round its last bit otherwise.
    assert np.array_equal(chunked.indptr, whole.indptr)
    assert np.array_equal(chunked.indices, whole.indices)
    assert np.allclose(chunked.data, whole.data, rtol=1e-5, atol=1e-6)
    assert encode_rows(sae, acts[:0]).shape == (0, D_SAE)


def test_sparse_decoding_agrees_with_dense_decoding():
    sae = MadeSae()
    acts = torch.randn(9, D_IN, generator=torch.Generator().manual_seed(4))
    acts[3] = sae.b_dec.detach()  # no feature is active there: only the bias is left
    features = encode_rows(sae, acts)
    assert features.getnnz(axis=1)[3] == 0
    with torch.no_grad():
        wanted = sae.decode(sae.encode(acts))
    assert torch.allclose(decode_sparse(sae, features), wanted, atol=1e-5)


def test_top_examples_are_the_best_token_of_each_transcript_with_its_neighbours(tmp_path: Path):
    store, sae = write_store(tmp_path / "store"), MadeSae(bias=0.5)
    features = encode_store(store, HOOK, sae, tmp_path / "features")
    acts = features.csr().toarray()[:, 2]
    tops = features.top_examples(2, n=5, tokens=store.tokens, context=2)
    conversations = store.tokens["conversation"].to_numpy()
    best = [acts[conversations == c].max() for c in (0, 1, 3)]
    assert [top.act for top in tops] == sorted((a for a in best if a > 0), reverse=True)
    for top in tops:
        assert top.act == acts[top.row]
        assert top.acts[top.position] == top.act
        assert top.token_ids[top.position] == store.tokens["token_id"][top.row]
        assert len(top.token_ids) <= 5
        assert {token // 100 for token in top.token_ids} == {int(top.transcript_id[1:])}


def test_an_interrupted_encoding_goes_on_where_it_stopped(tmp_path: Path):
    store, sae = write_store(tmp_path / "store"), MadeSae()
    encode_store(store, HOOK, sae, tmp_path / "whole")
    encode_store(store, HOOK, sae, tmp_path / "cut")
    (tmp_path / "cut" / "shard-00001.json").unlink()
    with pytest.raises(StoreError, match="unfinished"):
        FeatureStore.open(tmp_path / "cut")
    kept = (tmp_path / "cut" / "shard-00000.safetensors").stat().st_mtime_ns
    encode_store(store, HOOK, sae, tmp_path / "cut")
    assert (tmp_path / "cut" / "shard-00000.safetensors").stat().st_mtime_ns == kept
    for path in filter(Path.is_file, (tmp_path / "whole").rglob("*")):
        assert (
            path.read_bytes()
            == (tmp_path / "cut" / path.relative_to(tmp_path / "whole")).read_bytes()
        )


def test_damage_and_misuse_are_named(tmp_path: Path):
    store, sae = write_store(tmp_path / "store"), MadeSae()
    features = encode_store(store, HOOK, sae, tmp_path / "features")
    features.verify()
    with pytest.raises(ShapeError, match="feature 24 of an SAE with features 0 to 23"):
        features.feature(D_SAE)
    with pytest.raises(StoreError, match="features of another sae;"):
        encode_store(store, HOOK, MadeSae(seed=1), tmp_path / "features")
    with pytest.raises(StoreError, match="features of another rows;"):
        encode_store(store, HOOK, sae, tmp_path / "features", slice(0, 3))
    with pytest.raises(StoreError, match=r"no features\.json"):
        FeatureStore.open(tmp_path / "store")
    with pytest.raises(StoreError, match="not empty"):
        encode_store(store, HOOK, sae, tmp_path / "store")
    with pytest.raises(CheckpointError, match="width 9"):
        encode_store(store, HOOK, MadeSae(d_in=9), tmp_path / "wide")
    path = tmp_path / "features" / "shard-00001.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(StoreError, match=r"shard-00001\.safetensors"):
        features.verify()
    path.write_bytes(bytes(data[:-1]))
    with pytest.raises(StoreError, match=r"shard-00001\.safetensors has"):
        FeatureStore.open(tmp_path / "features")


def test_a_feature_beyond_half_precision_is_refused(tmp_path: Path):
    store, sae = write_store(tmp_path / "store"), MadeSae(bias=1e6)
    with pytest.raises(StoreError, match="more than float16 holds"):
        encode_store(store, HOOK, sae, tmp_path / "features")


def test_wide_saes_get_wider_indices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store, sae = write_store(tmp_path / "store"), MadeSae()
    narrow = encode_store(store, HOOK, sae, tmp_path / "narrow")
    monkeypatch.setattr("mechprobe.saes.codes._MAX_UINT16", D_SAE - 1)
    wide = encode_store(store, HOOK, sae, tmp_path / "wide")
    assert (narrow.csr() != wide.csr()).nnz == 0
    assert isinstance(wide.csr(), sp.csr_matrix)
    sizes = [(tmp_path / n / "shard-00001.safetensors").stat().st_size for n in ("narrow", "wide")]
    assert sizes[0] < sizes[1]
