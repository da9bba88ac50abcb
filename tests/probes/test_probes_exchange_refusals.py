"""Files that cannot be read as probes, or do not say enough: one clear error each."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from mechprobe.errors import CheckpointError
from mechprobe.probes.exchange.artefact import check_probes
from mechprobe.probes.exchange.importing import Wanted, import_plain, import_source
from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.probe_set import ProbeSet
from tests.probes.artefacts import HERE, TAXONOMY, D


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
