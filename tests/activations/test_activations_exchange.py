"""sae-lens reads what is exported, and what it cached becomes a store with the same numbers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from benchmarks.sae_lens_cache import open_cache, write_cache
from mechprobe.activations.exchange import (
    export_sae_lens,
    export_safetensors,
    import_sae_lens,
)
from mechprobe.activations.store import ActivationStore
from mechprobe.cli.main import main
from mechprobe.errors import ConfigError, DataError, StoreError
from mechprobe.models.rendering import ROLES
from tests.activations.stores import write_store

HOOK, OTHER = "blocks.0.hook_out", "blocks.1.hook_out"
SIZES = (300, 90, 250)


@pytest.fixture
def store(tmp_path: Path) -> ActivationStore:
    row = torch.arange(sum(SIZES), dtype=torch.float32)[:, None]
    acts = {HOOK: row + torch.arange(4), OTHER: row / 8 + torch.arange(3)}
    return write_store(tmp_path / "store", acts, SIZES, cuts=(1, 2), dtype="bfloat16")


def test_one_safetensors_file_holds_everything(store: ActivationStore, tmp_path: Path):
    done = export_safetensors(store, tmp_path / "all.safetensors")
    assert done.n_rows == sum(SIZES)
    with safe_open(done.path, "pt") as opened:
        for name in store.hook_names:
            assert opened.get_tensor(name).dtype == torch.bfloat16
            assert torch.equal(opened.get_tensor(name).float(), store.acts(name))
        assert opened.get_tensor("token_id").tolist() == list(store.tokens["token_id"])
        roles = json.loads(opened.metadata()["roles"])
        named = [roles[code] for code in opened.get_tensor("role").tolist()]
        assert named == list(store.tokens["role"])
        assert json.loads(opened.metadata()["transcript_ids"]) == ["t0", "t1", "t2"]


def test_sae_lens_reads_the_exported_rows(store: ActivationStore, tmp_path: Path):
    done = export_sae_lens(store, HOOK, tmp_path / "cache")
    assert (done.n_rows, done.n_left_out) == (640, 0)
    cache = open_cache(tmp_path / "cache", 4, 5)
    acts, token_ids = cache.get_raw_llm_batch()
    assert torch.equal(acts, store.acts(HOOK))
    assert token_ids.tolist() == list(store.tokens["token_id"])
    rest = export_sae_lens(store, OTHER, tmp_path / "odd", context_size=99)
    assert (rest.n_rows, rest.n_left_out) == (594, 46)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "odd", "store"]


def test_what_sae_lens_cached_becomes_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    acts = torch.randn(6 * 128, 16)
    write_cache(acts, torch.arange(6 * 128), tmp_path / "cache")
    monkeypatch.setattr("mechprobe.activations.exchange.SHARD_BYTES", 4 * 128 * 16 * 4)
    store = import_sae_lens(tmp_path / "cache", tmp_path / "store", config={"model": "toy"})
    assert torch.equal(store.acts(HOOK), acts)
    assert [shard.n_rows for shard in store.shards] == [4 * 128, 2 * 128]
    assert list(store.tokens["token_id"]) == list(range(6 * 128))
    assert np.array_equal(store.tokens["position"], np.tile(np.arange(128), 6))
    assert set(store.tokens["role"]) == {ROLES[0]}
    assert store.config["model"] == "toy"
    store.verify()
    # Cut off after the first shard, it goes on to the same bytes.
    before = {path.name: path.read_bytes() for path in (tmp_path / "store").iterdir()}
    (tmp_path / "store" / "shard-00001.json").unlink()
    import_sae_lens(tmp_path / "cache", tmp_path / "store", config={"model": "toy"})
    assert {path.name: path.read_bytes() for path in (tmp_path / "store").iterdir()} == before


def test_there_and_back_from_the_command_line(
    store: ActivationStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    cache, back = str(tmp_path / "cache"), str(tmp_path / "back")
    arguments = ["--format", "sae-lens", "--hook-name", OTHER, "--context-size", "64"]
    main(["store", "export", str(store.folder), "--out", cache, *arguments])
    main(["store", "import", cache, "--out", back, "--dtype", "bfloat16"])
    said = capsys.readouterr().out
    assert "640 rows" in said
    assert torch.equal(ActivationStore.open(tmp_path / "back").acts(OTHER), store.acts(OTHER))
    with pytest.raises(SystemExit, match="1"):
        main(["store", "export", str(store.folder), "--out", cache, "--format", "sae-lens"])
    assert "name one with --hook-name" in capsys.readouterr().err


def test_what_cannot_be_exchanged_is_refused(store: ActivationStore, tmp_path: Path):
    with pytest.raises(ConfigError, match="640 rows make no sequence of 641"):
        export_sae_lens(store, HOOK, tmp_path / "x", context_size=641)
    (tmp_path / "taken").mkdir()
    with pytest.raises(ConfigError, match="there already"):
        export_sae_lens(store, HOOK, tmp_path / "taken")
    with pytest.raises(DataError, match="no dataset on disk"):
        import_sae_lens(tmp_path / "taken", tmp_path / "new")
    write_cache(torch.zeros(128, 4), torch.arange(128), tmp_path / "cache")
    with pytest.raises(StoreError, match="other settings"):
        import_sae_lens(tmp_path / "cache", store.folder)
