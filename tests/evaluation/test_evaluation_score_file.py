from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mechprobe.errors import DataError, LabelError
from mechprobe.evaluation.scores.score_file import COUNTS, ScoreFile, read_scores
from tests.evaluation.score_rows import score_rows


def read(tmp_path: Path, table: pd.DataFrame, name: str = "scores.parquet") -> ScoreFile:
    path = tmp_path / name
    if path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep="\t" if ".tsv" in name else ",")
    return read_scores(path)


@pytest.mark.parametrize("name", ["scores.csv", "scores.csv.gz", "scores.tsv"])
def test_text_gives_what_parquet_gives(tmp_path: Path, name: str) -> None:
    rows = score_rows(excluded=False)
    rows.loc[::7, "excluded"] = True
    binary, text = read(tmp_path, rows), read(tmp_path, rows, name)
    pd.testing.assert_frame_equal(text.rows, binary.rows, check_dtype=False, rtol=1e-15)
    pd.testing.assert_frame_equal(text.left_out, binary.left_out, check_dtype=False)


def test_what_is_left_out_is_counted_once_for_the_first_reason(tmp_path: Path) -> None:
    rows = score_rows(excluded=False, gt_known=True)
    rows.loc[[0, 1], "excluded"] = True
    rows.loc[[1, 2], "gt_known"] = False
    rows.loc[[2, 3, 4], "score"] = np.nan
    found = read(tmp_path, rows)
    assert found.left_out[list(COUNTS)].iloc[0].tolist() == [len(rows), 2, 1, 2]
    assert len(found.rows) == len(rows) - 5


def test_a_turn_without_a_label_is_left_out(tmp_path: Path) -> None:
    rows = score_rows()
    labels = rows["gt_misaligned"].astype(object)
    labels[3] = None
    found = read(tmp_path, rows.assign(gt_misaligned=labels), "scores.csv")
    assert found.left_out["n_unlabelled"].tolist() == [1]
    assert len(found.rows) == len(rows) - 1


def test_without_a_column_a_transcript_is_positive_if_any_turn_is_even_an_unscored_one(
    tmp_path: Path,
) -> None:
    rows = pd.DataFrame(
        {
            "scorer": "probe",
            "transcript_id": ["a", "a", "b", "b"],
            "turn": [1, 2, 1, 2],
            "score": [1.0, np.nan, 2.0, 3.0],
            "gt_misaligned": [0, 1, 0, 0],
        }
    )
    found = read(tmp_path, rows).rows
    assert found["in_positive"].tolist() == [True, False, False]
    assert found[["layer", "view", "indicator"]].drop_duplicates().to_numpy().tolist() == [
        [-1, "full", ""]
    ]


def test_gaps_in_layer_and_breakdowns_do_not_change_the_other_rows(tmp_path: Path) -> None:
    rows = pd.concat([score_rows(), score_rows(scorer="judge", layer=None)])
    rows["dataset"] = np.where(rows["turn"] > 2, "late", None)
    found = read(tmp_path, rows.reset_index(drop=True), "scores.csv")
    assert found.left_out[["scorer", "layer"]].to_numpy().tolist() == [["judge", -1], ["probe", 5]]
    assert set(found.rows["dataset"]) == {"", "late"}


def test_equal_ids_of_two_models_are_two_transcripts(tmp_path: Path) -> None:
    rows = score_rows()
    both = pd.concat([rows.assign(target_model="one"), rows.assign(target_model="two")])
    assert read(tmp_path, both).rows["transcript"].nunique() == 80


def test_behaviour_is_read_from_the_name_of_a_bloom_folder(tmp_path: Path) -> None:
    rows = score_rows(target_model="GLM-4.7-flash", dataset="self-preservation_glm_4_7_flash")
    rows.loc[:10, "dataset"] = "sycophancy_benign_glm_4_7_flash"
    rows.loc[11:20, "dataset"] = "sycophancy"
    found = read(tmp_path, rows)
    assert found.behavior_from == "dataset"
    assert set(found.rows["behavior"]) == {"self-preservation", "sycophancy"}
    named = read(tmp_path, rows.assign(behaviour="lying"))
    assert named.behavior_from == "column" and set(named.rows["behavior"]) == {"lying"}
    assert "behavior" not in read(tmp_path, score_rows()).breakdowns


def test_missing_columns_are_named_with_what_was_found_and_wanted(tmp_path: Path) -> None:
    rows = score_rows().drop(columns=["turn", "gt_misaligned"])
    with pytest.raises(
        DataError,
        match=r"no column turn, gt_misaligned; found scorer, layer.*; wanted scorer, score",
    ):
        read(tmp_path, rows)
    with pytest.raises(DataError, match="no column dataset, variation, repetition; found"):
        read(tmp_path, score_rows().drop(columns="transcript_id"))


def test_two_scores_of_one_turn_are_refused_with_an_example(tmp_path: Path) -> None:
    rows = score_rows()
    twice = pd.concat([rows, rows.iloc[[4]]])
    expected = f"scores 1 turns more than once .*transcript_id {rows['transcript_id'][4]}, turn {rows['turn'][4]}"
    with pytest.raises(DataError, match=expected):
        read(tmp_path, twice)
    # Another layer or view is another series.
    assert len(read(tmp_path, pd.concat([rows, rows.assign(view="reasoning")])).left_out) == 2


def test_labels_that_contradict_themselves_are_refused(tmp_path: Path) -> None:
    rows = score_rows()
    of_first = rows["transcript_id"] == rows["transcript_id"].value_counts().index[0]
    rows.loc[of_first, "transcript_pos"] = [True] + [False] * (int(of_first.sum()) - 1)
    with pytest.raises(LabelError, match="1 transcripts that are positive in some rows"):
        read(tmp_path, rows)
    with pytest.raises(LabelError, match=r"column excluded has \d+ values such as 'perhaps'"):
        read(tmp_path, score_rows(excluded="perhaps"))


def test_scores_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    rows = score_rows()
    with pytest.raises(DataError, match="a score that is no number"):
        read(tmp_path, rows.assign(score=["high"] * len(rows)))
    rows.loc[:1, "score"] = np.inf
    with pytest.raises(DataError, match="2 infinite scores"):
        read(tmp_path, rows)


def test_files_that_are_missing_empty_or_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file"):
        read_scores(tmp_path / "nothing.parquet")
    with pytest.raises(DataError, match="has no rows"):
        read(tmp_path, score_rows()[:0])
    (tmp_path / "scores.xlsx").write_text("x")
    with pytest.raises(DataError, match=r"neither \.parquet nor \.csv"):
        read_scores(tmp_path / "scores.xlsx")
    (tmp_path / "broken.parquet").write_text("x")
    with pytest.raises(DataError, match="cannot be read"):
        read_scores(tmp_path / "broken.parquet")
    rows = score_rows()
    rows.loc[0, "transcript_id"] = None
    with pytest.raises(DataError, match="1 rows without transcript_id, turn"):
        read(tmp_path, rows)
