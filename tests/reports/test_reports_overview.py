"""The first screen's judgements, on numbers worked out by hand."""

from pathlib import Path

import pandas as pd
import pytest

from mechprobe.reports.estimates import Estimate
from mechprobe.reports.facts import read_facts
from mechprobe.reports.names import indicator_names
from mechprobe.reports.overview import (
    UnitScores,
    better_than_words,
    is_above,
    overview,
    units_of,
)
from mechprobe.reports.tables import read_tables
from mechprobe.reports.wording import interval, number, p_value, verdict_word
from mechprobe.taxonomy import load_taxonomy


def scores(dense: Estimate, words: Estimate) -> UnitScores:
    return UnitScores(
        unit="span",
        dense=dense,
        sparse=None,
        words=words,
        length=None,
        chance=0.5,
        n_pos=10.0,
        n_neg=10.0,
    )


def test_detected_means_that_the_whole_interval_is_above_chance():
    assert is_above(Estimate(value=0.7, low=0.51, high=0.8), 0.5)
    assert not is_above(Estimate(value=0.7, low=0.49, high=0.8), 0.5)
    assert not is_above(Estimate(value=0.7, low=0.6, high=0.8), 0.65)
    assert not is_above(Estimate(value=float("nan")), 0.5)
    assert not is_above(None, 0.5)


@pytest.mark.parametrize(
    ("dense", "words", "answer"),
    [
        ((0.9, 0.85, 0.95), (0.7, 0.6, 0.8), "yes"),
        ((0.9, 0.75, 0.95), (0.7, 0.6, 0.8), "not shown"),
        ((0.5, 0.4, 0.6), (0.8, 0.7, 0.9), "no"),
    ],
)
def test_without_a_paired_difference_the_intervals_decide(dense, words, answer):
    of = [Estimate(value=v, low=low, high=high) for v, low, high in (dense, words)]
    better = better_than_words(scores(*of), None)
    assert better is not None
    assert better.answer == answer


def test_a_paired_difference_outranks_overlapping_intervals():
    dense, words = Estimate(value=0.8, low=0.7, high=0.9), Estimate(value=0.75, low=0.65, high=0.85)
    better = better_than_words(scores(dense, words), Estimate(value=0.05, low=0.01, high=0.09))
    assert better is not None
    assert (better.answer, better.detail) == ("yes", "+0.05 (0.01\u20130.09)")


def test_hard_negatives_come_before_other_units():
    table = pd.DataFrame({"unit": ["transcript", "span", "turn", "hard_negative", "own unit"]})
    assert units_of(table) == ["hard_negative", "span", "turn", "transcript", "own unit"]


def test_overview_counts_verdicts_and_right_ones(full_run: Path):
    tables = read_tables(full_run)
    taxonomy = load_taxonomy()
    found = overview(tables, indicator_names(taxonomy.slugs, taxonomy).studied)
    counts = {item.word.slug: item.n for item in found.verdict_counts}
    assert counts == {
        "driver": 6,
        "necessary_only": 1,
        "sufficient_only": 2,
        "inhibitor": 1,
        "text_mediated": 1,
        "readout_only": 6,
        "undetermined": 1,
    }
    assert (found.n_right, found.n_judged) == (17, 18)
    assert found.chance == 0.5


def test_the_held_out_split_is_shown(small_run: Path):
    table = pd.read_parquet(small_run / "detection.parquet")
    select = table.assign(split="select", auroc=0.1, auroc_low=0.1, auroc_high=0.1)
    pd.concat([select, table]).to_parquet(small_run / "detection.parquet")
    taxonomy = load_taxonomy()
    found = overview(read_tables(small_run), indicator_names(taxonomy.slugs, taxonomy).studied)
    assert (found.median_of("dense") or 0) > 0.9


def test_unknown_indicators_come_last_under_their_own_name():
    names = indicator_names(["my_own", "fabrication", "strategic_omission"], load_taxonomy())
    assert [name.slug for name in names.studied] == ["strategic_omission", "fabrication", "my_own"]
    assert names.studied[-1].name == "My own"
    assert len(names.absent) == 16


def test_a_taxonomy_of_ones_own_does_not_list_ours_as_absent():
    names = indicator_names(["my_own"], load_taxonomy())
    assert names.absent == ()


def test_facts_come_from_the_study_file_and_the_records(full_run: Path):
    facts = read_facts(full_run)
    assert (facts.n_transcripts, facts.seed) == (2400, 7)
    assert facts.title == "A small model that plots, with its truth known"
    assert [stage.record.stage for stage in facts.stages] == [
        *("import", "capture", "sae", "probe", "evaluate")
    ]


def test_facts_of_an_unrecorded_folder_are_empty(tmp_path: Path):
    facts = read_facts(tmp_path)
    assert (facts.model, facts.n_transcripts, facts.seed, facts.stages) == ("", None, None, ())


def test_numbers_are_printed_for_people():
    assert number(-0.125, 2) in ("\u22120.12", "\u22120.13")
    assert number(-0.001) == "0.00"
    assert number(float("nan")) == "\u2013"
    assert interval(0.9, 0.95) == "0.90\u20130.95"
    assert interval(-0.1, 0.2) == "\u22120.10 to 0.20"
    assert p_value(0.0002) == "p < 0.001"
    assert verdict_word("driver").word == "Driver"
    assert verdict_word("never_heard").word == "Never heard"
