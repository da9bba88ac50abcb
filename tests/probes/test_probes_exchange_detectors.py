"""The paper's detectors become a bank: same scores, right hook point, and a report of what is there."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from mechprobe.errors import CheckpointError
from mechprobe.models.batches import TokenBatch
from mechprobe.models.subject import Subject
from mechprobe.probes.exchange.artefact import (
    Artefact,
    canonical_hook_name,
    hook_name_of_layer,
    key_of,
)
from mechprobe.probes.exchange.detector_files import read_detector
from mechprobe.probes.exchange.detector_folders import import_detectors
from mechprobe.taxonomy import load_taxonomy

TAXONOMY = load_taxonomy()
D = 24


def detector(seed: int, layer: int = 5, **changed: object) -> dict[str, object]:
    """What the authors' code pickles, with the outlying coordinate that residual streams have."""
    drawn = torch.Generator().manual_seed(seed)
    scale = 0.1 + torch.rand(1, D, generator=drawn)
    mean = torch.randn(1, D, generator=drawn)
    scale[0, 0], mean[0, 0] = 40.0, 300.0
    return {
        "layers": [layer],
        "directions": torch.randn(1, D, generator=drawn),
        "scaler_mean": mean,
        "scaler_scale": scale,
        "normalize": True,
        "reg_coeff": 10.0,
    } | changed


def place(
    root: Path, name: str, fields: object, *, meta: dict[str, object] | None = None, layer: int = 5
) -> Path:
    path = root / name / "span" / f"layer{layer}" / "detector.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(pickle.dumps(fields))
    if meta is not None:
        path.with_name("training_meta.json").write_text(json.dumps(meta))
    return path


def authors_score(fields: dict[str, object], X: np.ndarray) -> np.ndarray:
    """((x - mu) / sigma) . w, in the precision of X."""
    w, mean, scale = (
        np.asarray(fields[key], X.dtype)[0] for key in ("directions", "scaler_mean", "scaler_scale")
    )
    return (X - mean) / scale @ w


def rows_of(fields: dict[str, object], seed: int) -> np.ndarray:
    z = np.random.default_rng(seed).normal(size=(400, D))
    return np.asarray(fields["scaler_mean"]) + 2 * z * np.asarray(fields["scaler_scale"])


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_the_authors_formula_to_the_last_digits(seed: int, tmp_path: Path):
    fields = detector(seed)
    found = read_detector(place(tmp_path, "fabrication", fields))
    X = rows_of(fields, seed)
    weight, bias = found.raw()
    assert np.abs(X @ weight + bias - authors_score(fields, X)).max() < 1e-9
    near = authors_score(fields, X.astype(np.float32).astype(np.float64))
    got = found.probe().score(X.astype(np.float32))
    # Rounding of weights to float32 counts with the size of the terms that cancel in the score.
    size = (np.abs(X) * np.abs(weight)).sum(axis=1) + abs(bias)
    assert (np.abs(got - near) < 1e-5 * np.maximum(1, size / 10)).all()


def test_the_published_detectors_score_as_their_formula_does(shared_data: Path):
    paths = sorted((shared_data / "paper_probes").rglob("detector.pt"))
    assert len(paths) == 4
    for path in paths:
        # The file is known here, so Python's own unpickler is the oracle.
        fields = pickle.loads(path.read_bytes())
        d = fields["directions"].shape[1]
        z = np.random.default_rng(1).normal(size=(200, d))
        X = fields["scaler_mean"].double().numpy() + z * fields["scaler_scale"].double().numpy()
        found = read_detector(path)
        weight, bias = found.raw()
        assert np.abs(X @ weight + bias - authors_score(fields, X)).max() < 1e-9
        rows = X.astype(np.float32)
        wanted = authors_score(fields, rows.astype(np.float64))
        assert np.abs(found.probe().score(rows) - wanted).max() < 1e-5
        assert found.layer == int(path.parent.name.removeprefix("layer"))
        assert (found.l2_strength, d) == (10.0, 2048)


def test_the_published_folders_become_banks_with_a_report(shared_data: Path):
    found, report = import_detectors(shared_data / "paper_probes" / "probes_paper_main", TAXONOMY)
    (one,) = found.bank.sets
    assert found.bank.model == report.model == "glm-9b-flash"
    assert one.hook_name == "blocks.26.hook_out"
    held = ("fabrication", "action_concealment", "self_preserving_advocacy")
    assert one.indicators == held == report.found[one.hook_name]
    assert len(report.missing[one.hook_name]) == 15 and report.unknown == ()
    card = found.card(one, "action_concealment")
    assert card.metrics["clean_label auroc"] == 0.9974311393432598
    assert card.thresholds["span_overlap fpr_1pct"] == 4.181337241959154
    assert card.source.endswith("action_concealment/span/layer27/detector.pt")
    assert len(card.digest) == 64


