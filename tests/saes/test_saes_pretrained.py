"""SAEs of other projects give, from local files, what their formulas say, and are bound where they belong."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from mechprobe.cli.main import main
from mechprobe.cli.saes import study_named
from mechprobe.errors import CheckpointError, ConfigError, HookError
from mechprobe.saes.checkpoints import load_sae
from mechprobe.saes.pretrained.binding import bind
from mechprobe.saes.pretrained.formats import locate
from mechprobe.saes.pretrained.registry import find_release, find_releases
from tests.saes.made_formats import (
    D_IN,
    D_OUT,
    D_SAE,
    made_weights,
    write_dictionary_learning,
    write_gemma_scope,
    write_gemma_transcoder,
    write_llama_scope,
    write_relu_transcoder,
    write_sparsify,
)
from tests.saes.made_sae import MadeSae

pytestmark = pytest.mark.slow  # importing sae-lens alone takes many seconds


def tokens() -> Tensor:
    return torch.randn(40, D_IN, generator=torch.Generator().manual_seed(1))


def jumped(pre: Tensor, threshold: Tensor | float) -> Tensor:
    return pre * (pre > threshold) * (pre > 0)


def check(path: Path, codes: Tensor, out: Tensor, tolerance: float = 1e-5) -> Any:
    sae = load_sae(path)
    assert sae.W_dec.dtype == torch.float32
    assert torch.allclose(sae.encode(tokens()), codes, atol=tolerance)
    assert torch.allclose(sae.decode(sae.encode(tokens())), out, atol=10 * tolerance)
    return sae


def test_gemma_scope(tmp_path: Path):
    w = made_weights()
    codes = jumped(tokens() @ w["W_enc"] + w["b_enc"], w["threshold"])
    sae = check(write_gemma_scope(tmp_path, w), codes, codes @ w["W_dec"] + w["b_dec"])
    assert sae.cfg.metadata.hook_name == "blocks.20.hook_resid_post"
    assert (sae.cfg.metadata.model_name, sae.cfg.d_in) == ("gemma-2-2b", D_IN)


def test_gemma_scope_files_without_their_folders_are_refused(tmp_path: Path):
    source = write_gemma_scope(tmp_path / "whole", made_weights())
    shutil.copytree(source, tmp_path / "alone")
    with pytest.raises(CheckpointError, match="no folder above it is named as its repository"):
        load_sae(tmp_path / "alone")


def test_llama_scope_is_scaled_by_its_norm(tmp_path: Path):
    w = {name: tensor.bfloat16().float() for name, tensor in made_weights().items()}
    norm, threshold = 4.0, 0.25
    path = write_llama_scope(tmp_path, w, norm=norm, threshold=threshold)
    scale = D_IN**0.5 / norm
    # sae-lens multiplies Llama Scope's threshold by the scale, and reads these weights in bfloat16.
    pre = (scale * tokens()) @ w["W_enc"] + w["b_enc"]
    codes = jumped(pre, float(torch.tensor(threshold * scale).bfloat16()))
    sae = load_sae(path)
    with torch.no_grad():
        close = (sae.encode(tokens()) - codes).abs() < 0.05
    assert close.float().mean() > 0.99
    assert torch.allclose(sae.decode(codes), (codes @ w["W_dec"] + w["b_dec"]) / scale, atol=1e-4)
    assert sae.cfg.normalize_activations == "none"
    assert sae.cfg.metadata.hook_name == "blocks.5.hook_resid_post"


def test_sparsify_with_its_decoder_as_it_is_written_today(tmp_path: Path):
    w = {name: tensor.bfloat16().float() for name, tensor in made_weights().items()}
    pre = (tokens() - w["b_dec"]) @ w["W_enc"] + w["b_enc"]
    top = pre.topk(3)
    codes = torch.zeros(40, D_SAE).scatter(1, top.indices, top.values.relu())
    out = codes @ w["W_dec"] + w["b_dec"]
    sae = check(write_sparsify(tmp_path, w, k=3), codes, out)
    assert sae.cfg.metadata.hook_name == "blocks.7.hook_resid_post"
    assert sae.cfg.metadata.model_name == "EleutherAI/pythia-14m"


@pytest.mark.parametrize(
    ("dict_class", "own", "architecture"),
    [
        ("AutoEncoder", {}, "standard"),
        ("AutoEncoderTopK", {"k": 3}, "topk"),
        ("BatchTopKSAE", {"k": 3}, "jumprelu"),
    ],
)
def test_dictionary_learning(
    tmp_path: Path, dict_class: str, own: dict[str, int], architecture: str
):
    w = made_weights()
    pre = (tokens() - w["b_dec"]) @ w["W_enc"] + w["b_enc"]
    top = pre.topk(3)
    codes = {
        "standard": pre.relu(),
        "topk": torch.zeros_like(pre).scatter(1, top.indices, top.values.relu()),
        "jumprelu": jumped(pre, 0.5),
    }[architecture]
    path = write_dictionary_learning(tmp_path, w, dict_class, **own)
    sae = check(path, codes, codes @ w["W_dec"] + w["b_dec"])
    assert sae.cfg.architecture() == architecture
    assert sae.cfg.metadata.hook_name == "blocks.2.hook_resid_post"


def test_transcoders(tmp_path: Path):
    w = made_weights(D_OUT)
    codes = jumped(tokens() @ w["W_enc"] + w["b_enc"], w["threshold"])
    out = codes @ w["W_dec"] + w["b_dec"]
    sae = check(write_gemma_transcoder(tmp_path, w), codes, out)
    assert sae.cfg.metadata.hook_name_out == "blocks.3.hook_mlp_out"
    relu = (tokens() @ w["W_enc"] + w["b_enc"]).relu()
    sae = check(write_relu_transcoder(tmp_path, w), relu, relu @ w["W_dec"] + w["b_dec"])
    widths = {"blocks.4.mlp.hook_in": D_IN, "blocks.4.hook_mlp_out": D_OUT}
    found = bind(sae, resolve=str, width=widths.__getitem__, model_name="qwen/qwen3-0.6b")
    assert (found.hook_name, found.hook_name_out) == tuple(widths)


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path):
    w = made_weights()
    w["W_dec"] = torch.randn(D_SAE + 1, D_IN)
    with pytest.raises(CheckpointError, match=r"16 features and the decoder \(17, 6\)"):
        load_sae(write_gemma_scope(tmp_path / "a", w))
    path = write_sparsify(tmp_path / "b", made_weights(), k=2)
    weights = (path / "sae.safetensors").read_bytes()
    (path / "sae.safetensors").write_bytes(weights[:-40])
    with pytest.raises(CheckpointError, match=r"the sparsify SAE .* cannot be loaded"):
        load_sae(path)
    with pytest.raises(CheckpointError, match=r"holds no SAE \(found: params\.npy\)"):
        (tmp_path / "c").mkdir()
        (tmp_path / "c" / "params.npy").touch()
        locate(tmp_path / "c")


def made(**metadata: Any) -> MadeSae:
    settings = {"normalize_activations": metadata.pop("scaling", "none")}
    known = {
        "hook_name": "blocks.0.hook_resid_post",
        "hook_name_out": None,
        "model_name": "org/toy",
        "prepend_bos": None,
        "model_from_pretrained_kwargs": {},
        **metadata,
    }
    return MadeSae(metadata=SimpleNamespace(**known), reshape_activations="none", **settings)


def resolve(name: str) -> str:
    names = {
        "blocks.0.hook_resid_post": "blocks.0.hook_out",
        "blocks.0.hook_out": "blocks.0.hook_out",
    }
    if name not in names:
        raise HookError(f"no {name}")
    return names[name]


def test_an_sae_is_bound_to_the_hook_point_that_it_names():
    found = bind(made(), resolve=resolve, width={"blocks.0.hook_out": 8}.__getitem__)
    assert (found.hook_name, found.hook_name_out) == ("blocks.0.hook_out",) * 2
    assert found.notes == ()


@pytest.mark.parametrize(
    ("metadata", "width", "message"),
    [
        ({}, 9, "reads activations of width 8, but blocks.0.hook_out has width 9"),
        ({"hook_name": "blocks.7.hook_z"}, 8, "reads blocks.7.hook_z, which this model does not"),
        ({"hook_name": None}, 8, "does not say its hook point"),
        ({"model_name": "org/other"}, 8, "trained on org/other, not on toy"),
        ({"scaling": "expected_average_only_in"}, 8, "the scale is not folded"),
    ],
)
def test_an_sae_that_does_not_fit_is_refused(metadata: dict, width: int, message: str):
    with pytest.raises(CheckpointError, match=message):
        bind(made(**metadata), resolve=resolve, width=lambda _: width, model_name="toy")


@pytest.mark.parametrize(
    ("metadata", "note"),
    [
        ({"prepend_bos": True}, "trained on texts with BOS, which are captured here without it"),
        ({"scaling": "layer_norm"}, "normalises each input"),
        (
            {"model_from_pretrained_kwargs": {"center_writing_weights": True}},
            "changed weights (center_writing_weights)",
        ),
    ],
)
def test_what_differs_a_little_is_told(metadata: dict, note: str):
    found = bind(made(**metadata), resolve=resolve, width=lambda _: 8, begins_with_bos=False)
    assert len(found.notes) == 1
    assert note in found.notes[0]


def test_the_registry_is_that_of_sae_lens(capsys: pytest.CaptureFixture[str]):
    found = {release.name: release for release in find_releases("google/gemma-2-2b")}
    scope = found["gemma-scope-2b-pt-res"]
    assert scope.format == "gemma_2"
    assert scope.repository == "google/gemma-scope-2b-pt-res"
    assert "layer_20/width_16k/average_l0_71" in {sae.sae_id for sae in scope.saes}
    assert all("gemma-2-2b" in release.model for release in found.values())
    assert find_release("gemma-scope-2b-pt-res") == scope
    with pytest.raises(ConfigError, match="near names: gpt2-small"):
        find_releases("gpt2-smal1")
    main(["sae", "list", "--model", "gemma-2-2b"])
    assert "gemma-scope-2b-pt-res" in capsys.readouterr().out
    main(["sae", "list", "--release", "gemma-scope-2b-pt-res"])
    assert "gemma-scope-2b-pt-res:layer_20/width_16k/average_l0_71" in capsys.readouterr().out


def test_a_file_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = write_gemma_scope(tmp_path, made_weights())
    main(["sae", "show", str(path)])
    shown = capsys.readouterr().out
    assert "blocks.20.hook_resid_post, width 6" in shown
    assert "gemma-2-2b" in shown


def test_a_study_file_after_sae_is_a_study():
    assert study_named(["sae", "a.toml", "--set", "seed=1"]) == [
        "sae",
        "study",
        "a.toml",
        "--set",
        "seed=1",
    ]
    assert study_named(["sae", "list"]) == ["sae", "list"]
    assert study_named(["study", "a.toml"]) == ["study", "a.toml"]
