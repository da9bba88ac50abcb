import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mechprobe.errors import DataError, LabelError
from mechprobe.transcripts.jsonl import (
    read_transcripts,
    transcript_from_json,
    transcript_to_json,
    write_transcripts,
)
from mechprobe.transcripts.transcript import (
    LostSpan,
    Message,
    Span,
    ToolCall,
    Transcript,
    number_turns,
)

TEXT = st.text(max_size=20)
SLUGS = st.sampled_from(["fabrication", "strategic_omission"])
CALL = st.fixed_dictionaries({"name": TEXT, "arguments": TEXT})
ASSISTANT = st.fixed_dictionaries(
    {
        "role": st.just("assistant"),
        "content": TEXT,
        "reasoning": TEXT,
        "tool_calls": st.lists(CALL, max_size=2),
    }
)
OTHER = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "tool"]), "content": TEXT}
)
LOST = st.fixed_dictionaries({"indicator": SLUGS, "turn": st.integers(0, 9), "text": TEXT})
SCORES = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def transcript_fields(draw) -> dict:
    """What `build` makes a transcript of (plain values: strategies must not run the type checker)."""
    messages = draw(st.lists(ASSISTANT | OTHER, max_size=6))
    turn, turns = 0, set()
    places = []
    for index, message in enumerate(messages):
        turn += message["role"] == "user"
        if message["role"] == "assistant":
            turns.add(turn)
        for section, key in (("reasoning", "reasoning"), ("answer", "content")):
            if message.get(key):
                places.append((index, section, len(message[key])))
    some_turns = st.frozensets(st.sampled_from(sorted(turns))) if turns else st.just(frozenset())
    spans = []
    for index, section, length in (
        draw(st.lists(st.sampled_from(places), max_size=3)) if places else []
    ):
        start = draw(st.integers(0, length - 1))
        spans.append(
            {
                "indicator": draw(SLUGS),
                "message": index,
                "section": section,
                "start": start,
                "end": draw(st.integers(start + 1, length)),
                "present": draw(st.booleans()),
                "match": draw(st.sampled_from(["exact", "normalised", "other_turn", "given"])),
            }
        )
    return {
        "id": draw(st.text(min_size=1, max_size=8)),
        "messages": messages,
        "spans": spans,
        "lost_spans": draw(st.lists(LOST, max_size=2)),
        "turn_indicators": {at: draw(st.frozensets(SLUGS)) for at in draw(some_turns)},
        "misaligned_turns": draw(st.none() | some_turns),
        "is_misaligned": draw(st.none() | st.booleans()),
        "group": draw(TEXT),
        "excluded": draw(st.booleans()),
        "scores": {"judge": {at: draw(SCORES) for at in draw(some_turns)}},
        "meta": draw(st.dictionaries(TEXT, TEXT, max_size=2)),
    }


def build(fields: dict) -> Transcript:
    messages = [
        Message(**(item | {"tool_calls": tuple(ToolCall(**c) for c in item.get("tool_calls", []))}))
        for item in fields["messages"]
    ]
    return Transcript(
        **fields
        | {
            "messages": number_turns(messages),
            "spans": tuple(Span(**item) for item in fields["spans"]),
            "lost_spans": tuple(LostSpan(**item) for item in fields["lost_spans"]),
        }
    )


@given(transcript_fields())
def test_json_gives_back_an_equal_transcript(fields):
    transcript = build(fields)
    value = json.loads(json.dumps(transcript_to_json(transcript)))
    assert transcript_from_json(value) == transcript


FILES = st.lists(transcript_fields(), min_size=1, max_size=4, unique_by=lambda item: item["id"])


@settings(deadline=None, max_examples=30)
@given(FILES, st.sampled_from(["jsonl", "jsonl.zst"]))
def test_files_give_back_equal_transcripts_and_the_same_bytes(tmp_path_factory, files, suffix):
    folder = tmp_path_factory.mktemp("round")
    items = [build(fields) for fields in files]
    path, again = folder / f"a.{suffix}", folder / f"b.{suffix}"
    assert write_transcripts(path, items) == len(items)
    back = list(read_transcripts(path))
    assert back == items
    write_transcripts(again, back)
    assert again.read_bytes() == path.read_bytes()