def test_published_probes_of_two_models_are_not_one_bank(shared_data: Path):
    with pytest.raises(CheckpointError, match=r"2 models \(glm-9b-flash, qwen-35b\)"):
        import_detectors(shared_data / "paper_probes", TAXONOMY)


def test_layers_are_told_apart_and_indicators_come_in_the_taxonomys_order(tmp_path: Path):
    for layer in (5, 7):
        for name in ("strategic_framing", "observer_suspicion_modeling"):
            place(tmp_path, name, detector(layer, layer), layer=layer)
    place(tmp_path, "evaluation_awareness", detector(0))
    place(tmp_path, "something_else", detector(0))
    found, report = import_detectors(tmp_path, TAXONOMY, model="a model")
    assert [one.hook_name for one in found.bank.sets] == ["blocks.4.hook_out", "blocks.6.hook_out"]
    for one in found.bank.sets:
        assert one.indicators == ("observer_suspicion_modeling", "strategic_framing")
        assert len(found.scalings[key_of(one)]) == 2
    assert [name.split("/")[0] for name in report.unknown] == [
        "evaluation_awareness",
        "something_else",
    ]
    text = "\n".join(report.lines())
    assert "model a model" in text and "16 missing" in text and "left out something_else" in text


def test_the_training_file_names_indicator_and_model(tmp_path: Path):
    meta = {"indicator_name": "Error Calibration", "model_name": "m", "val_thresholds": {}}
    place(tmp_path, "probe_1", detector(0), meta=meta)
    found, _ = import_detectors(tmp_path, TAXONOMY)
    assert found.bank.sets[0].indicators == ("error_calibration",)
    assert found.bank.model == "m"


def test_two_detectors_of_one_indicator_and_layer_are_an_error(tmp_path: Path):
    place(tmp_path / "first", "fabrication", detector(0))
    place(tmp_path / "second", "fabrication", detector(1))
    with pytest.raises(CheckpointError, match=r"first/.* and second/.* both of 'fabrication'"):
        import_detectors(tmp_path, TAXONOMY)


def broken(**changed: object) -> dict[str, object]:
    return detector(0, **changed)


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"bilinear": 1}, "layers and directions"),
        ([1, 2], "holds list"),
        (broken(layers=[3, 4]), r"layers \[3, 4\]"),
        (broken(layers=[-1]), r"layers \[-1\]"),
        (broken(directions=torch.randn(2, D)), r"shape \(2, 24\)"),
        (broken(directions=torch.full((1, D), float("nan"))), "24 numbers in directions"),
        (broken(scaler_scale=torch.full((1, D), float("inf"))), "24 numbers in scaler_scale"),
        (broken(scaler_mean=torch.zeros(1, 3)), "width 24"),
        (broken(scaler_mean=None), "width 24"),
    ],
)
def test_a_detector_that_is_none_is_one_clear_error(fields: object, wanted: str, tmp_path: Path):
    path = place(tmp_path, "fabrication", fields)
    with pytest.raises(CheckpointError, match=wanted) as refused:
        read_detector(path)
    assert str(path) in str(refused.value)


def test_a_detector_without_scaler_reads_raw_activations(tmp_path: Path):
    fields = detector(0, normalize=False, scaler_mean=None, scaler_scale=None)
    weight, bias = read_detector(place(tmp_path, "fabrication", fields)).raw()
    assert bias == 0 and np.array_equal(weight, np.asarray(fields["directions"])[0])


def test_a_scale_of_zero_is_clamped_as_the_authors_clamp_it(tmp_path: Path):
    scale = torch.ones(1, D)
    scale[0, 3] = 0
    fields = detector(0, scaler_scale=scale)
    weight, _ = read_detector(place(tmp_path, "fabrication", fields)).raw()
    assert weight[3] == pytest.approx(float(np.asarray(fields["directions"])[0, 3]) / 1e-8)


