import numpy as np
import pytest

from mechprobe.evaluation.detection import (
    DETECTION_COLUMNS,
    detection_row,
    detection_table,
    resolved_tpr,
    roc_rows,
)
from mechprobe.evaluation.units import Units


def units_of(scores: np.ndarray, is_positive: np.ndarray) -> Units:
    return Units(
        scores=scores.astype(np.float64), is_positive=is_positive, clusters=np.arange(len(scores))
    )


def test_a_row_has_the_columns_that_other_peoples_scripts_read() -> None:
    units = units_of(np.arange(300.0), np.arange(300) >= 150)
    row = detection_row(units, indicator="fabrication", scorer="dense_logistic", unit="span")
    table = detection_table([row])
    assert tuple(table.columns) == DETECTION_COLUMNS
    assert set(row) == set(DETECTION_COLUMNS)
    assert table["auroc"][0] == 1.0 and table["auroc_low"][0] < 1.0
    assert (table["n_pos"][0], table["n_neg"][0], table["n_clusters"][0]) == (150, 150, 300)
    assert table["tpr_at_1pct"][0] == 1.0


def test_an_indicator_without_labels_gets_a_row_without_a_figure() -> None:
    units = units_of(np.arange(5.0), np.zeros(5, dtype=bool))
    row = detection_row(units, indicator="adversarial_user_framing", scorer="length", unit="turn")
    assert np.isnan([row["auroc"], row["auroc_low"], row["tpr_at_5pct"]]).all()  # type: ignore[list-item]
    assert (row["n_pos"], row["n_neg"]) == (0, 5)
    assert roc_rows(units, indicator="a", scorer="b", unit="turn").empty


def test_fewer_than_five_positives_are_too_few_for_a_figure() -> None:
    for n_pos, is_given in ((4, False), (5, True)):
        units = units_of(np.arange(60.0), np.arange(60) >= 60 - n_pos)
        row = detection_row(units, indicator="strategic_attention", scorer="length", unit="turn")
        figures = [row["auroc"], row["auroc_low"], row["auroc_high"], row["tpr_at_5pct"]]
        assert np.isfinite(figures).tolist() == [is_given] * 4  # type: ignore[arg-type]
        assert row["n_pos"] == n_pos


def test_a_rate_that_the_negatives_cannot_resolve_is_not_given() -> None:
    units = units_of(np.arange(60.0), np.arange(60) >= 40)
    assert np.isnan(resolved_tpr(units, 0.01))
    assert resolved_tpr(units, 0.05) == 1.0


def test_roc_rows_are_thin_and_run_from_corner_to_corner() -> None:
    rng = np.random.default_rng(0)
    units = units_of(rng.normal(size=5000), rng.random(5000) < 0.5)
    rows = roc_rows(units, indicator="a", scorer="b", unit="span", hook_name="blocks.0.hook_out")
    assert len(rows) <= 200
    assert rows[["fpr", "tpr"]].iloc[[0, -1]].to_numpy().tolist() == [[0.0, 0.0], [1.0, 1.0]]
    assert (np.diff(rows["fpr"]) >= 0).all()


def test_empty_tables_keep_their_columns() -> None:
    assert tuple(detection_table([]).columns) == DETECTION_COLUMNS
    assert pytest.approx(0) == len(detection_table([]))
