import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mechprobe.cli.evaluating import Compare
from mechprobe.errors import DataError, LabelError
from mechprobe.evaluation.differences import difference_of, holm
from mechprobe.evaluation.scores.score_comparison import Comparing, compare_scorers
from mechprobe.evaluation.scores.score_figures import Figures, units_of
from mechprobe.evaluation.scores.score_file import ScoreFile, read_scores
from tests.evaluation.score_rows import score_rows

FEW = Comparing(n_boot=100, n_permutations=200)


def read(tmp_path: Path, *tables: pd.DataFrame) -> ScoreFile:
    pd.concat(tables).to_parquet(tmp_path / "scores.parquet")
    return read_scores(tmp_path / "scores.parquet")


def noisy(rows: pd.DataFrame, seed: int = 1, **columns: object) -> pd.DataFrame:
    noise = np.random.default_rng(seed).normal(size=len(rows))
    return rows.assign(score=rows["score"] + 3 * noise, **columns)


def by_unit(rows: list[Figures], indicator: str = "") -> dict[object, Figures]:
    return {row["unit"]: row for row in rows if row["indicator"] == indicator}


def test_a_difference_is_that_of_the_units_whatever_the_order_of_rows(tmp_path: Path) -> None:
    rows = score_rows()
    worse = noisy(rows, scorer="words")
    file = read(tmp_path, rows, worse.sample(frac=1, random_state=0))
    found = by_unit(compare_scorers(file, "probe", "words", FEW))
    first = units_of(read(tmp_path, rows).rows)
    second = units_of(read(tmp_path, worse).rows)
    for unit, row in found.items():
        expected = difference_of(
            first[str(unit)], second[str(unit)], n_boot=100, n_permutations=200
        )
        assert (row["value"], row["low"], row["high"], row["p_value"]) == pytest.approx(
            (expected.value, expected.low, expected.high, expected.p_value)
        )
        assert row["p_holm"] == row["p_value"]  # a family of one
        assert row["n_unpaired"] == 0
    assert float(str(found["turn"]["low"])) > 0


def test_only_turns_that_both_scored_count_and_the_others_are_counted(tmp_path: Path) -> None:
    rows = score_rows()
    file = read(tmp_path, rows[5:], noisy(rows, scorer="words")[:-3])
    found = by_unit(compare_scorers(file, "probe", "words", FEW))["turn"]
    assert found["n_unpaired"] == 8
    assert float(str(found["n_pos"])) + float(str(found["n_neg"])) == len(rows) - 8


def test_indicators_are_one_family_and_a_scarce_one_is_left_out_of_it(tmp_path: Path) -> None:
    names = ("fabrication", "strategic_omission", "adversarial_user_framing")
    tables = []
    for seed, name in enumerate(names):
        rows = score_rows(seed, indicator=name)
        if name == "adversarial_user_framing":
            is_few = rows["transcript_id"] == "talk 0"
            rows["gt_misaligned"] &= is_few
            rows["transcript_pos"] &= is_few
        tables += [rows, noisy(rows, seed + 10, scorer="words")]
    found = compare_scorers(read(tmp_path, *tables), "probe", "words", FEW)
    turns = {row["indicator"]: row for row in found if row["unit"] == "turn"}
    tested = [float(str(turns[name]["p_value"])) for name in names[:2]]
    assert [turns[name]["p_holm"] for name in names[:2]] == pytest.approx(holm(tested))
    scarce = turns["adversarial_user_framing"]
    assert (scarce["status"], scarce["value"], scarce["p_holm"]) in (
        ("too few", None, None),
        ("one class only", None, None),
    )


def test_scorers_are_named_with_their_layer_and_view_where_needed(tmp_path: Path) -> None:
    rows = score_rows()
    file = read(tmp_path, rows, noisy(rows, layer=9), noisy(rows, 2, layer=9, view="reasoning"))
    found = compare_scorers(file, "probe@5", "probe@9/reasoning", FEW)
    assert found[0]["second_scorer"] == "probe@9/reasoning"
    with pytest.raises(DataError, match="probe fits probe@5/full, probe@9/full, probe@9/reasoning"):
        compare_scorers(file, "probe", "probe@5", FEW)
    with pytest.raises(DataError, match="no scorer is called judge; the file has probe@5/full"):
        compare_scorers(file, "judge", "probe@5", FEW)


def test_what_a_scorer_is_made_of_does_not_part_it_from_others(tmp_path: Path) -> None:
    rows = score_rows(indicator_scope="max_over_18")
    file = read(tmp_path, rows, noisy(rows, scorer="judge", indicator_scope="none"))
    assert len(compare_scorers(file, "probe", "judge", FEW)) == 3


def test_scorers_of_other_transcripts_or_other_labels_cannot_be_compared(tmp_path: Path) -> None:
    rows = score_rows()
    apart = noisy(rows, scorer="words", transcript_id="x" + rows["transcript_id"])
    with pytest.raises(DataError, match="no turn is scored by both probe"):
        compare_scorers(read(tmp_path, rows, apart), "probe", "words", FEW)
    other = noisy(rows, scorer="words")
    other.loc[rows.index[rows["gt_misaligned"]][0], "gt_misaligned"] = False
    with pytest.raises(LabelError, match=r"1 of \d+ turns have another label beside words"):
        compare_scorers(read(tmp_path, rows, other), "probe", "words", FEW)


def test_the_authors_two_scorers_read_other_models_and_are_not_compared(shared_data: Path) -> None:
    file = read_scores(shared_data / "scores" / "turn_scores.parquet")
    with pytest.raises(
        DataError, match=r"judge_haiku \(952 turns\) and probe_or_fused_max18 \(818 turns\)"
    ):
        compare_scorers(file, "judge_haiku", "probe_or_fused_max18", FEW)


def test_the_command_prints_and_writes_the_differences(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = score_rows()
    pd.concat([rows, noisy(rows, scorer="words")]).to_csv(tmp_path / "scores.csv", index=False)
    command = Compare(
        file=tmp_path / "scores.csv",
        first="probe",
        second="words",
        json=tmp_path / "new" / "differences.json",
        n_boot=50,
        n_permutations=100,
    )
    command.run()
    found = json.loads((tmp_path / "new" / "differences.json").read_text())
    printed = capsys.readouterr().out
    assert [row["unit"] for row in found] == ["mixed", "turn", "transcript"]
    for row in found:
        assert f"{row['value']:+.3f} [{row['low']:+.3f} {row['high']:+.3f}]" in printed
