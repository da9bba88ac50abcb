"""Probes of other projects in, ours out: the same scores on both sides, and one clear error for what cannot be read."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
import pytest

from mechprobe.errors import ConfigError
from mechprobe.probes.bank import ProbeBank
from mechprobe.probes.exchange.artefact import Artefact
from mechprobe.probes.exchange.exporting import export_npz, export_plain, linear_part
from mechprobe.probes.exchange.importing import import_source
from mechprobe.probes.exchange.probebench import Submission, export_probebench
from mechprobe.probes.kinds.layers import Layout
from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.probe_set import ProbeSet
from tests.probes.artefacts import TAXONOMY, D, artefact, assert_same


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