def test_half_a_surrogate_pair_and_odd_line_ends_survive(tmp_path):
    odd = Transcript(id="a", messages=(Message(role="system", content="x\ud83d\u2028\x85\ry"),))
    write_transcripts(tmp_path / "a.jsonl", [odd])
    assert list(read_transcripts(tmp_path / "a.jsonl")) == [odd]


def test_turns_are_counted_where_a_file_does_not_state_them():
    value = {"id": "a", "messages": [{"role": "user"}, {"role": "assistant", "content": "hi"}]}
    assert transcript_from_json(value).turns == (1,)


def written(folder: Path, *lines: str) -> Path:
    path = folder / "t.jsonl"
    path.write_text("\n".join(lines))
    return path


GOOD = '{"id": "a", "messages": []}'


@pytest.mark.parametrize(
    ("bad", "error", "says"),
    [
        ('{"id": "b", ', DataError, "is not JSON"),
        ("[1]", DataError, "holds list"),
        ('{"id": "a", "messages": []}', DataError, "repeats the id 'a' of line 1"),
        ('{"id": "b"}', DataError, "lacks the field 'messages'"),
        ('{"messages": []}', DataError, "lacks the field 'id'"),
        ('{"id": 3, "messages": []}', DataError, "'id' of Transcript is 3; it must be text"),
        ('{"id": "b", "mesages": []}', DataError, "did you mean 'messages'"),
        ('{"id": "b", "messages": {}}', DataError, "must be a list"),
        ('{"id": "b", "messages": [], "excluded": 1}', DataError, "must be true or false"),
        ('{"id": "b", "messages": [{"role": "bot"}]}', DataError, "'bot'; it must be one of"),
        ('{"id": "b", "messages": [], "scores": {"j": {"x": 1}}}', DataError, "whole number"),
        (
            '{"id": "b", "messages": [], "spans": [{"indicator": "f", "message": 0, '
            '"section": "answer", "start": 0, "end": 1}]}',
            LabelError,
            "there are 0 messages",
        ),
    ],
)
def test_errors_name_the_line(tmp_path, bad, error, says):
    path = written(tmp_path, GOOD, "", bad)
    with pytest.raises(error, match=f"line 3.*{says}"):
        list(read_transcripts(path))


def test_reading_streams(tmp_path):
    stream = read_transcripts(written(tmp_path, GOOD, "not JSON"))
    assert next(stream).id == "a"


def test_missing_and_empty_files_are_named(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        next(read_transcripts(tmp_path / "none.jsonl"))
    with pytest.raises(DataError, match="is a folder"):
        next(read_transcripts(tmp_path))
    with pytest.raises(DataError, match="is empty"):
        next(read_transcripts(written(tmp_path)))


def test_bytes_that_are_not_utf8_are_named(tmp_path):
    (tmp_path / "t.jsonl").write_bytes(b'{"id": "\xff"}')
    with pytest.raises(DataError, match="line 1 is not UTF-8"):
        next(read_transcripts(tmp_path / "t.jsonl"))


def test_a_compressed_file_that_is_cut_off_or_damaged_is_refused(tmp_path):
    whole = tmp_path / "t.jsonl.zst"
    write_transcripts(whole, [Transcript(id=str(i), messages=()) for i in range(50)])
    cut, damaged = tmp_path / "cut.jsonl.zst", tmp_path / "damaged.jsonl.zst"
    cut.write_bytes(whole.read_bytes()[:-3])
    damaged.write_bytes(b"not zstandard")
    with pytest.raises(DataError, match="cut off"):
        list(read_transcripts(cut))
    with pytest.raises(DataError, match="not a sound zstandard file"):
        list(read_transcripts(damaged))


@pytest.mark.parametrize("name", ["t.jsonl", "t.jsonl.zst"])
def test_a_write_that_fails_leaves_the_old_file_and_no_litter(tmp_path, name):
    path = tmp_path / name
    write_transcripts(path, [Transcript(id="old", messages=())])

    def failing():
        yield Transcript(id="new", messages=())
        raise DataError("no more")

    with pytest.raises(DataError, match="no more"):
        write_transcripts(path, failing())
    assert [item.id for item in read_transcripts(path)] == ["old"]
    assert [item.name for item in tmp_path.iterdir()] == [name]
