"""The whole way from text to verdicts on the shipped organism, in a small size: what a report may claim."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from mechprobe.evaluation.detection import DETECTION_COLUMNS
from mechprobe.study.config import StudyConfig, read_study
from mechprobe.study.pipeline import run_study
from mechprobe.taxonomy import load_taxonomy

ANALYSIS = Path(__file__).parents[2] / "analyses" / "organism.toml"
SMALL = (
    "seed=3",
    "data.n_fit=600",
    "data.n_select=150",
    "data.n_test=200",
    "data.pairs_fit=2",
    "data.pairs_select=6",
    "data.pairs_test=24",
    'capture.hook_names=["blocks.0.hook_out"]',
    "sae.d_sae=256",
    "sae.n_steps=80",
    'spans.estimators=["dense_logistic", "random_direction", "sae_k_sparse"]',
    "spans.n_boot=100",
    "generalisation.n_per_split=30",
    'generalisation.splits=["natural", "longer"]',
    'generalisation.estimators=["dense_logistic"]',
    "generalisation.n_boot=50",
    "falsifiers.n_passages=10",
    "falsifiers.n_features=0",
    'falsifiers.falsifiers=["paraphrase", "keywords"]',
    "falsifiers.n_boot=50",
    'falsifiers.scorers=["dense_logistic"]',
    "causal.n_random=19",
    "causal.n_shuffled=3",
    "causal.with_other_indicators=false",
    "causal.n_dose_pairs=6",
    "causal.n_neutral=4",
    "causal.n_replicates=0",
    "causal.n_map_pairs=1",
    "causal.n_select_pairs=10",
    "free_text.n_prompts=6",
    "free_text.n_select_prompts=2",
    "free_text.n_site_prompts=2",
    "free_text.n_random=1",
    "free_text.n_equal_random=1",
    "free_text.n_equal_pairs=4",
    "free_text.n_neutral=2",
    "free_text.n_questions=6",
    "causal.n_boot=400",
    "causal.n_permutations=1000",
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyConfig, list[str]]:
    """A finished run, and what it said."""
    out = tmp_path_factory.mktemp("run")
    config = read_study(ANALYSIS, [*SMALL, f"out={out}"])
    said: list[str] = []
    run_study(config, said.append)
    return config, said


@pytest.mark.slow
def test_a_study_finds_the_causes_of_the_organism_and_calls_no_control_a_driver(study):
    config, said = study
    verdicts = pd.read_parquet(config.out / "verdicts.parquet")
    main = verdicts[verdicts["direction"] == verdicts["direction"].iloc[0]]
    assert set(main["indicator"]) == set(load_taxonomy().slugs)
    assert (main["verdict"] == main["truth"]).sum() >= 15
    is_driver = main["verdict"] == "driver"
    assert not (is_driver & main["role"].isin(["readout", "upstream", "inhibitor"])).any()
    selftest = json.loads((config.out / "selftest.json").read_text())
    assert selftest["false_driver_random"].startswith("0/")
    assert selftest["false_driver_shuffled_orthogonal"].startswith("0/")
    n_drivers, n = selftest["false_driver_shuffled"].split("/")
    assert int(n_drivers) <= 0.05 * int(n)
    assert any("span_last" in line for line in said)


@pytest.mark.slow
def test_thoughts_are_read_where_words_alone_cannot_tell(study):
    config, _ = study
    detection = pd.read_parquet(config.out / "detection.parquet")
    assert tuple(detection.columns) == DETECTION_COLUMNS
    scored = detection.set_index(["unit", "scorer"])["auroc"]
    assert len(scored["hard_negative", "dense_logistic"]) == 18
    assert (scored["hard_negative", "dense_logistic"] >= 0.95).all()
    assert (scored["matched_pair", "dense_logistic"] >= 0.95).all()
    assert (scored["matched_pair", "tfidf"] <= 0.55).all()
    assert (detection["auroc_low"] <= detection["auroc"]).all()


@pytest.mark.slow
def test_a_finished_study_is_not_run_again_and_a_lost_table_is_made_anew(study):
    config, _ = study
    before = (config.out / "verdicts.parquet").read_bytes()
    (config.out / "examples.json").unlink()
    said: list[str] = []
    run_study(config, said.append)
    done_again = [line for line in said if line.endswith(": running")]
    assert done_again == ["evaluate: running"]
    assert (config.out / "verdicts.parquet").read_bytes() == before


@pytest.mark.slow
def test_the_report_shows_every_indicator_and_asks_nothing_of_the_network(study):
    config, _ = study
    page = (config.out / "report.html").read_text()
    names = [indicator.name for indicator in load_taxonomy().indicators]
    assert all(name in page for name in names)
    assert not re.findall(r'(?:src|<link[^>]*href)="?https?:', page)