def test_an_empty_folder_and_a_damaged_training_file_say_so(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"no detector\.pt"):
        import_detectors(tmp_path, TAXONOMY)
    path = place(tmp_path, "fabrication", detector(0))
    path.with_name("training_meta.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"training_meta\.json is damaged"):
        import_detectors(tmp_path, TAXONOMY)


@pytest.fixture(scope="module")
def subject(tiny_llama: Path) -> Subject:
    return Subject.load(tiny_llama)


def test_hook_names_without_a_model_are_those_of_a_loaded_one(subject: Subject):
    for name in ("blocks.1.hook_resid_post", "blocks.1.hook_resid_pre", "blocks.0.hook_out"):
        assert canonical_hook_name(name) == subject.resolve(name)
    assert canonical_hook_name("blocks.1.mlp.hook_out") == "blocks.1.mlp.hook_out"


def test_a_layer_is_where_transformers_puts_its_hidden_state(subject: Subject, tiny_llama: Path):
    plain = AutoModelForCausalLM.from_pretrained(tiny_llama)
    with torch.no_grad():
        states = plain(input_ids=torch.tensor([[1, 2, 3]]), output_hidden_states=True).hidden_states
    # The last of them is after the final norm.
    names = [hook_name_of_layer(layer) for layer in range(subject.n_layers)]
    acts = subject.capture(TokenBatch.of([[1, 2, 3]], 0, "right"), names)
    for name, state in zip(names, states, strict=False):
        assert torch.allclose(acts[name].reshape(state.shape), state, atol=1e-5), name


def bank(tmp_path: Path) -> Artefact:
    for at, name in enumerate(("fabrication", "error_calibration")):
        place(tmp_path / "source", name, detector(at))
    return import_detectors(tmp_path / "source", TAXONOMY, model="a model")[0]


def test_a_bank_with_its_cards_and_scalings_survives_the_disk(tmp_path: Path):
    made = bank(tmp_path)
    made.save(tmp_path / "bank")
    again = Artefact.load(tmp_path / "bank")
    (one,), (other,) = made.bank.sets, again.bank.sets
    assert np.array_equal(one.weight, other.weight) and np.array_equal(one.bias, other.bias)
    assert (again.origin, again.bank.model, again.cards) == (made.origin, "a model", made.cards)
    for ours, theirs in zip(made.scalings[key_of(one)], again.scalings[key_of(other)], strict=True):
        assert np.array_equal(ours.mean, theirs.mean)
        assert np.array_equal(ours.factor, theirs.factor)


@pytest.mark.parametrize("name", ["card.json", "scalings.safetensors", "probes.safetensors"])
def test_a_damaged_bank_is_one_clear_error(name: str, tmp_path: Path):
    bank(tmp_path).save(tmp_path / "bank")
    path = tmp_path / "bank" / name
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CheckpointError, match="damaged") as refused:
        Artefact.load(tmp_path / "bank")
    assert str(tmp_path / "bank") in str(refused.value)


def test_probes_are_not_used_on_another_model_other_weights_or_another_hook_point(tmp_path: Path):
    made = bank(tmp_path)
    widths = {"blocks.4.hook_out": D, "blocks.5.hook_out": D}
    found = Artefact(bank=made.bank, origin="here", model_digest="aaaa")
    found.check_fits("a model", "aaaa", widths)
    # The published detectors do not say which weights they were fitted on.
    made.check_fits("a model", "bbbb", widths)
    with pytest.raises(CheckpointError, match=r"weights aaaa of 'a model', this model has bbbb"):
        found.check_fits("a model", "bbbb", widths)
    with pytest.raises(CheckpointError, match=r"'a model', not on 'another'"):
        found.check_fits("another", "aaaa", widths)
    with pytest.raises(CheckpointError, match=rf"width {D} at 'blocks\.4\.hook_out'.*width 7"):
        found.check_fits("a model", "aaaa", {"blocks.4.hook_out": 7})
    with pytest.raises(CheckpointError, match=r"'blocks\.4\.hook_out'.*nothing"):
        found.check_fits("a model", "aaaa", {"blocks.3.hook_out": D})


def test_a_copy_of_a_published_folder_is_read_from_anywhere(shared_data: Path, tmp_path: Path):
    source = next((shared_data / "paper_probes" / "probes_qwen36").rglob("layer23"))
    shutil.copytree(source, tmp_path / "layer23")
    found, _ = import_detectors(tmp_path, TAXONOMY)
    assert found.bank.model == "qwen-35b"
    assert found.bank.sets[0].indicators == ("action_concealment",)
