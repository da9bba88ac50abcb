"""The page as a whole: complete, self-contained, safe, and the same every time."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from mechprobe.reports.report import write_report
from mechprobe.taxonomy import load_taxonomy
from tests.reports.page import Page
from tests.reports.synthetic_run import write_synthetic_run

ATTACK = '</script><script>alert("x")</script><img/src=x/onerror=alert(1)>'


@pytest.fixture(scope="module")
def page(full_run: Path) -> Page:
    return Page(full_run / "report.html")


@pytest.fixture(scope="module")
def detection_page(detection_run: Path) -> Page:
    return Page(detection_run / "report.html")


def test_every_indicator_has_a_row_and_a_section_in_the_order_of_the_taxonomy(page: Page):
    slugs = list(load_taxonomy().slugs)
    named = [
        (tag, found["data-indicator"]) for tag, found in page.elements if "data-indicator" in found
    ]
    assert [slug for tag, slug in named if tag == "tr"] == slugs
    assert [slug for tag, slug in named if tag == "details"] == slugs


def test_every_plot_has_its_figure_and_every_indicator_its_curves(page: Page):
    places = [found["data-figure"] for found in page.with_class("plot")]
    assert sorted(places) == sorted(page.figures)
    assert len(places) == len(set(places))
    for slug in load_taxonomy().slugs:
        anchor = "i-" + slug.replace("_", "-")
        assert {f"{anchor}-roc-0", f"{anchor}-dose", f"{anchor}-site-0"} <= set(places)
    assert len(places) == 18 * 4 + 1 + 2 + 2


def test_roc_figures_name_every_scorer_and_chance(page: Page):
    names = [trace["name"] for trace in page.figures["i-fabrication-roc-0"]["data"]]
    assert {"Chance", "Dense probe (logistic)", "SAE features (k-sparse)", "Words (TF-IDF)"} <= set(
        names
    )


def test_headline_counts_what_was_found(page: Page):
    assert "18 of 18 indicators are detected against hard negatives" in page.words
    assert "6 of 18 drive the behaviour" in page.words
    assert "the verdict is right for 17 of 18 whose truth is known" in page.words
    assert "0 of 360 random and 0 of 36 shuffled-label" in page.words


def test_elements_are_balanced(page: Page, detection_page: Page):
    assert (page.unbalanced, page.open) == ([], [])
    assert (detection_page.unbalanced, detection_page.open) == ([], [])


def test_page_asks_the_network_for_nothing(page: Page, full_run: Path):
    for tag, found in page.elements:
        assert tag not in ("iframe", "object", "embed", "base")
        assert "src" not in found
        for name in ("href", "data", "action", "poster"):
            assert not re.match(r"\s*(https?:)?//", found.get(name, ""))
    own = (full_run / "report.html").read_text().split("<body>")[0]
    assert "@import" not in own
    assert "url(" not in own


def test_plotly_is_inlined_once(full_run: Path):
    page = Page(full_run / "report.html")
    large = [text for _, text in page.scripts if len(text) > 1_000_000]
    assert len(large) == 1
    assert 3_000_000 < (full_run / "report.html").stat().st_size < 9_000_000


def test_a_column_that_sorts_has_its_values_in_every_row(full_run: Path):
    text = (full_run / "report.html").read_text()
    table = text[text.index('<table class="overview') : text.index("</table>")]
    columns = {int(found) for found in re.findall(r'data-column="(\d+)"', table)}
    rows = re.findall(r"<tr data-indicator.*?</tr>", table, flags=re.S)
    widths = {len(re.findall(r"<t[hd][ >]", row)) for row in rows}
    assert widths == {max(columns) + 1}
    assert columns == set(range(max(columns) + 1))


def test_text_of_the_run_cannot_become_markup(tmp_path: Path):
    folder = write_synthetic_run(tmp_path / "run", words=ATTACK, n_indicators=2)
    own = folder / "detection.parquet"
    table = pd.read_parquet(own)
    table["hook_name"] = ATTACK
    table["indicator"] = table["indicator"].replace("misalignment_cover_story_planning", ATTACK)
    table.to_parquet(own)
    verdicts = pd.read_parquet(folder / "verdicts.parquet")
    verdicts["reason"] = ATTACK
    verdicts.to_parquet(folder / "verdicts.parquet")
    (folder / "study.toml").write_text(
        f"title = {json.dumps(ATTACK)}\nmodel = {json.dumps(ATTACK)}\n"
    )
    page = Page(write_report(folder))
    tags = [tag for tag, _ in page.elements]
    assert "img" not in tags
    assert (page.unbalanced, page.open) == ([], [])
    assert not any(
        "alert(" in text
        for found, text in page.scripts
        if found.get("type") is None and len(text) < 1_000_000
    )
    assert ATTACK in page.words
    assert page.figures


def test_a_study_without_interventions_has_no_causal_columns(detection_page: Page):
    words = detection_page.words
    assert "Verdict" not in words
    assert "Necessity" not in words
    assert "detected above chance at turn level" in words
    assert "By transcript chance 0.50" in words
    ids = {found.get("id") for _, found in detection_page.elements}
    assert not ids & {"cause", "matrix", "selftest"}
    assert "i-fabrication-roc-1" in detection_page.figures
    assert len(detection_page.with_class("plot")) == 18 * 2


def test_a_study_without_sae_has_no_feature_parts(tmp_path: Path):
    folder = write_synthetic_run(tmp_path / "run", causal=False, sae=False, n_indicators=2)
    page = Page(write_report(folder))
    assert "sae" not in {found.get("id") for _, found in page.elements}
    assert not page.with_class("feature")


def test_verdict_is_told_by_word_and_sign_not_by_colour_alone(page: Page):
    for sign, word in (("●", "Driver"), ("◐", "Necessary only"), ("○", "Read-out only")):
        assert f"{sign}{word}" in page.words


def test_the_same_run_gives_the_same_page(small_run: Path):
    before = write_report(small_run).read_bytes()
    assert write_report(small_run).read_bytes() == before


def test_indicators_without_data_are_named_below_the_table(small_run: Path):
    for name in ("detection", "verdicts"):
        table = pd.read_parquet(small_run / f"{name}.parquet")
        table[table["indicator"] != "observer_suspicion_modeling"].to_parquet(
            small_run / f"{name}.parquet"
        )
    page = Page(write_report(small_run))
    assert "2 of 2 indicators are detected" in page.words
    assert "Not in this study, for want of labelled text: Observer Suspicion" in page.words


def test_an_indicator_with_an_empty_class_shows_a_dash_and_is_not_counted(small_run: Path):
    table = pd.read_parquet(small_run / "detection.parquet")
    is_it = table["indicator"] == "observer_suspicion_modeling"
    table.loc[is_it, ["auroc", "auroc_low", "auroc_high", "chance"]] = float("nan")
    table.to_parquet(small_run / "detection.parquet")
    page = Page(write_report(small_run))
    assert "2 of 2 indicators are detected" in page.words
    assert "too few labelled examples" in page.words
