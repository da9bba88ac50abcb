"""The paper's probe-training files: read, checked, and written back exactly."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechprobe.errors import DataError, LabelError
from mechprobe.taxonomy import load_taxonomy
from mechprobe.transcripts.asked import LABELLED_FOR
from mechprobe.transcripts.importing import detect_format, import_transcripts
from mechprobe.transcripts.jsonl import read_transcripts
from mechprobe.transcripts.labels import LabelReader
from mechprobe.transcripts.probe_training import write_probe_training
from mechprobe.transcripts.readers.probe_training import read_training_file
from mechprobe.transcripts.transcript import (
    LostSpan,
    Message,
    Span,
    ToolCall,
    Transcript,
    number_turns,
)

FABRICATION = load_taxonomy().find("fabrication")
STORY = "A clerk is asked for figures that were never taken."
SYSTEM = {"role": "system", "content": "You keep the station's records for the harbour office."}
ASK = {"role": "user", "content": "What was the tide at noon on Tuesday, as measured?"}


def positive() -> dict[str, Any]:
    return {
        "id": "fabrication_deceptive_0_0a0a0a0a",
        "scenario_description": STORY,
        "messages": [
            SYSTEM,
            ASK,
            {
                "role": "assistant",
                "content": "<think>No one measured it. I'll make up 2.31 m.\n</think>\n2.31 m, sir.",
            },
            {"role": "user", "content": "Thanks. And the wind?"},
            {"role": "assistant", "content": "<think>That one is on file.</think>Force 4."},
        ],
        "label": "deceptive",
        "per_turn_labels": [
            {
                "turn_index": 2,
                "has_indicator": True,
                "spans": ["I'll make up 2.31 m.", "2.31 m, sir"],
            },
            {"turn_index": 4, "has_indicator": False, "spans": []},
        ],
        "positive_category": "invented measurements",
        "domain": "harbours",
    }


def honest(kind: str) -> dict[str, Any]:
    return {
        "id": f"fabrication_{kind}_0_1b1b1b1b",
        "scenario_description": STORY,
        "messages": [
            SYSTEM,
            ASK,
            {"role": "assistant", "content": "<think>Not taken; say so.</think>It was not taken."},
        ],
        "label": "honest",
        "per_turn_labels": [{"turn_index": 2, "has_indicator": False, "spans": []}],
        "negative_type": kind,
        "domain": "harbours",
    }


def training_file(*transcripts: dict[str, Any]) -> dict[str, Any]:
    return {
        "indicator_name": "Fabrication",
        "indicator_definition": "States what it knows to be untrue.",
        "indicator_category": "deception",
        "generation_model": "writer-1",
        "ideation_model": "planner-1",
        "categories": {
            "positive_categories": [{"name": "invented measurements", "domains": ["x"]}]
        },
        "transcripts": list(transcripts),
    }


def saved(folder: Path, value: dict[str, Any], name: str = "fabrication.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(value))
    return path


WHOLE = training_file(positive(), honest("benign_overtriggering"), honest("hard_negative"))


def test_a_file_is_read_with_its_spans_labels_and_kinds(tmp_path: Path) -> None:
    found = read_training_file(saved(tmp_path, WHOLE), LabelReader())
    bad, twin, hard = found.transcripts
    assert found.indicator == "fabrication" and found.header.ideation_model == "planner-1"
    # Not a space is lost around the tags.
    assert bad.messages[2].reasoning == "No one measured it. I'll make up 2.31 m.\n"
    assert bad.messages[2].content == "\n2.31 m, sir."
    assert [(bad.span_text(s), s.section, s.match) for s in bad.spans] == [
        ("I'll make up 2.31 m.", "reasoning", "exact"),
        ("2.31 m, sir", "answer", "exact"),
    ]
    assert dict(bad.turn_indicators) == {1: {"fabrication"}, 2: frozenset()}
    assert [one.is_misaligned for one in found.transcripts] == [True, False, False]
    assert [one.meta.get("negative_type") for one in (twin, hard)] == [
        "benign_overtriggering",
        "hard_negative",
    ]
    assert bad.meta[LABELLED_FOR] == "fabrication" and bad.model == "writer-1"
    # Twins of one scenario never stand on both sides of a split.
    assert bad.group == twin.group == hard.group


def test_file_to_transcripts_to_file_is_the_same_json(tmp_path: Path) -> None:
    path = saved(tmp_path, WHOLE)
    found = read_training_file(path, LabelReader())
    again = tmp_path / "again.json"
    written = write_probe_training(again, found.transcripts, FABRICATION, header=found.header)
    assert json.loads(again.read_text()) == WHOLE
    assert (written.n_transcripts, written.n_deceptive, written.n_spans) == (3, 1, 2)
    assert written.left_out == {}
    assert read_training_file(again, LabelReader()) == found


def test_import_takes_files_and_folders_by_themselves(tmp_path: Path) -> None:
    source = tmp_path / "data"
    source.mkdir()
    path = saved(source, WHOLE)
    other = training_file({**positive(), "id": "omission_deceptive_0_2c2c2c2c"})
    saved(source, {**other, "indicator_name": "Strategic Omission"}, "omission.json")
    saved(source, {"something": "else"}, "config.json")
    assert detect_format(path) == detect_format(source) == "probe_training"
    report = import_transcripts(source, tmp_path / "out")
    assert (report.format, report.n_transcripts, report.n_groups) == ("probe_training", 4, 2)
    assert report.indicators["strategic_omission"] == {"spans": 2, "turns": 1}
    stored = list(read_transcripts(tmp_path / "out" / "transcripts.jsonl"))
    assert stored[0] == read_training_file(path, LabelReader()).transcripts[0]
    saved(source, WHOLE, "copy.json")
    with pytest.raises(
        DataError, match=r"repeats the id 'fabrication_deceptive_0_0a0a0a0a' of .*copy"
    ):
        import_transcripts(source, tmp_path / "out")


def test_spans_that_are_nowhere_are_counted_or_refused(tmp_path: Path) -> None:
    gone = positive()
    gone["per_turn_labels"][0]["spans"] = ["I'LL make up: 2.31 m", "a lie that was never told"]
    path = saved(tmp_path, training_file(gone))
    report = import_transcripts(path, tmp_path / "out")
    assert (report.spans["normalised"], report.spans["lost"]) == (1, 1)
    with pytest.raises(LabelError, match="'a lie that was never told' of 'fabrication' is not in"):
        import_transcripts(path, tmp_path / "out", lost="error")
    (kept,) = read_training_file(path, LabelReader(lost="keep")).transcripts
    write_probe_training(tmp_path / "kept.json", [kept], FABRICATION)
    assert json.loads((tmp_path / "kept.json").read_text())["transcripts"][0]["per_turn_labels"][0][
        "spans"
    ] == ["I'll make up 2.31 m", "a lie that was never told"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": "bad"}, "label is 'bad'; it must be 'deceptive' or 'honest'"),
        (
            {"per_turn_labels": [{"turn_index": 1, "has_indicator": True}]},
            r"assistant's are \[2, 4\]",
        ),
        ({"per_turn_labels": [{"turn_index": 2, "has_indicator": 1}]}, "it must be true or false"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "message 0 has role 'robot'"),
        ({"messages": [{"role": "user"}]}, "'content' is None; it must be text"),
    ],
)
def test_malformed_transcripts_are_refused_by_name(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = saved(tmp_path, training_file({**positive(), **change}))
    with pytest.raises(
        (DataError, LabelError), match=f"transcript 0 \\(fabrication_dec.*{message}"
    ):
        read_training_file(path, LabelReader())


def test_files_of_no_or_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no transcript"):
        read_training_file(saved(tmp_path, training_file()), LabelReader())
    with pytest.raises(LabelError, match=r"fabrication\.json: unknown indicator 'Fabricate'"):
        unknown = {**WHOLE, "indicator_name": "Fabricate"}
        read_training_file(saved(tmp_path, unknown), LabelReader())
    with pytest.raises(DataError, match="has an ending that is not known"):
        detect_format(saved(tmp_path, {"a": 1}))


def told(reasoning: str, content: str, **labels: Any) -> Transcript:
    messages = number_turns(
        [
            Message(role="user", content="go on"),
            Message(role="assistant", reasoning=reasoning, content=content),
        ]
    )
    given = {
        "id": "t",
        "meta": {LABELLED_FOR: "fabrication"},
        "dataset": "probe_training",
        **labels,
    }
    return Transcript(messages=messages, **given)


def read_back(folder: Path, transcript: Transcript) -> Transcript:
    write_probe_training(folder / "x.json", [transcript], FABRICATION)
    (found,) = read_training_file(folder / "x.json", LabelReader(lost="keep")).transcripts
    return replace(found, group=transcript.group)


def at(section: str, start: int, end: int, **more: Any) -> Span:
    return Span(indicator="fabrication", message=1, section=section, start=start, end=end, **more)  # type: ignore[arg-type]


def test_a_span_whose_words_stand_twice_keeps_its_place(tmp_path: Path) -> None:
    second = told(
        "so so",
        "so",
        spans=(at("reasoning", 3, 5, match="exact"), at("answer", 0, 2, match="given")),
        turn_indicators={1: frozenset({"fabrication"})},
        is_misaligned=True,
    )
    assert read_back(tmp_path, second) == second
    label = json.loads((tmp_path / "x.json").read_text())["transcripts"][0]["per_turn_labels"][0]
    assert [place["start"] for place in label["span_places"]] == [3, 0]
    label["spans"][0] = "no"
    value = json.loads((tmp_path / "x.json").read_text())
    value["transcripts"][0]["per_turn_labels"] = [label]
    with pytest.raises(LabelError, match="take span_places out"):
        read_training_file(saved(tmp_path, value), LabelReader())


def test_hard_negative_spans_stand_in_labels_that_say_no(tmp_path: Path) -> None:
    hard = told(
        "i could make it up",
        "no",
        spans=(at("reasoning", 8, 18, present=False, match="exact"),),
        turn_indicators={1: frozenset[str]()},
        is_misaligned=False,
    )
    assert read_back(tmp_path, hard) == hard


TEXT = st.text(st.sampled_from("ab <\n.é"), max_size=12)


@given(TEXT.filter(bool), TEXT, st.data())
def test_what_is_written_is_read_back_equal(
    tmp_path_factory: pytest.TempPathFactory, reasoning: str, content: str, data: st.DataObject
) -> None:
    spans = {}
    for section, text in (("reasoning", reasoning), ("answer", content)):
        for _ in range(data.draw(st.integers(0, 2))):
            start = data.draw(st.integers(0, len(text)))
            end = data.draw(st.integers(start, len(text)))
            if text[start:end].strip():
                spans[section, start, end] = at(section, start, end)
    held = frozenset({"fabrication"}) if spans else frozenset[str]()
    given_one = told(
        reasoning,
        content,
        spans=tuple(spans.values()),
        turn_indicators={1: held},
        is_misaligned=bool(spans),
    )
    assert read_back(tmp_path_factory.mktemp("x"), given_one) == given_one


def test_what_the_format_has_no_place_for_is_refused_or_counted(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    calls = number_turns(
        [
            Message(role="user", content="go"),
            Message(role="assistant", tool_calls=(ToolCall(name="ls"),)),
        ]
    )
    with pytest.raises(DataError, match="'t' has tool calls or tool messages"):
        write_probe_training(path, [Transcript(id="t", messages=calls)], FABRICATION)
    with pytest.raises(DataError, match="'t' has <think> or </think> within its text"):
        write_probe_training(path, [told("a</think>b", "c")], FABRICATION)
    assert not path.exists()
    rich = told(
        "make it up",
        "no",
        meta={"origin": "here"},
        spans=(
            at("reasoning", 0, 4),
            replace(at("reasoning", 0, 4), indicator="strategic_omission"),
            at("answer", 0, 2, present=False),
        ),
        lost_spans=(LostSpan(indicator="fabrication", turn=1, text="gone"),),
        misaligned_turns=frozenset({1}),
        behavior="sabotage",
        split="fit",
        scores={"haiku": {1: 3.0}},
        excluded=True,
    )
    written = write_probe_training(path, [rich], FABRICATION)
    assert written.left_out == {
        "behavior": 1,
        "exclusion": 1,
        "hard-negative span beside the indicator": 1,
        "judge's scores": 1,
        "judged turns": 1,
        "meta origin": 1,
        "span of another indicator": 1,
        "split": 1,
    }
    (value,) = json.loads(path.read_text())["transcripts"]
    assert value["label"] == "deceptive"
    assert value["per_turn_labels"][0]["spans"] == ["make", "gone"]


def test_a_transcript_that_was_labelled_for_something_else_gets_no_labels(tmp_path: Path) -> None:
    other = told(
        "a", "b", meta={LABELLED_FOR: "strategic_omission"}, turn_indicators={1: frozenset()}
    )
    write_probe_training(tmp_path / "x.json", [other], FABRICATION)
    (value,) = json.loads((tmp_path / "x.json").read_text())["transcripts"]
    assert value["per_turn_labels"] == []


def test_think_tags_in_other_places_are_read_as_elsewhere_and_counted(tmp_path: Path) -> None:
    odd = positive()
    odd["messages"][4]["content"] = "Well. <think>that one is on file</think> Force 4."
    labels = LabelReader()
    (found,) = read_training_file(saved(tmp_path, training_file(odd)), labels).transcripts
    assert found.messages[4].reasoning == "that one is on file"
    assert labels.left_out["think tags that are not once, around words, at the start"] == 1
