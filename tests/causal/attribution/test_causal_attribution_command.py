"""`mechprobe attribute` on the shipped organism and its SAEs: tables, the check beside them, one line for a mistake."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mechprobe.cli.main import main
from mechprobe.models.organism.datasets import DatasetConfig, draw_pairs, draw_transcripts
from mechprobe.models.organism.truth import read_truth
from mechprobe.probes.bank import ProbeBank
from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.probe_set import ProbeSet
from mechprobe.study.attribution import CHECK, TABLE
from mechprobe.study.shipped import find_organism, shipped_folder
from mechprobe.transcripts.jsonl import write_transcripts
from mechprobe.transcripts.pairs import write_pairs

ORGANISM = "organism-natural"
SAES = shipped_folder("sae_checkpoints") / f"{ORGANISM}-sae"
EARLY, LATE = (str(SAES / f"blocks.{layer}.hook_out") for layer in (0, 1))
FEW = ["--m", "3", "--k", "4", "--n-boot", "100"]
HOOK = "blocks.0.hook_out"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    roles = read_truth(find_organism(ORGANISM)).roles
    config = DatasetConfig(
        n_fit=6, n_select=1, n_test=1, pairs_fit=1, pairs_select=1, pairs_test=1, seed=3
    )
    pairs = [pair for pair in draw_pairs(roles, config) if pair.split == "test"]
    write_pairs(folder / "pairs.jsonl", pairs[:6])
    fit = [one for one in draw_transcripts(roles, config) if one.split == "fit"]
    write_transcripts(folder / "transcripts.jsonl", fit)
    probe = LinearProbe(
        kind="logistic",
        weight=np.random.default_rng(0).standard_normal(64).astype(np.float32),
        bias=0.5,
    )
    one = ProbeSet(
        scorer="mine", hook_name=HOOK, reads="acts", indicators=("fabrication",), probes=(probe,)
    )
    ProbeBank(sets=(one,)).save(folder / "bank")
    return folder


def test_outcomes_are_explained_at_every_hook_point_that_has_an_sae(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = str(files / "pairs.jsonl")
    out = ["--out", str(tmp_path / "out")]
    main(["attribute", "outcome", ORGANISM, pairs, "--saes", EARLY, LATE, *FEW, *out])
    printed = capsys.readouterr().out
    assert printed.count("checked by exact patching of 3 top and 3 random features") == 2
    assert "error term" in printed
    table = pd.read_parquet(tmp_path / "out" / TABLE)
    assert set(table["hook_name"]) == {HOOK, "blocks.1.hook_out"}
    check = pd.read_parquet(tmp_path / "out" / CHECK)
    here, there = (frame[frame["hook_name"] == HOOK].set_index("name") for frame in (table, check))
    listed = [name for name in there.index[:3] if name in here.index]
    assert len(listed) == 3
    assert there.loc["all together", "linear"] == pytest.approx(here.loc["total", "mean"])


def test_scores_logits_hook_points_and_edges_are_explained(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs, transcripts = str(files / "pairs.jsonl"), str(files / "transcripts.jsonl")
    bank = ["--bank", str(files / "bank"), "--scorer", "mine", "--indicator", "fabrication"]
    main(["attribute", "probe", ORGANISM, transcripts, "--sae", EARLY, *bank, *FEW])
    printed = capsys.readouterr().out
    gaps = [float(words.split()[-1]) for words in printed.split(";")[-2:] if "at most" in words]
    assert len(gaps) == 2 and max(gaps) < 1e-3
    main(["attribute", "token", ORGANISM, transcripts, "--token", "3", "--saes", EARLY, *FEW])
    assert "logit of 3, gradient_x_activation from zero" in capsys.readouterr().out
    main(["attribute", "hooks", ORGANISM, pairs, *FEW])
    assert "3 hook points checked by exact patching" in capsys.readouterr().out
    ends = ["--upstream", EARLY, "--downstream", LATE, "--features", "1", "2"]
    main(["attribute", "edges", ORGANISM, transcripts, *ends, *FEW])
    assert "edges checked by exact ablation" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["--token", "no such words", "--saes", EARLY], "no single token in the vocabulary"),
        (["--token", "3", "--saes", EARLY, EARLY], "one SAE of each hook point"),
        (["--token", "3", "--saes", "nowhere"], "holds no SAE"),
    ],
)
def test_a_mistake_is_one_line(
    files: Path, capsys: pytest.CaptureFixture[str], wrong: list[str], told: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["attribute", "token", ORGANISM, str(files / "transcripts.jsonl"), *wrong])
    assert stopped.value.code == 1
    printed = capsys.readouterr().err
    assert told in " ".join(printed.split())
