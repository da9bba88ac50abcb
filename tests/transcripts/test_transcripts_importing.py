import json

import pandas as pd
import pytest

from mechprobe.errors import DataError, LabelError
from mechprobe.taxonomy import load_taxonomy
from mechprobe.transcripts.importing import detect_format, import_transcripts
from mechprobe.transcripts.jsonl import read_transcripts, write_transcripts
from mechprobe.transcripts.readers.tables import TableColumns
from mechprobe.transcripts.transcript import Message, Span, Transcript, number_turns

CHAT = {
    "messages": [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": "<think>I made it up.</think>Done."},
    ],
    "label": 1,
    "spans": [
        {"indicator": "Fabrication", "text": "I made it up"},
        {"indicator": "fabrication", "text": "I MADE", "present": False},
    ],
}
NORMALISED = {
    "id": "a",
    "variation": 1,
    "behavior": "sabotage",
    "messages": CHAT["messages"],
    "gt": {
        "present": True,
        "misaligned_turns": [{"turn": 1}],
        "indicators": [{"turn": 1, "indicator": "Fabrication", "spans": ["Done", "gone"]}],
    },
    "judge_scores": {"haiku": {"1": 7}},
}


def native() -> Transcript:
    messages = number_turns(
        [Message(role="user", content="go"), Message(role="assistant", content="done")]
    )
    span = Span(indicator="fabrication", message=1, section="answer", start=0, end=4)
    return Transcript(id="a", messages=messages, spans=(span,))


def lines(folder, *values, name="in.jsonl"):
    path = folder / name
    path.write_text("".join(f"{json.dumps(value)}\n" for value in values))
    return path


def test_each_format_is_told_by_its_name_and_first_line(tmp_path):
    write_transcripts(tmp_path / "n.jsonl.zst", [native()])
    assert detect_format(tmp_path / "n.jsonl.zst") == "native"
    assert detect_format(lines(tmp_path, CHAT)) == "chat"
    assert detect_format(lines(tmp_path, {**CHAT, "id": "x"})) == "chat"
    assert detect_format(lines(tmp_path, NORMALISED)) == "normalised"
    (tmp_path / "t.csv").touch()
    assert detect_format(tmp_path / "t.csv") == "table"


def test_chat_is_imported_and_counted(tmp_path):
    report = import_transcripts(lines(tmp_path, CHAT), tmp_path / "out")
    (item,) = read_transcripts(tmp_path / "out" / "transcripts.jsonl")
    assert item.messages[1].reasoning == "I made it up."
    assert report.spans == {"exact": 1, "normalised": 1, "other_turn": 0, "given": 0, "lost": 0}
    assert report.indicators == {"fabrication": {"spans": 1, "hard_negatives": 1}}
    assert (report.n_transcripts, report.n_turns, report.n_misaligned) == (1, 1, 1)
    stored = json.loads((tmp_path / "out" / "import.json").read_text())
    assert stored["spans"] == report.spans
    assert str(report).startswith("1 transcripts (0 excluded) in 1 scenarios; spans: 1 exact")


def test_native_files_come_through_unchanged_even_onto_themselves(tmp_path):
    path = tmp_path / "transcripts.jsonl"
    write_transcripts(path, [native()])
    before = path.read_bytes()
    report = import_transcripts(path, tmp_path)
    assert (report.format, report.spans["given"]) == ("native", 1)
    assert path.read_bytes() == before


def test_lost_quotations_of_judges_are_kept_unless_the_user_forbids(tmp_path):
    path = lines(tmp_path, NORMALISED)
    report = import_transcripts(path, tmp_path / "out")
    assert report.spans["lost"] == report.indicators["fabrication"]["lost"] == 1
    with pytest.raises(LabelError, match="line 1: the span 'gone' of 'fabrication'"):
        import_transcripts(path, tmp_path / "out", lost="error")


