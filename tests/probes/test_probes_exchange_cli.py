"""`mechprobe bank ...`: what it prints and writes, on the paper's own probes."""

import json
from pathlib import Path

import numpy as np
import pytest
import tyro

from mechprobe.cli.banks import Bank
from mechprobe.errors import CheckpointError, ConfigError
from mechprobe.probes.comparison.shared_direction import shared_direction
from mechprobe.probes.exchange.artefact import Artefact
from mechprobe.probes.exchange.detector_files import read_detector


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


def test_the_bank_without_its_shared_direction_is_a_bank(
    bank: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run(capsys, "geometry", bank, "--without-shared", tmp_path / "rest")
    lines = run(capsys, "show", tmp_path / "rest")
    assert "without the shared direction" in lines[0]
    assert not any("auroc" in line for line in lines)
    (before,), (after,) = (Artefact.load(folder).bank.sets for folder in (bank, tmp_path / "rest"))
    along = shared_direction(before) @ after.weight
    assert np.abs(along).max() < 1e-5 * np.linalg.norm(after.weight, axis=0).min()


def planted_rows(path: Path) -> None:
    """All indicators raise coordinate 0, the first two of them one more each."""
    rng = np.random.default_rng(0)
    which = rng.integers(-1, 2, size=400)
    X = rng.normal(size=(400, 4)) + 3 * (which[:, None] == [[0, 1, 9, 9]])
    X[:, 3] += 3 * (which >= 0)
    labels = (which[:, None] == [[0, 1]]).astype(np.int8)
    np.savez(path, X=X, labels=labels, indicators=np.array(["fabrication", "mine"]))


def test_rows_are_scored_before_and_after_the_removal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    planted_rows(tmp_path / "rows.npz")
    np.savez(tmp_path / "w.npz", weight=np.array([[0.2, 0, 0, 1], [0, 0.2, 0, 1]]))
    said = ("--hook-name", "blocks.2.hook_out", "--indicators", "Fabrication", "mine")
    run(capsys, "import", tmp_path / "w.npz", "--out", tmp_path / "bank", *said)
    lines = run(capsys, "geometry", tmp_path / "bank", "--rows", tmp_path / "rows.npz")
    assert "(raw)" in lines[0] and "(whitened)" in lines[1]
    told = {line.split("  ")[1].strip(): line for line in lines if line.startswith("  ")}
    others = {name: float(line.split("/")[1]) for name, line in told.items() if "/" in line}
    assert others["as it is"] > 0.5 > others["without shared"]
    (tmp_path / "rows.npz").write_bytes(b"PK")
    with pytest.raises(CheckpointError, match="holds no rows"):
        run(capsys, "geometry", tmp_path / "bank", "--rows", tmp_path / "rows.npz")


def test_a_scorer_or_hook_point_that_the_bank_lacks_is_named(
    bank: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    held = r"'other'.*paper_detector at blocks\.26\.hook_out \(paper_recipe\)"
    with pytest.raises(ConfigError, match=held):
        run(capsys, "export", bank, "--out", tmp_path, "--scorer", "other")
    with pytest.raises(ConfigError, match=r"at 'blocks\.3\.hook_out'"):
        run(capsys, "geometry", bank, "--hook-name", "blocks.3.hook_out")
    said = ("--hook-name", "blocks.26.hook_resid_post")
    assert len(run(capsys, "geometry", bank, *said)) == 2


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
