from dataclasses import replace

import pytest

from mechprobe.errors import DataError, LabelError
from mechprobe.transcripts.pairs import MatchedPair, Outcome, read_pairs, write_pairs
from mechprobe.transcripts.transcript import Message, Span, Transcript, number_turns


def side(clause: str, task: str = "sum") -> Transcript:
    return Transcript(
        id=clause,
        group="g",
        messages=number_turns(
            [
                Message(role="user", content=task),
                Message(role="assistant", reasoning=f"now {clause} ;", content="yes"),
            ]
        ),
    )


def pair(**changes) -> MatchedPair:
    at = Span(indicator="action_concealment", message=1, section="reasoning", start=4, end=14)
    fields = {
        "id": "p",
        "indicator": "action_concealment",
        "positive": side("i hide it "),
        "negative": side("i show it all"),
        "span": at,
        "negative_span": replace(at, end=17, present=False),
        "outcomes": (Outcome(name="audit", message=1, bad=("no",), good=("yes", "yep")),),
        "partners": {"fabrication": True},
    }
    return MatchedPair(**(fields | changes))


@pytest.mark.parametrize("name", ["p.jsonl", "p.jsonl.zst"])
def test_pairs_survive_a_file(tmp_path, name):
    pairs = [pair(), pair(id="q", natural="negative", split="test", outcomes=())]
    assert write_pairs(tmp_path / name, pairs) == 2
    assert list(read_pairs(tmp_path / name)) == pairs


def test_the_sides_are_the_same_up_to_the_span():
    with pytest.raises(LabelError, match="differ before the span"):
        pair(negative=side("i show it all", task="product"))


def test_spans_stand_in_their_own_side():
    with pytest.raises(LabelError, match=r"negative: a span .* 4 to 99"):
        pair(negative_span=replace(pair().negative_span, end=99))


def test_outcomes_are_read_at_assistant_messages_and_tell_bad_from_good():
    with pytest.raises(LabelError, match="not an assistant message"):
        pair(outcomes=(Outcome(name="audit", message=0, bad=("no",), good=("yes",)),))
    with pytest.raises(LabelError, match="none may stand in both"):
        Outcome(name="audit", message=1, bad=("no",), good=("no",))


def test_a_malformed_pair_is_named_with_its_line(tmp_path):
    path = tmp_path / "p.jsonl"
    write_pairs(path, [pair()])
    path.write_text(path.read_text() + '{"id": "q"}\n')
    with pytest.raises(DataError, match="line 2: MatchedPair lacks the field 'indicator'"):
        list(read_pairs(path))