def test_tables_are_imported_with_the_users_columns(tmp_path):
    path = tmp_path / "t.csv"
    pd.DataFrame({"said": ["a", "b"], "bad": [1, 0]}).to_csv(path, index=False)
    columns = TableColumns(text="said", label="bad")
    report = import_transcripts(path, tmp_path / "out", columns=columns)
    assert (report.n_misaligned, report.n_aligned) == (1, 1)


def test_the_same_source_gives_the_same_bytes(tmp_path):
    path = lines(tmp_path, NORMALISED, {**NORMALISED, "id": "b"})
    for out in ("one", "two"):
        import_transcripts(path, tmp_path / out)
    for name in ("transcripts.jsonl", "import.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_users_taxonomy_decides_which_indicators_are_known(tmp_path):
    toml = tmp_path / "mine.toml"
    toml.write_text(
        '[[indicators]]\nname = "Gossip"\ngroup = "g"\nbehaviors = ["talk"]\ndefinition = "d"\n'
        'not_flagged = "n"\nspan_guidance = "s"\nexamples = ["e"]\n'
        '[[behaviors]]\nname = "Talk"\ndefinition = "d"\n'
    )
    chat = {**CHAT, "spans": [{"indicator": "Gossip", "text": "Done"}]}
    report = import_transcripts(
        lines(tmp_path, chat), tmp_path / "out", taxonomy=load_taxonomy(toml)
    )
    assert list(report.indicators) == ["gossip"]
    with pytest.raises(LabelError, match="unknown indicator 'Fabrication'"):
        import_transcripts(lines(tmp_path, CHAT), tmp_path / "out", taxonomy=load_taxonomy(toml))


def bad_sources(folder):
    unknown = {**CHAT, "spans": [{"indicator": "fabricaton", "text": "Done"}]}
    outside = json.loads(json.dumps({**CHAT, "spans": []}))
    outside["spans"] = [{"indicator": "fabrication", "message": 1, "section": "answer"}]
    outside["spans"][0] |= {"start": 2, "end": 99}
    not_there = {**CHAT, "spans": [{"indicator": "fabrication", "text": "elsewhere"}]}
    turned = {"role": "user", "turn": 1}
    native = {"id": "a", "messages": [turned], "lost_spans": []}
    native["lost_spans"] = [{"indicator": "Fabrication", "turn": 1, "text": "x"}]
    malformed = lines(folder, CHAT, name="malformed.jsonl")
    malformed.write_text(malformed.read_text() + '{"messages": [\n')
    empty = lines(folder, name="empty.jsonl")
    (folder / "empty").mkdir()
    (folder / "t.csv").write_text("words,label\na,1\n")
    (folder / "t.docx").write_text("x")
    return [
        (folder / "none.jsonl", DataError, "does not exist"),
        (empty, DataError, "is empty"),
        (malformed, DataError, "line 2 is not JSON"),
        (lines(folder, CHAT, unknown, name="u.jsonl"), LabelError, "line 2: .*near names: fabric"),
        (lines(folder, CHAT, outside, name="o.jsonl"), LabelError, "line 2: .*has 5 characters"),
        (lines(folder, CHAT, not_there, name="n.jsonl"), LabelError, "line 2: .*'elsewhere'"),
        (lines(folder, native, name="s.jsonl"), LabelError, "line 1: .*write 'fabrication'"),
        (folder / "t.csv", DataError, "no column 'text'"),
        (folder / "empty", DataError, r"is a folder without rollout\.json"),
        (folder / "t.docx", DataError, "ending that is not known"),
    ]


def test_bad_input_is_told_in_one_line_and_nothing_is_damaged(tmp_path):
    out = tmp_path / "out"
    import_transcripts(lines(tmp_path, CHAT), out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    for source, error, says in bad_sources(tmp_path):
        with pytest.raises(error, match=says) as caught:
            import_transcripts(source, out)
        assert "\n" not in str(caught.value)
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before
