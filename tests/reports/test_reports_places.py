"""Where the thoughts act: sites of verdicts, maps of parts and heads, and free writing side by side."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mechprobe.errors import DataError
from mechprobe.reports.effects import effect_rows
from mechprobe.reports.figures import site_figure
from mechprobe.reports.places import marked, place_maps, used_sites
from mechprobe.reports.report import write_report
from mechprobe.reports.tables import CausalTables, read_tables
from mechprobe.reports.verdicts import verdict_views
from mechprobe.reports.writing import changed_texts, damage_rows, marked_words
from tests.reports.page import Page

ATTACK = "<script>alert(1)</script>"


def causal_tables(folder: Path) -> CausalTables:
    causal = read_tables(folder).causal
    assert causal is not None
    return causal


def test_each_indicator_has_the_site_of_its_own_verdict(small_run: Path):
    verdicts = pd.read_parquet(small_run / "verdicts.parquet")
    away = verdicts["indicator"] == "strategic_omission"
    verdicts.loc[away, ["hook_name", "position"]] = ["blocks.1.hook_out", "span_all"]
    further = verdicts.assign(direction="sae", hook_name="blocks.9.hook_out")
    pd.concat([verdicts, further]).to_parquet(small_run / "verdicts.parquet")
    common, own = used_sites(causal_tables(small_run))
    assert (common.hook_name, common.position) == ("blocks.0.hook_out", "span_last")
    assert len(common.indicators) == 2
    assert own.indicators == ("strategic_omission",)
    assert marked([common, own]) == {
        ("blocks.0.hook_out", "span_last"): 2,
        ("blocks.1.hook_out", "span_all"): 1,
    }
    assert list(marked([common, own], "strategic_omission")) == [("blocks.1.hook_out", "span_all")]
    page = Page(write_report(small_run))
    texts = page.figures["i-strategic-omission-site-0"]["data"][0]["text"]
    assert [cell for row in texts for cell in row if "◆" in cell] == ["◆ 0.60"]
    assert "blocks.1.hook_outwhole span1Strategic Omission" in page.words


def test_a_map_has_its_parts_in_the_order_of_computation(full_run: Path):
    causal = causal_tables(full_run)
    (found,) = place_maps(causal.parts, "part")
    assert list(found.effect.index[:4]) == [
        *("Layer 0, attention", "Layer 0, MLP", "Layer 0, stream after it", "Layer 1, attention")
    ]
    assert list(found.effect.columns) == ["span_last", "decision"]
    assert found.strongest.endswith("decision: 0.90")
    assert place_maps(None, "part") == []
    (heads,) = place_maps(causal.heads, "head")
    assert list(heads.effect.index[:3]) == ["Layer 0, head 0", "Layer 0, head 1", "Layer 1, head 0"]
    assert heads.effect.loc["Layer 1, head 1", "decision"] == pytest.approx(0.4)


def test_cells_that_do_not_differ_from_zero_stand_in_brackets(full_run: Path):
    (found,) = place_maps(causal_tables(full_run).heads, "head")
    texts = site_figure(found.effect, is_shown=found.is_shown).data[0].text
    assert [list(row) for row in texts[:2]] == [["(0.00)", "0.40"], ["(0.00)", "(0.00)"]]


def test_words_that_differ_are_marked_and_all_else_is_kept():
    before, after = marked_words("read the report ; then stop", "hide the report ; then stop")
    assert str(before) == "<del>read</del> the report ; then stop"
    assert str(after) == "<ins>hide</ins> the report ; then stop"
    same, _ = marked_words("a  b\n", "a  b\n")
    assert str(same) == "a  b\n"
    _, attack = marked_words("", ATTACK)
    assert "<script" not in attack


def test_the_five_most_changed_texts_of_the_own_direction_are_shown(full_run: Path):
    found = changed_texts(causal_tables(full_run).generations, "fabrication")
    assert [text.pair_id for text in found] == [f"pair-{i}" for i in (6, 5, 4, 3, 2)]
    assert changed_texts(None, "fabrication") == []


def test_damage_stands_beside_the_mean_of_its_random_draws(full_run: Path):
    rows = damage_rows(causal_tables(full_run).damage, "fabrication")
    assert [(row.control, row.n_draws) for row in rows] == [("none", 1), ("none", 1), ("random", 4)]
    assert [row.strength for row in rows[:2]] == [1.0, 2.0]
    assert rows[2].figures["kl"] == pytest.approx(0.085)
    assert damage_rows(causal_tables(full_run).damage, "nobody") == []
    assert rows[0].unedited == {"distinct_2": 0.6}


def test_a_verdict_shows_the_further_figures_that_it_has(small_run: Path):
    causal = causal_tables(small_run)
    verdicts = causal.verdicts.assign(
        complement_necessity=0.02, mde=0.12, n_random=120, illusion=True, q_bh=np.nan
    )
    effects = effect_rows(causal.effects, "strategic_omission")
    (view,) = verdict_views(verdicts, effects, "strategic_omission")
    assert view.has_rest
    assert view.necessity.rest == pytest.approx(0.02)
    assert view.figures["mde"] == pytest.approx(0.12)
    assert "q_bh" not in view.figures
    verdicts.to_parquet(small_run / "verdicts.parquet")
    page = Page(write_report(small_run))
    assert "All but this direction" in page.words
    assert "Random directions120" in page.words
    assert page.words.count("Illusion suspected") == 3


def test_a_verdict_without_them_shows_none(small_run: Path):
    verdicts = pd.read_parquet(small_run / "verdicts.parquet")
    extra = [name for name in verdicts.columns if name.startswith("complement_")]
    verdicts.drop(columns=extra).to_parquet(small_run / "verdicts.parquet")
    words = Page(write_report(small_run)).words
    assert "All but this direction" not in words
    assert "Illusion suspected" not in words


def test_a_run_goes_without_the_further_tables(small_run: Path):
    for name in ("parts", "heads", "generations", "damage"):
        (small_run / f"{name}.parquet").unlink()
    page = Page(write_report(small_run))
    assert (page.unbalanced, page.open) == ([], [])
    assert "Which part brings it there" not in page.words
    assert "Damage to other text" not in page.words


def test_generated_text_cannot_become_markup(small_run: Path):
    table = pd.read_parquet(small_run / "generations.parquet")
    for name in ("prompt_tail", "unedited_text", "edited_text", "edited_action", "pair_id"):
        table[name] = f"{ATTACK} {name}"
    table.to_parquet(small_run / "generations.parquet")
    page = Page(write_report(small_run))
    assert not any(text.startswith("alert") for _, text in page.scripts)
    assert ATTACK in page.words


def test_a_further_table_without_its_columns_is_an_error(small_run: Path):
    pd.DataFrame({"layer": [0]}).to_parquet(small_run / "heads.parquet")
    with pytest.raises(DataError, match=r"heads\.parquet lacks the columns head"):
        read_tables(small_run)
