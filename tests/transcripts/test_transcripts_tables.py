import pandas as pd
import pytest

from mechprobe.errors import DataError, LabelError
from mechprobe.transcripts.labels import LabelReader
from mechprobe.transcripts.readers.tables import TableColumns, read_table

ROWS = {
    "text": ["<think>I lie</think>all good", "plain, with comma"],
    "label": ["1", "0"],
    "group": ["a", "b"],
    "prompt": ["well?", ""],
    "note": ["x", ""],
}
WRITERS = {
    "csv": lambda table, path: table.to_csv(path, index=False),
    "tsv": lambda table, path: table.to_csv(path, index=False, sep="\t"),
    "xlsx": lambda table, path: table.to_excel(path, index=False),
    "parquet": lambda table, path: table.to_parquet(path),
}


def written(folder, rows, suffix="csv"):
    path = folder / f"t.{suffix}"
    WRITERS[suffix](pd.DataFrame(rows), path)
    return path


def read(path, **columns):
    return list(read_table(path, LabelReader(), TableColumns(**columns)))


@pytest.mark.parametrize("suffix", list(WRITERS))
def test_every_kind_of_table_gives_the_same_transcripts(tmp_path, suffix):
    first, second = read(written(tmp_path, ROWS, suffix))
    assert [message.role for message in first.messages] == ["user", "assistant"]
    assert (first.messages[1].reasoning, first.messages[1].content) == ("I lie", "all good")
    assert (first.is_misaligned, second.is_misaligned) == (True, False)
    assert (first.id, first.group, first.meta) == ("row-1", "a", {"note": "x"})
    assert [message.content for message in second.messages] == ["plain, with comma"]


@pytest.mark.parametrize("suffix", ["xlsx", "parquet"])
@pytest.mark.parametrize("labels", [[True, False], [1, 0], [1.0, 0.0]])
def test_labels_may_be_numbers(tmp_path, suffix, labels):
    table = read(written(tmp_path, {"text": ["a", "b"], "label": labels}, suffix))
    assert [item.is_misaligned for item in table] == [True, False]


def test_a_label_column_may_name_indicators(tmp_path):
    rows = {"text": ["a", "b", "c"], "label": ["Fabrication; strategic_omission", "none", ""]}
    found = [item.indicators(0) for item in read(written(tmp_path, rows))]
    assert found == [{"fabrication", "strategic_omission"}, set(), set()]


def test_columns_of_other_names_are_named(tmp_path):
    rows = {"answer": ["a"], "bad": ["yes"], "thoughts": ["hm"], "key": ["k"]}
    path = written(tmp_path, rows)
    (item,) = read(path, text="answer", label="bad", reasoning="thoughts", id="key")
    assert (item.id, item.messages[0].reasoning, item.is_misaligned) == ("k", "hm", True)


@pytest.mark.parametrize(
    ("rows", "columns", "error", "says"),
    [
        (ROWS, {"text": "txt"}, DataError, r"no column 'txt' for the text; did you mean 'text'"),
        (ROWS, {"id": "key"}, DataError, "no column 'key' for the id; .*columns: text, label"),
        ({"text": ["a"], "label": ["fabricaton"]}, {}, LabelError, "row 1: .*near names: fabric"),
        (
            {"text": ["a", ""], "label": ["1", "0"]},
            {},
            DataError,
            "row 2: the column 'text' is empty",
        ),
        ({"text": ["a", "b"], "label": "1", "id": "x"}, {}, DataError, "row 2 repeats the id 'x'"),
        ({"text": [], "label": []}, {}, DataError, "a header and no rows"),
    ],
)
def test_mistakes_are_named(tmp_path, rows, columns, error, says):
    path = written(tmp_path, rows)
    with pytest.raises(error, match=says):
        read(path, **columns)


@pytest.mark.parametrize("suffix", list(WRITERS))
def test_files_that_are_no_tables_are_named(tmp_path, suffix):
    path = tmp_path / f"t.{suffix}"
    path.write_bytes(b"")
    with pytest.raises(DataError, match="is empty"):
        read(path)
    path.write_bytes(b"\xff\x00\x01 no table")
    with pytest.raises(DataError, match=r"cannot be read as|no column"):
        read(path)
