"""Sections about detectors: each stands where its table is, says what the table says, and is absent elsewhere."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mechprobe.errors import DataError
from mechprobe.evaluation.gains import GAIN_COLUMNS
from mechprobe.evaluation.transfers.generalisation import GENERALISATION_COLUMNS
from mechprobe.evaluation.transfers.transfer import TRANSFER_COLUMNS
from mechprobe.evaluation.turns.calibration_table import CALIBRATION_COLUMNS
from mechprobe.evaluation.turns.decomposition import DECOMPOSITION_COLUMNS
from mechprobe.evaluation.turns.operating_points import THRESHOLD_COLUMNS
from mechprobe.falsifiers.config import FALSIFIER_COLUMNS
from mechprobe.reports.drivers import best_feature_rows
from mechprobe.reports.generalisation import ALL_OTHERS, domain_maps, transfers
from mechprobe.reports.reliability import reliability_figure, shown_curves
from mechprobe.reports.report import write_report
from mechprobe.reports.run_files import COLUMNS_OF
from mechprobe.reports.scorers import scorer_table
from mechprobe.reports.tables import read_tables
from mechprobe.reports.wording import scorer_words
from tests.reports.page import Page
from tests.reports.synthetic_run import write_synthetic_run

SECTIONS = {
    "generalisation": ("generalisation.parquet", "transfer.parquet"),
    "thresholds": ("thresholds.parquet",),
    "drivers": ("drivers.parquet", "best_features.parquet"),
    "geometry": ("geometry.json",),
    "falsifiers": ("falsifiers.parquet",),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("detectors") / "run"
    write_synthetic_run(folder, causal=False, detectors=True, n_indicators=3)
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def page(run: Path) -> Page:
    return Page(run / "report.html")


def sections(page: Page) -> set[str]:
    return {found["id"] for tag, found in page.elements if tag == "section"}


def test_every_section_is_there_with_its_link_and_its_figures(page: Page) -> None:
    assert {"scorers", *SECTIONS} <= sections(page)
    links = {found["href"] for tag, found in page.elements if tag == "a" and "href" in found}
    assert {"#scorers", *(f"#{name}" for name in SECTIONS)} <= links
    assert (page.unbalanced, page.open) == ([], [])
    places = [found["data-figure"] for found in page.with_class("plot")]
    assert sorted(places) == sorted(page.figures)
    assert {"domains-0", "domains-1", "domains-2", "cosines-0", "cosines-1"} <= set(places)


@pytest.mark.parametrize("name", sorted(SECTIONS))
def test_a_section_is_absent_where_its_table_is(tmp_path: Path, name: str) -> None:
    folder = write_synthetic_run(tmp_path / "run", causal=False, detectors=True, n_indicators=3)
    for table in SECTIONS[name]:
        (folder / table).unlink()
    found = sections(Page(write_report(folder)))
    assert name not in found
    assert (set(SECTIONS) - {name}) <= found


def test_a_run_that_asks_nothing_about_turns_has_none_of_them(full_run: Path) -> None:
    assert not {"scorers", *SECTIONS} & sections(Page(full_run / "report.html"))


def test_what_probes_gain_over_text_is_said_in_numbers(page: Page) -> None:
    assert "Better than length? 3 of 3 probes" in page.words
    assert "Better than text? None of 3 probes, 1 of 1 judges (Haiku)." in page.words
    assert "Adds to text? None of 3 probes, 1 of 1 judges (Haiku)." in page.words


def test_scorers_stand_in_groups_beside_chance_with_the_controls_last(run: Path) -> None:
    table = scorer_table(read_tables(run))
    assert table is not None
    groups = {title: [row.scorer for row in rows] for title, rows in table.groups}
    assert groups == {
        "Probes on activations": ["dense_logistic"],
        "Probes on SAE features": ["sae_logistic"],
        "Fused from the indicators' probes": ["dense_logistic_noisy_or"],
        "Text alone": ["tfidf_bigrams", "length"],
        "Others' scores": ["haiku"],
        "Controls, which should know nothing": ["random_direction", "shuffled_labels"],
    }
    assert table.chances == {"turn": 0.5, "transcript": 0.5, "mixed": 0.7}


def test_a_gain_that_does_not_outlast_the_correction_is_not_shown(tmp_path: Path) -> None:
    folder = write_synthetic_run(tmp_path / "run", causal=False, detectors=True, n_indicators=3)
    gains = pd.read_parquet(folder / "gains.parquet").assign(q_holm=0.06)
    gains.to_parquet(folder / "gains.parquet")
    words = Page(write_report(folder)).words
    assert "Better than length? None of 3 probes, none of 1 judges." in words


def test_drivers_that_push_against_their_own_side_are_struck_through(page: Page, run: Path) -> None:
    text = (run / "report.html").read_text(encoding="utf-8")
    # "records" raises the score although it stands in fewer positives; the others push to their side.
    assert "▲&nbsp;quietly" in text and "▲&nbsp;<s>records</s>" in text
    assert "▼&nbsp;never" in text and "<s>never</s>" not in text
    assert "What scorers go by" in page.words


def test_luck_is_shown_on_the_side_of_the_feature(run: Path) -> None:
    best = read_tables(run).detectors.best_features
    rows = best_feature_rows(best, ())
    assert (rows[0].auroc, rows[0].by_luck) == pytest.approx((0.31, 0.36))
    assert (rows[1].auroc, rows[1].by_luck) == pytest.approx((0.7, 0.64))


def test_reliability_curves_are_those_of_one_method_on_full_turns(run: Path, page: Page) -> None:
    curves = shown_curves(read_tables(run).detectors.reliability)
    assert curves is not None and set(curves["method"]) == {"platt"} and len(curves) == 12
    figure = reliability_figure(curves)
    drawn = {trace.name: list(trace.y) for trace in figure.data}
    assert [round(y, 2) for y in drawn[scorer_words("tfidf")]] == [
        0.02,
        0.12,
        0.22,
        0.32,
        0.42,
        0.52,
    ]
    assert "reliability" in page.figures
    assert shown_curves(curves.iloc[:0]) is None


def test_a_map_holds_the_cells_of_its_scorer_and_nothing_where_there_are_too_few(run: Path) -> None:
    table = read_tables(run).detectors.generalisation
    assert table is not None
    words = next(one for one in domain_maps(table) if one.scorer == "tfidf_bigrams")
    assert list(words.auroc.index) == ["sabotage", "sycophancy", "sandbagging", ALL_OTHERS]
    assert (
        words.auroc.loc["sabotage", "sabotage"] > 0.85 > words.auroc.loc["sabotage", "sycophancy"]
    )
    assert np.isnan(words.auroc["sandbagging"]).all()
    assert words.note.loc["sabotage", "sandbagging"] == "too few: 3 positive"
    assert "40 positive, 160 negative; chance 0.50" in words.note.loc["sabotage", "sabotage"]


def test_indicators_of_one_cell_are_averaged_without_those_that_are_too_few() -> None:
    cells = [
        {
            "key": "split",
            "trained_on": "natural",
            "tested_on": "longer",
            "scorer": "dense_logistic",
            "indicator": f"i{number}",
            "unit": "span",
            "auroc": value,
            "low": 0.0,
            "high": 1.0,
            "chance": 0.5,
            "n_pos": 9,
            "n_neg": 9,
            "too_few": bool(np.isnan(value)),
        }
        for number, value in enumerate((0.7, 0.9, np.nan))
    ]
    (found,) = domain_maps(pd.DataFrame(cells))
    assert found.auroc.loc["natural", "longer"] == pytest.approx(0.8)
    assert found.note.loc["natural", "longer"].startswith("mean of 2 of 3 indicators")


def test_transfer_sets_each_scorer_beside_words(run: Path, page: Page) -> None:
    (found,) = transfers(read_tables(run).detectors)
    probe = next(row for row in found.rows if row.scorer == "dense_logistic")
    within, across, left_out = probe.gains
    assert within is not None and within.high < 0
    assert across is not None and across.low > 0
    assert left_out is not None
    assert "✓ more than words" in page.words and "✕ less than words" in page.words
    assert next(row for row in found.rows if row.scorer == "tfidf_bigrams").gains == (None,) * 3


def test_a_refused_threshold_and_a_falsifier_with_too_few_have_no_number(page: Page) -> None:
    assert page.words.count("refused: too few neutral units") == 3
    assert "\u2013 too few" in page.words
    assert "✓ survives0.20 (0.10\u20130.90) [0.03]" in page.words


def test_names_of_the_run_cannot_break_out_of_the_page(tmp_path: Path) -> None:
    folder = write_synthetic_run(tmp_path / "run", causal=False, detectors=True, n_indicators=3)
    attack = '</script><script>alert("x")</script>'
    for name, column in (
        ("generalisation.parquet", "tested_on"),
        ("falsifiers.parquet", "variant"),
        ("thresholds.parquet", "scorer"),
    ):
        pd.read_parquet(folder / name).assign(**{column: attack}).to_parquet(folder / name)
    found = json.loads((folder / "geometry.json").read_text())
    (folder / "geometry.json").write_text(json.dumps({attack: next(iter(found.values()))}))
    page = Page(write_report(folder))
    assert not [text for found, text in page.scripts if not found and "alert" in text]
    assert page.unbalanced == []


@pytest.mark.parametrize("name", ["gains.parquet", "generalisation.parquet", "thresholds.parquet"])
def test_a_table_without_a_needed_column_is_an_error(tmp_path: Path, name: str) -> None:
    folder = write_synthetic_run(tmp_path / "run", causal=False, detectors=True, n_indicators=3)
    pd.read_parquet(folder / name).drop(columns="scorer").to_parquet(folder / name)
    with pytest.raises(DataError, match=rf"{name} lacks the columns scorer"):
        read_tables(folder)


def test_the_columns_that_are_read_are_those_that_the_stages_write() -> None:
    for name, columns in (
        ("gains.parquet", GAIN_COLUMNS),
        ("generalisation.parquet", GENERALISATION_COLUMNS),
        ("transfer.parquet", TRANSFER_COLUMNS),
        ("thresholds.parquet", THRESHOLD_COLUMNS),
        ("calibration.parquet", CALIBRATION_COLUMNS),
        ("decomposition.parquet", DECOMPOSITION_COLUMNS),
        ("falsifiers.parquet", FALSIFIER_COLUMNS),
    ):
        assert set(COLUMNS_OF[name]) <= set(columns), name
