"""What is trained here is an ordinary sae-lens SAE, and sae-lens' SAEs are used rightly here."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from mechprobe.activations.store import ActivationStore
from mechprobe.errors import CheckpointError, ConfigError
from mechprobe.saes.attachment import feature_edit, set_features
from mechprobe.saes.checkpoints import check_fits, load_sae, save_sae
from mechprobe.saes.decoding import decode_sparse
from mechprobe.saes.encoding import encode_rows, encode_store
from mechprobe.saes.lens import import_sae_lens
from mechprobe.saes.manifest import (
    describe_checkpoint,
    read_manifest,
    verify_manifest,
    write_manifest,
)
from mechprobe.saes.quality import sae_quality
from mechprobe.saes.training.config import SaeConfig
from mechprobe.saes.training.runs import fit_sae, train_sae
from tests.saes.made_training import write_one_shard

pytestmark = pytest.mark.slow  # importing sae-lens alone takes many seconds

HOOK = "blocks.0.hook_out"
D_IN, N_FEATURES, N_TOKENS = 16, 24, 4096
SHORT = SaeConfig(d_sae=48, k=3, n_steps=300, batch_size=256, lr=5e-3)


def planted_directions() -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return normalize(torch.randn(N_FEATURES, D_IN, generator=generator), dim=-1)


def planted_acts() -> Tensor:
    """Sparse sums of known directions, away from the origin as residual streams are."""
    generator = torch.Generator().manual_seed(6)
    is_active = torch.rand(N_TOKENS, N_FEATURES, generator=generator) < 2 / N_FEATURES
    strength = 4 + 4 * torch.rand(N_TOKENS, N_FEATURES, generator=generator)
    return (is_active * strength) @ planted_directions() + 10.0


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ActivationStore:
    folder = tmp_path_factory.mktemp("planted") / "store"
    return write_one_shard(folder, {HOOK: planted_acts()})


@pytest.fixture(scope="module")
def trained(store: ActivationStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_sae(store, HOOK, SHORT, tmp_path_factory.mktemp("saes") / "batchtopk")


def test_training_finds_the_planted_directions(store: ActivationStore, trained: Path):
    sae = load_sae(trained)
    cosines = planted_directions() @ normalize(sae.W_dec, dim=-1).T
    assert float(cosines.max(1).values.median()) > 0.9
    acts = store.acts(HOOK)
    loss = (acts - sae(acts)).pow(2).sum()
    assert float(1 - loss / (acts - acts.mean(0)).pow(2).sum()) > 0.8
    assert float((sae.encode(acts) > 0).float().sum(1).mean()) == pytest.approx(SHORT.k, rel=0.3)


def test_plain_sae_lens_loads_it_with_equal_output(store: ActivationStore, trained: Path):
    plain = import_sae_lens().SAE.load_from_disk(trained)
    acts = store.acts(HOOK, slice(0, 64))
    assert plain.cfg.architecture() == "jumprelu"
    assert plain.cfg.normalize_activations == "none"
    assert plain.cfg.metadata.hook_name == HOOK
    assert plain.cfg.metadata.model_name == "org/toy"
    assert plain.cfg.metadata.training_architecture == "batchtopk"
    with torch.no_grad():
        assert torch.equal(plain(acts), load_sae(trained)(acts))


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_generator(
    store: ActivationStore, trained: Path, tmp_path: Path
):
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    again = train_sae(store, HOOK, SHORT, tmp_path / "again")
    assert torch.equal(torch.random.get_rng_state(), before)
    weights = "sae_weights.safetensors"
    assert (again / weights).read_bytes() == (trained / weights).read_bytes()


def test_training_what_is_trained_does_nothing(store: ActivationStore, trained: Path):
    stamps = {path.name: path.stat().st_mtime_ns for path in trained.iterdir()}
    assert sorted(stamps) == ["cfg.json", "record.json", "sae_weights.safetensors"]
    assert train_sae(store, HOOK, SHORT, trained) == trained
    assert {path.name: path.stat().st_mtime_ns for path in trained.iterdir()} == stamps


@pytest.mark.parametrize("architecture", ["standard", "topk", "jumprelu"])
def test_each_architecture_is_saved_as_it_was_trained(
    store: ActivationStore, tmp_path: Path, architecture
):
    config = SaeConfig(architecture=architecture, d_sae=32, k=3, n_steps=40, batch_size=128)
    fitted = fit_sae(store, HOOK, config, slice(0, 500))
    sae = load_sae(train_sae(store, HOOK, config, tmp_path, slice(0, 500)))
    acts = store.acts(HOOK, slice(0, 64))
    assert sae.cfg.architecture() == architecture
    with torch.no_grad():
        assert torch.allclose(sae(acts), fitted(acts), atol=1e-3)
        dense = sae.decode(sae.encode(acts))
    assert torch.allclose(decode_sparse(sae, encode_rows(sae, acts)), dense, atol=1e-4)


def test_half_precision_halves_the_file_and_little_changes(
    store: ActivationStore, trained: Path, tmp_path: Path
):
    sae = load_sae(trained)
    save_sae(sae, tmp_path, dtype="float16")
    weights = "sae_weights.safetensors"
    assert (tmp_path / weights).stat().st_size < 0.6 * (trained / weights).stat().st_size
    assert sae.W_dec.dtype == torch.float32
    acts = store.acts(HOOK, slice(0, 200))
    shipped = load_sae(tmp_path)
    assert shipped.W_dec.dtype == torch.float32
    with torch.no_grad():
        # A feature at its threshold may fall on the other side of it; nothing else moves.
        crossed = ((shipped.encode(acts) > 0) != (sae.encode(acts) > 0)).any(1)
        assert float(crossed.float().mean()) < 0.03
        assert torch.allclose(shipped(acts)[~crossed], sae(acts)[~crossed], atol=0.02)


def test_explained_variance_is_that_of_sae_lens(
    store: ActivationStore, trained: Path, tmp_path: Path
):
    sae = load_sae(trained)
    features = encode_store(store, HOOK, sae, tmp_path)
    calculator = import_sae_lens("sae_lens.evals").ExplainedVarianceCalculator()
    for start in range(0, N_TOKENS, 1000):
        acts = store.acts(HOOK, slice(start, start + 1000))
        calculator.add_batch(sae(acts), acts)
    row = sae_quality(store, features, sae).iloc[0]
    assert row["explained_variance"] == pytest.approx(calculator.compute(), abs=1e-4)
    assert row["l0"] == pytest.approx(float((sae.encode(store.acts(HOOK)) > 0).sum() / N_TOKENS))


def test_an_edit_moves_by_the_decoder_row(store: ActivationStore, trained: Path):
    sae, acts = load_sae(trained), store.acts(HOOK, slice(0, 50))
    assert torch.equal(feature_edit(sae, lambda f: f)(acts), acts)
    delta = 2.0 - sae.encode(acts)[:, 5]
    edited = feature_edit(sae, set_features([5], 2.0))(acts)
    assert torch.equal(edited, acts + delta[:, None] * sae.W_dec[5])


def test_an_sae_that_does_not_fit_is_refused(trained: Path):
    sae = load_sae(trained)
    check_fits(sae, D_IN, HOOK, model_name="toy")
    check_fits(sae, D_IN, "canonical", resolve=lambda name: {HOOK: "canonical"}[name])
    for arguments, message in [
        ((64, HOOK), "d_in = 16, but blocks.0.hook_out has width 64"),
        ((D_IN, "blocks.1.hook_out"), "trained at blocks.0.hook_out, not at blocks.1.hook_out"),
    ]:
        with pytest.raises(CheckpointError, match=message):
            check_fits(sae, *arguments)
    with pytest.raises(CheckpointError, match="trained on org/toy, not on other"):
        check_fits(sae, D_IN, HOOK, model_name="other")


def test_what_is_no_sae_is_refused(trained: Path, tmp_path: Path):
    with pytest.raises(CheckpointError, match="holds no SAE"):
        load_sae(tmp_path)
    broken = tmp_path / "broken"
    shutil.copytree(trained, broken)
    weights = (broken / "sae_weights.safetensors").read_bytes()
    (broken / "sae_weights.safetensors").write_bytes(weights[:-100])
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_sae(broken)
    with pytest.raises(CheckpointError, match="no-such-release layer_1 cannot be loaded"):
        load_sae("no-such-release", "layer_1")


def test_training_into_a_foreign_folder_is_refused(store: ActivationStore, tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(CheckpointError, match="holds no SAE"):
        train_sae(store, HOOK, SHORT, tmp_path)


def test_the_manifest_tells_when_a_checkpoint_changed(trained: Path, tmp_path: Path):
    shutil.copytree(trained, tmp_path / "toy")
    entry = describe_checkpoint(tmp_path, "toy", command="mechprobe sae toy.toml")
    assert (entry.kind, entry.hook_name, entry.d_in, entry.d_sae) == ("jumprelu", HOOK, D_IN, 48)
    write_manifest(tmp_path, [entry])
    assert read_manifest(tmp_path) == (entry,)
    verify_manifest(tmp_path)
    config = json.loads((tmp_path / "toy" / "cfg.json").read_text())
    (tmp_path / "toy" / "cfg.json").write_text(json.dumps({**config, "d_in": 3}))
    with pytest.raises(CheckpointError, match="make it with `mechprobe sae toy"):
        verify_manifest(tmp_path)


@pytest.mark.parametrize(
    "field", [{"k": 0}, {"k": 99, "d_sae": 10}, {"lr": 0.0}, {"n_steps": -1}, {"d_sae": 0}]
)
def test_settings_out_of_range_are_refused(field: dict):
    with pytest.raises(ConfigError):
        SaeConfig(**field)
