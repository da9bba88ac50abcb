"""`mechprobe bank ...`: what it prints and writes, on the paper's own probes."""

import json
from pathlib import Path

import numpy as np
import pytest
import tyro

from mechprobe.cli_bank import Bank
from mechprobe.errors import CheckpointError
from mechprobe.probes.artefact import Artefact
from mechprobe.probes.detector_files import read_detector


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[str]:
    """Run a command as it is typed, and give what it prints."""
    config = (tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes)
    command = tyro.cli(Bank, args=[str(argument) for argument in arguments], config=config)
    command.run()
    return capsys.readouterr().out.splitlines()


@pytest.fixture
def bank(shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    source = shared_data / "paper_probes" / "probes_paper_main"
    lines = run(capsys, "import", source, "--out", tmp_path / "bank")
    assert lines[0] == "model glm-9b-flash" and lines[-1] == str(tmp_path / "bank")
    assert lines[1].startswith("blocks.26.hook_out: 3 probes, 15 missing")
    return tmp_path / "bank"


def test_import_makes_a_bank_that_scores_as_the_detectors_do(bank: Path, shared_data: Path):
    (one,) = Artefact.load(bank).bank.sets
    for indicator in one.indicators:
        (path,) = (shared_data / "paper_probes" / "probes_paper_main").rglob(
            f"{indicator}/span/layer27/detector.pt"
        )
        weight, bias = read_detector(path).raw()
        assert np.array_equal(one.probe(indicator).weight, weight.astype(np.float32))
        assert one.probe(indicator).bias == bias


def test_show_names_model_origin_probes_and_what_is_missing(
    bank: Path, capsys: pytest.CaptureFixture[str]
):
    lines = run(capsys, "show", bank)
    assert "glm-9b-flash" in lines[0] and "arXiv 2606.24251" in lines[0]
    assert lines[1] == "paper_detector at blocks.26.hook_out: 3 probes on acts of width 2048"
    assert any("fabrication" in line and "clean_label auroc 0.993" in line for line in lines)
    assert "without a probe: observer_suspicion_modeling" in lines[-1]


def test_geometry_prints_and_writes_the_cosines(
    bank: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    lines = run(capsys, "geometry", bank, "--out", tmp_path / "geometry.json")
    assert "(raw): mean cosine no pair within groups, 0.555 across" in lines[0]
    assert "(z_scored): mean cosine no pair within groups, 0.556 across" in lines[1]
    told = json.loads((tmp_path / "geometry.json").read_text())
    figures = told["blocks.26.hook_out/paper_detector"]["z_scored"]
    assert np.array(figures["cosines"]).shape == (3, 3)
    assert sum(figures["eigenvalues"]) == pytest.approx(3)


@pytest.mark.parametrize("format", ["plain", "npz", "probebench"])
def test_export_and_import_give_the_same_bank(
    format: str, bank: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    written = run(capsys, "export", bank, "--out", tmp_path / "out", "--format", format)
    assert written and all(Path(line).exists() for line in written)
    run(capsys, "import", tmp_path / "out", "--out", tmp_path / "again")
    for name in ("card.json", "probes.json", "probes.safetensors", "scalings.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (bank / name).read_bytes(), name


def test_a_plain_file_is_imported_with_what_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    np.savez(tmp_path / "w.npz", coef_=np.ones((2, 4)), intercept_=np.zeros(2))
    said = ("--hook-name", "blocks.2.hook_resid_post", "--indicators", "Fabrication", "mine")
    lines = run(capsys, "import", tmp_path / "w.npz", "--out", tmp_path / "bank", *said)
    assert lines[0] == "blocks.2.hook_out/imported: 2 probes of width 4"
    assert "not said" in run(capsys, "show", tmp_path / "bank")[0]
    assert len(run(capsys, "geometry", tmp_path / "bank")) == 1


def test_a_folder_without_a_bank_is_one_clear_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(CheckpointError, match="holds no probe bank"):
        run(capsys, "show", tmp_path)
