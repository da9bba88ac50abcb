"""Models of scikit-learn and layers of torch as probes: they score as their makers do, or are refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_tensors
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC, LinearSVC

from mechprobe.errors import CheckpointError
from mechprobe.probes.exchange.artefact import key_of
from mechprobe.probes.exchange.importing import Wanted, import_plain
from mechprobe.probes.exchange.plain_files import read_plain
from mechprobe.probes.exchange.sklearn_models import import_sklearn, sklearn_probe
from tests.probes.artefacts import HERE, TAXONOMY, D, labelled

MODELS = {
    "logistic": LogisticRegression(max_iter=5000),
    "scaled logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000)),
    "scaled only by std": make_pipeline(
        StandardScaler(with_mean=False), LogisticRegression(max_iter=5000)
    ),
    "centred only": make_pipeline(
        StandardScaler(with_std=False), LogisticRegression(max_iter=5000)
    ),
    "scaled twice": make_pipeline(
        StandardScaler(), StandardScaler(), LogisticRegression(max_iter=5000)
    ),
    "no intercept": make_pipeline(
        StandardScaler(), LogisticRegression(fit_intercept=False, max_iter=5000)
    ),
    "ridge": make_pipeline(StandardScaler(), Ridge()),
    "ridge classifier": make_pipeline(StandardScaler(), RidgeClassifier()),
    "lda": LinearDiscriminantAnalysis(),
    "linear svc": make_pipeline(StandardScaler(), LinearSVC()),
    "svc": make_pipeline(StandardScaler(), SVC(kernel="linear")),
}


@pytest.mark.parametrize("name", list(MODELS))
def test_a_scikit_learn_model_scores_as_its_decision_function(name: str):
    X, y = labelled()
    fitted = MODELS[name].fit(X, y)
    probe, scaling = sklearn_probe(fitted)
    score = getattr(fitted, "decision_function", None) or fitted.predict
    wanted = np.asarray(score(X)).ravel()
    assert probe.score(X.astype(np.float32)) == pytest.approx(wanted, abs=2e-4)
    n_scalers = len(fitted.steps) - 1 if isinstance(fitted, Pipeline) else 0
    assert (scaling is not None) == (n_scalers == 1)


def test_scikit_learn_models_become_a_bank_at_a_canonical_hook_point():
    X, y = labelled()
    models = {
        name: make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000)).fit(X, y)
        for name in "ab"
    }
    found = import_sklearn(models, hook_name="blocks.3.hook_resid_post", model="m")
    (one,) = found.bank.sets
    assert (one.hook_name, one.indicators) == ("blocks.3.hook_out", ("a", "b"))
    assert found.bank.model == "m" and len(found.scalings[key_of(one)]) == 2
    assert one.probes[0].kind == "sklearn_LogisticRegression"


def fitted_on(X: np.ndarray, y: np.ndarray) -> dict[str, tuple[object, str]]:
    return {
        "not fitted": (LogisticRegression(max_iter=5000), "without coef_"),
        "a forest": (RandomForestClassifier(2).fit(X, y), "without coef_"),
        "a kernel": (SVC().fit(X, y), "without coef_"),
        "three classes": (
            LogisticRegression(max_iter=5000).fit(X, np.arange(200) % 3),
            "3 classes",
        ),
        "two outputs": (Ridge().fit(X, np.stack([y, y], 1)), r"shape \[2, 6\]"),
        "a bounded scaler": (
            make_pipeline(MinMaxScaler(), LogisticRegression(max_iter=5000)).fit(X, y),
            "MinMaxScaler",
        ),
    }


@pytest.mark.parametrize("name", list(fitted_on(*labelled())))
def test_a_model_that_is_no_direction_is_refused(name: str):
    model, wanted = fitted_on(*labelled())[name]
    with pytest.raises(CheckpointError, match=wanted):
        sklearn_probe(model, "fabrication")


def test_a_model_that_does_not_score_by_its_coefficients_is_found_out():
    class Squared(LogisticRegression):
        def decision_function(self, X):
            return super().decision_function(X) ** 2

    X, y = labelled()
    with pytest.raises(CheckpointError, match="does not score rows by coef_"):
        sklearn_probe(Squared().fit(X, y))


@pytest.mark.parametrize("suffix", [".npz", ".json", ".safetensors"])
def test_coefficients_in_a_plain_file_score_as_scikit_learn_does(suffix: str, tmp_path: Path):
    X, y = labelled()
    scaler = StandardScaler().fit(X)
    model = LogisticRegression(max_iter=5000).fit(scaler.transform(X), y)
    numbers = {
        "coef_": model.coef_,
        "intercept_": model.intercept_,
        "mean_": scaler.mean_,
        "scale_": scaler.scale_,
    }
    path = tmp_path / f"probe{suffix}"
    if suffix == ".npz":
        np.savez(path, **numbers)
    elif suffix == ".json":
        path.write_text(json.dumps({key: value.tolist() for key, value in numbers.items()}))
    else:
        save_file(numbers, path)
    found = import_plain(path, TAXONOMY, HERE)
    (one,) = found.bank.sets
    assert (one.hook_name, one.indicators) == ("blocks.3.hook_out", ("fabrication",))
    wanted = model.decision_function(scaler.transform(X))
    assert one.score_all(X.astype(np.float32))[:, 0] == pytest.approx(wanted, abs=2e-4)
    (scaling,) = found.scalings[key_of(one)]
    assert scaling.mean == pytest.approx(scaler.mean_)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_state_dict_of_one_linear_layer_scores_as_torch_does(suffix: str, tmp_path: Path):
    layer = torch.nn.Linear(D, 2)
    path = tmp_path / f"model{suffix}"
    state = {f"head.{k}": v for k, v in layer.state_dict().items()}
    if suffix == ".pt":
        torch.save(state, path)
    else:
        save_tensors(state, path)
    X = torch.randn(20, D)
    both = Wanted(hook_name="blocks.0.hook_out", indicators=("Fabrication", "my own"))
    (one,) = import_plain(path, TAXONOMY, both).bank.sets
    assert one.indicators == ("fabrication", "my_own")
    assert one.score_all(X.numpy()) == pytest.approx(layer(X).detach().numpy(), abs=1e-5)
    # For one indicator the two rows are two classes: log-odds of the second against the first.
    (one,) = import_plain(path, TAXONOMY, HERE).bank.sets
    log_odds = torch.log_softmax(layer(X), dim=1).diff(dim=1)[:, 0].detach().numpy()
    assert one.score_all(X.numpy())[:, 0] == pytest.approx(log_odds, abs=1e-5)


def test_a_bfloat16_weight_is_read(tmp_path: Path):
    path = tmp_path / "probe.safetensors"
    save_tensors({"weight": torch.arange(D).bfloat16()}, path)
    assert read_plain(path).weight.tolist() == [list(range(D))]


def test_a_folder_laid_out_as_saelens_does_says_its_own_hook_point(tmp_path: Path):
    save_file(
        {"weight": np.ones((1, D), np.float32), "bias": np.ones(1)}, tmp_path / "p.safetensors"
    )
    about = {
        "indicator": "Error Calibration",
        "threshold": 0.5,
        "metadata": {"model_name": "gpt2", "hook_name": "blocks.5.hook_resid_pre"},
    }
    (tmp_path / "cfg.json").write_text(json.dumps(about))
    found = import_plain(tmp_path, TAXONOMY)
    (one,) = found.bank.sets
    assert (found.bank.model, one.hook_name) == ("gpt2", "blocks.5.hook_in")
    assert one.indicators == ("error_calibration",)
    assert found.card(one, "error_calibration").thresholds == {"threshold": 0.5}
    assert found.card(one, "error_calibration").source == "p.safetensors"


def test_a_weight_that_lies_on_its_side_is_turned(tmp_path: Path):
    weight = np.arange(2.0 * D).reshape(2, D)
    np.savez(tmp_path / "w.npz", W=weight.T)
    assert np.array_equal(read_plain(tmp_path / "w.npz", 2).weight, weight)
