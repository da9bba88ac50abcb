"""Reading a run folder: what is missing or malformed is named with the stage that writes it."""

from pathlib import Path

import pandas as pd
import pytest

from mechprobe.errors import DataError
from mechprobe.evaluation.detection import DETECTION_COLUMNS, ROC_COLUMNS
from mechprobe.reports.run_files import COLUMNS_OF, STAGE_OF, read_if_there, read_json
from mechprobe.reports.tables import read_tables
from mechprobe.study.pipeline import STAGES


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("detection.parquet", "probe"),
        ("roc.parquet", "probe"),
        ("examples.json", "evaluate"),
        ("verdicts.parquet", "causal"),
        ("dose.parquet", "causal"),
        ("sae_quality.parquet", "sae"),
    ],
)
def test_a_missing_table_is_named_with_its_stage(small_run: Path, name: str, stage: str):
    (small_run / name).unlink()
    with pytest.raises(
        DataError, match=rf"{name} is missing.*`mechprobe study`; the stage '{stage}' writes it"
    ):
        read_tables(small_run)


def test_a_missing_folder_is_an_error(tmp_path: Path):
    with pytest.raises(DataError, match="is no folder"):
        read_tables(tmp_path / "nothing")


def test_a_table_without_a_needed_column_is_an_error(small_run: Path):
    table = pd.read_parquet(small_run / "detection.parquet").drop(columns="chance")
    table.to_parquet(small_run / "detection.parquet")
    with pytest.raises(DataError, match=r"lacks the columns chance .*the stage 'probe' writes it"):
        read_tables(small_run)


def test_an_empty_detection_table_is_an_error(small_run: Path):
    table = pd.read_parquet(small_run / "detection.parquet")
    table.iloc[:0].to_parquet(small_run / "detection.parquet")
    with pytest.raises(DataError, match="has no rows"):
        read_tables(small_run)


def test_a_broken_file_is_an_error(small_run: Path):
    (small_run / "examples.json").write_text("{")
    with pytest.raises(DataError, match=r"examples\.json is not JSON"):
        read_tables(small_run)
    (small_run / "examples.json").write_text("{}")
    with pytest.raises(DataError, match="holds a dict, a list was wanted"):
        read_tables(small_run)
    (small_run / "roc.parquet").write_bytes(b"PAR0")
    (small_run / "examples.json").write_text("[]")
    with pytest.raises(DataError, match=r"roc\.parquet is not a readable Parquet table"):
        read_tables(small_run)


def test_a_study_that_named_its_site_has_an_empty_sweep(small_run: Path):
    pd.DataFrame().to_parquet(small_run / "sites.parquet")
    causal = read_tables(small_run).causal
    assert causal is not None
    assert causal.sites.empty


def test_negative_kinds_tell_look_alikes_from_other_text(full_run: Path, detection_run: Path):
    assert read_tables(full_run).negative_kinds["span"] == {"hard_negative"}
    assert read_tables(detection_run).negative_kinds["turn"] == {"hard_negative", "other"}


def test_the_made_up_run_has_the_columns_that_the_stages_write(full_run: Path):
    # Imported here because it brings torch, which no other test of this room needs.
    from mechprobe.causal.tables.dose_table import DOSE_COLUMNS
    from mechprobe.causal.tables.effect_table import EFFECT_COLUMNS
    from mechprobe.causal.tables.verdict_table import VERDICT_COLUMNS

    for name, columns in (
        ("detection", DETECTION_COLUMNS),
        ("roc", ROC_COLUMNS),
        ("verdicts", VERDICT_COLUMNS),
        ("effects", EFFECT_COLUMNS),
        ("dose", DOSE_COLUMNS),
    ):
        table = pd.read_parquet(full_run / f"{name}.parquet")
        assert set(table.columns) == set(columns)


def test_the_stage_that_is_named_is_one_that_writes_the_file():
    assert set(STAGE_OF.values()) <= set(STAGES)
    assert set(COLUMNS_OF) <= set(STAGE_OF)


@pytest.mark.parametrize("name", sorted(STAGE_OF))
def test_every_file_that_is_broken_says_what_to_do(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"neither")
    with pytest.raises(DataError, match=f"the stage '{STAGE_OF[name]}' writes it"):
        read_json(tmp_path, name, dict) if name.endswith("json") else read_if_there(tmp_path, name)
