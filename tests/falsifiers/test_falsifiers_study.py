"""The stage of a study: what it writes, and that it goes on where it was cut off."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mechprobe.errors import DataError
from mechprobe.falsifiers.config import FALSIFIER_COLUMNS, FalsifierConfig
from mechprobe.probes.bank import ProbeBank
from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.probe_set import ProbeSet
from mechprobe.saes.checkpoints import load_sae
from mechprobe.study.config import StudyConfig
from mechprobe.study.falsify import TABLE, falsify_stage
from mechprobe.study.run import Run
from mechprobe.study.shipped import shipped_folder
from mechprobe.study.stages import ensure_stage
from tests.falsifiers.conftest import INDICATOR, SITE

CONFIG = FalsifierConfig(
    falsifiers=("injection",), rank_by=("lift",), n_passages=6, n_boot=20, scorers=("dense",)
)
NAMES = (INDICATOR, "fabrication")


@pytest.fixture
def run(organism, thought, tmp_path: Path) -> Run:
    """A study whose probes and features are there already."""
    found = Run(config=StudyConfig(name="s", kind="organism", out=tmp_path), say=lambda _: None)
    sae = load_sae(shipped_folder("sae_checkpoints") / "organism-natural-sae" / SITE)
    found.__dict__.update(
        subject=organism.subject,
        transcripts=organism.transcripts[350:500],
        sae=sae,
        feature_hook=SITE,
        model_digest="organism",
    )
    other = LinearProbe(kind="other", weight=np.ones(64, np.float32), bias=0.0)
    sets = [
        ProbeSet(
            scorer=scorer,
            hook_name=hook_name,
            reads="acts",
            indicators=NAMES,
            probes=(thought.probe, other),
        )
        for scorer, hook_name in (("dense", SITE), ("dense", "blocks.1.hook_out"), ("more", SITE))
    ]
    ProbeBank(sets=tuple(sets)).save(tmp_path / "probes")
    features = {"indicator": [INDICATOR, INDICATOR], "rank": [1, 2], "feature": [7, 9]}
    pd.DataFrame(features).to_parquet(tmp_path / "features.parquet")
    return found


@pytest.mark.slow
def test_the_stage_writes_the_table_and_goes_on_with_what_is_missing(run: Run):
    stage = falsify_stage(run, "p", "e", CONFIG)
    ensure_stage(stage, run.say)
    table = pd.read_parquet(run.folder / TABLE)
    assert tuple(table.columns) == FALSIFIER_COLUMNS
    assert set(zip(table["indicator"], table["scorer"], table["feature"], strict=True)) == {
        (INDICATOR, "dense", -1),
        (INDICATOR, "sae_feature", 7),
        ("fabrication", "dense", -1),
    }
    assert set(table["hook_name"]) == {SITE}
    parts = run.folder / "falsify" / "parts"
    kept = pd.read_parquet(parts / f"{INDICATOR}.parquet").assign(words="as it was")
    kept.to_parquet(parts / f"{INDICATOR}.parquet")
    (parts / "fabrication.parquet").unlink()
    (run.folder / TABLE).unlink()
    ensure_stage(stage, run.say)
    again = pd.read_parquet(run.folder / TABLE)
    is_kept = again["indicator"] == INDICATOR
    assert (again.loc[is_kept, "words"] == "as it was").all()
    fresh = table["indicator"] == "fabrication"
    pd.testing.assert_frame_equal(table[fresh], again[~is_kept])


def test_a_study_without_the_named_scorers_says_so(run: Run):
    (run.folder / "features.parquet").unlink()
    pd.DataFrame({"indicator": [], "rank": [], "feature": []}).to_parquet(
        run.folder / "features.parquet"
    )
    config = FalsifierConfig(scorers=("dense_lda",))
    with pytest.raises(DataError, match="no probe set named dense_lda"):
        falsify_stage(run, "p", "e", config).run()
