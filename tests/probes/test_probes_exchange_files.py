"""Probes of other projects in, ours out: the same scores on both sides, and one clear error for what cannot be read."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import joblib
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

from mechprobe.errors import CheckpointError, ConfigError
from mechprobe.probes.bank import ProbeBank, ProbeSet
from mechprobe.probes.exchange.artefact import Artefact, ProbeCard, check_probes, key_of
from mechprobe.probes.exchange.exporting import export_npz, export_plain, linear_part
from mechprobe.probes.exchange.importing import Wanted, import_plain, import_source
from mechprobe.probes.exchange.plain_files import read_plain
from mechprobe.probes.exchange.probebench import Submission, export_probebench
from mechprobe.probes.exchange.sklearn_models import import_sklearn, sklearn_probe
from mechprobe.probes.kinds.layers import Layout
from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.standardise import Scaling
from mechprobe.taxonomy import load_taxonomy

TAXONOMY = load_taxonomy()
D = 6
HERE = Wanted(hook_name="blocks.3.hook_resid_post", model="m", indicators=("Fabrication",))


def labelled(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, size=200)
    X = rng.normal(size=(200, D)) * [1, 5, 0.1, 1, 1, 30] + 10
    X[:, 0] += y
    return X, y


def artefact(seed: int = 0) -> Artefact:
    """Two sets with cards, scalings and awkward numbers."""
    rng = np.random.default_rng(seed)
    names = ("observer_suspicion_modeling", "error_calibration")
    sets = tuple(
        ProbeSet(
            scorer="dense",
            hook_name=f"blocks.{block}.hook_out",
            reads="acts",
            indicators=names,
            probes=tuple(
                LinearProbe(
                    kind="logistic",
                    weight=rng.normal(size=D).astype(np.float32) * np.float32(1e-20),
                    bias=float(rng.normal()) / 3,
                    settings={"l2_strength": 0.1},
                )
                for _ in names
            ),
        )
        for block in (2, 11)
    )
    return Artefact(
        bank=ProbeBank(sets=sets, model="org/a-model"),
        origin="a test",
        model_digest="feed",
        cards={
            key_of(one, name): ProbeCard(
                source="x.pt",
                digest="ab",
                thresholds={"fpr 1%": 1 / 3},
                metrics={"auroc": 0.1 + 0.2},
            )
            for one in sets
            for name in names
        },
        scalings={
            key_of(one): tuple(
                Scaling(mean=rng.normal(size=D), factor=rng.uniform(1, 2, D)) for _ in names
            )
            for one in sets
        },
    )


def assert_same(first: Artefact, second: Artefact) -> None:
    assert second.bank.model == first.bank.model
    assert (second.model_digest, second.origin) == (first.model_digest, first.origin)
    assert len(second.bank.sets) == len(first.bank.sets)
    for one in first.bank.sets:
        other = second.bank.find(one.scorer, one.hook_name)
        assert (other.indicators, other.reads) == (one.indicators, one.reads)
        for name, probe, again in zip(one.indicators, one.probes, other.probes, strict=True):
            assert isinstance(probe, LinearProbe) and isinstance(again, LinearProbe)
            assert again.weight.dtype == np.float32
            assert np.array_equal(again.weight, probe.weight) and again.bias == probe.bias
            assert (again.kind, dict(again.settings)) == (probe.kind, dict(probe.settings))
            assert second.card(other, name) == first.card(one, name)
        scalings = zip(first.scalings[key_of(one)], second.scalings[key_of(other)], strict=True)
        for scaling, kept in scalings:
            assert np.array_equal(kept.mean, scaling.mean)
            assert np.array_equal(kept.factor, scaling.factor)


def as_probebench(found: Artefact, folder: Path) -> list[Path]:
    return export_probebench(found, folder, Submission(author="a", license="MIT"), TAXONOMY)


@pytest.mark.parametrize("export", [export_plain, export_npz, as_probebench])
def test_what_is_given_out_and_taken_in_again_is_the_same_to_the_last_bit(
    export: Callable[[Artefact, Path], list[Path]], tmp_path: Path
):
    made = artefact()
    written = export(made, tmp_path)
    assert written and all(path.exists() for path in written)
    found, lines = import_source(tmp_path, TAXONOMY)
    assert_same(made, found)
    assert len(lines) == 2


@pytest.mark.parametrize("export", [export_plain, export_npz])
def test_probes_over_several_hook_points_stay_so(
    export: Callable[[Artefact, Path], list[Path]], tmp_path: Path
):
    layout = Layout(hook_names=("blocks.1.hook_out", "blocks.2.hook_out"), widths=(2, 4))
    one = ProbeSet(
        scorer="joint",
        hook_name=layout.hook_name,
        reads="acts",
        indicators=("mine",),
        probes=(LinearProbe(kind="made", weight=np.arange(6, dtype=np.float32), bias=0.5),),
        layout=layout,
    )
    export(Artefact(bank=ProbeBank(sets=(one,), model="m"), origin="a test"), tmp_path)
    (again,) = import_source(tmp_path, TAXONOMY)[0].bank.sets
    assert again.layout == layout and np.array_equal(again.weight, one.weight)


def test_sets_of_other_probes_are_left_out_and_a_bank_of_none_is_refused():
    class Other:
        kind, settings, width = "other", {}, D

        def score(self, X):
            return X[:, 0]

    made = artefact()
    other = ProbeSet(
        scorer="tree",
        hook_name="blocks.2.hook_out",
        reads="acts",
        indicators=("a",),
        probes=(Other(),),
    )
    both = Artefact(bank=ProbeBank(sets=(*made.bank.sets, other)), origin="a test")
    assert linear_part(both).bank.sets == made.bank.sets
    assert len(linear_part(both, hook_name="blocks.2.hook_resid_post").bank.sets) == 1
    alone = Artefact(bank=ProbeBank(sets=(other,)), origin="a test")
    with pytest.raises(ConfigError, match=r"tree at blocks\.2\.hook_out \(other\)"):
        linear_part(alone)


def test_a_bank_is_a_source_too(tmp_path: Path):
    made = artefact()
    made.save(tmp_path)
    assert_same(made, import_source(tmp_path, TAXONOMY)[0])


def test_a_plain_folder_says_what_a_reader_needs(tmp_path: Path):
    made = artefact()
    for folder in export_plain(made, tmp_path):
        about = json.loads((folder / "probe.json").read_text())
        assert about["model"] == "org/a-model" and about["model_digest"] == "feed"
        assert about["hook_name"] == f"blocks.{about['block']}.hook_out"
        assert about["thresholds"] == {"fpr 1%": 1 / 3}
        assert about["width"] == D and about["indicator"] == folder.name


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


def test_what_the_files_do_not_say_must_be_said(tmp_path: Path):
    path = tmp_path / "w.npz"
    np.savez(path, weight=np.ones((2, D)))
    with pytest.raises(CheckpointError, match="names 0 indicators"):
        import_plain(path, TAXONOMY)
    with pytest.raises(CheckpointError, match="at which hook point"):
        import_plain(path, TAXONOMY, Wanted(indicators=("a", "b")))
    with pytest.raises(CheckpointError, match="3 probes"):
        import_plain(path, TAXONOMY, Wanted(indicators=("a", "b", "c")))


@pytest.mark.parametrize("suffix", [".pkl", ".joblib", ".skops", ".sav", ".pickle"])
def test_pickles_of_unknown_origin_are_not_opened(suffix: str, tmp_path: Path):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"cos\nsystem\n(S'echo ran'\ntR.")
    for source in (path, tmp_path):
        with pytest.raises(CheckpointError, match=r"holds Python objects.* `import_sklearn`"):
            import_source(source, TAXONOMY)


def test_a_torch_file_is_read_for_its_numbers_only(tmp_path: Path):
    path = tmp_path / "model.pt"
    path.write_bytes(b"cos\nsystem\n(S'echo ran'\ntR.")
    with pytest.raises(CheckpointError, match=r"names os\.system"):
        import_source(path, TAXONOMY)
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="holds a list"):
        import_source(path, TAXONOMY)


def test_an_npz_of_objects_is_not_unpickled(tmp_path: Path):
    path = tmp_path / "w.npz"
    np.savez(path, weight=np.array([{"a": 1}], dtype=object))
    with pytest.raises(CheckpointError, match="damaged"):
        import_plain(path, TAXONOMY, HERE)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".json"])
def test_a_truncated_plain_file_is_one_clear_error(suffix: str, tmp_path: Path):
    whole = tmp_path / f"w{suffix}"
    if suffix == ".npz":
        np.savez(whole, weight=np.ones(D), bias=np.ones(1))
    elif suffix == ".safetensors":
        save_file({"weight": np.ones(D), "bias": np.ones(1)}, whole)
    else:
        whole.write_text(json.dumps({"weight": [1.0] * D, "bias": 1.0}))
    data = whole.read_bytes()
    for n_bytes in range(0, len(data) - 1, 11):
        whole.write_bytes(data[:n_bytes])
        with pytest.raises(CheckpointError) as refused:
            import_plain(whole, TAXONOMY, HERE)
        assert str(whole) in str(refused.value)


@pytest.mark.parametrize(
    ("numbers", "wanted"),
    [
        ({"other": np.ones(D)}, "needs a weight"),
        ({"weight": np.ones((1, 2, 3))}, "needs a weight"),
        ({"a.weight": np.ones(D), "b.weight": np.ones(D)}, "no linear probe"),
        ({"weight": np.ones(D), "bias": np.ones(2)}, "2 biases"),
        ({"weight": np.ones(D), "scale": np.zeros(D)}, "smallest 0.0"),
        ({"weight": np.ones(D), "mean": np.zeros(3)}, "3 means"),
        ({"weight": np.full(D, np.nan)}, "6 weights"),
    ],
)
def test_a_file_that_is_no_linear_probe_is_one_clear_error(
    numbers: dict[str, np.ndarray], wanted: str, tmp_path: Path
):
    np.savez(tmp_path / "w.npz", **numbers)
    with pytest.raises(CheckpointError, match=wanted):
        import_plain(tmp_path / "w.npz", TAXONOMY, HERE)


def test_an_indicator_that_stands_twice_is_an_error(tmp_path: Path):
    np.savez(tmp_path / "w.npz", weight=np.ones((2, D)))
    twice = Wanted(hook_name="blocks.0.hook_out", indicators=("Fabrication", "fabrication"))
    with pytest.raises(CheckpointError, match="'fabrication' twice"):
        import_plain(tmp_path / "w.npz", TAXONOMY, twice)


def test_a_bias_that_is_no_number_is_an_error():
    probe = LinearProbe(kind="made", weight=np.ones(D, dtype=np.float32), bias=float("inf"))
    one = ProbeSet(
        scorer="s", hook_name="blocks.0.hook_out", reads="acts", indicators=("a",), probes=(probe,)
    )
    with pytest.raises(CheckpointError, match="a bias of inf"):
        check_probes(one)


def test_probes_of_two_models_in_one_folder_are_refused(tmp_path: Path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "w.npz", weight=np.ones(D))
        about = {"model": name, "hook_name": "blocks.0.hook_out", "indicator": name}
        (tmp_path / name / "w.json").write_text(json.dumps(about))
    with pytest.raises(CheckpointError, match=r"several models \(one, two\)"):
        import_plain(tmp_path, TAXONOMY)


def test_a_source_that_is_not_there_or_empty_says_so(tmp_path: Path):
    with pytest.raises(CheckpointError, match="does not exist"):
        import_source(tmp_path / "nowhere", TAXONOMY)
    with pytest.raises(CheckpointError, match="no probe file"):
        import_source(tmp_path, TAXONOMY)


def test_a_probebench_bundle_is_what_its_validator_asks_for(tmp_path: Path):
    """The checks of OpenInterpretability/cli, openinterp/probebench.py, `validate` and `score`."""
    made = artefact()
    bundles = as_probebench(made, tmp_path)
    assert len(bundles) == 4
    X = np.random.default_rng(1).normal(size=(30, D)) * 1e20
    for bundle in bundles:
        meta = json.loads((bundle / "meta.json").read_text())
        needed = {"id", "name", "author", "category", "modelId", "layer", "license", "tasks"}
        assert needed | {"artifactSha256"} <= meta.keys()
        spec = {"probe_type", "model", "position", "training_data", "created_at", "spec_version"}
        assert spec <= meta.keys()
        data = (bundle / "probe.joblib").read_bytes()
        assert meta["artifactSha256"] == hashlib.sha256(data).hexdigest()
        scaler, model = (joblib.load(bundle / f"{name}.joblib") for name in ("scaler", "probe"))
        given = model.predict_proba(scaler.transform(X))
        about = json.loads((bundle / "probe.json").read_text())
        one = made.bank.find("dense", about["hook_name"])
        wanted = 1 / (1 + np.exp(-one.probe(about["indicator"]).score(X.astype(np.float32))))
        assert given.shape == (30, 2) and given[:, 1] == pytest.approx(wanted, abs=1e-5)
        assert meta["layer"] == about["block"]
        is_sandbagging = about["indicator"] == "error_calibration"
        assert meta["category"] == ("sandbagging" if is_sandbagging else "deception")


def test_probebench_takes_only_what_it_can_read(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"'GPL'.*Apache-2\.0"):
        Submission(author="a", license="GPL")
    with pytest.raises(ConfigError, match=r"'sabotage'.*hallucination"):
        Submission(author="a", license="MIT", category="sabotage")
    made = artefact()
    nameless = Artefact(bank=ProbeBank(sets=made.bank.sets), origin="a test")
    with pytest.raises(ConfigError, match="of None"):
        as_probebench(nameless, tmp_path)
