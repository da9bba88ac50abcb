import numpy as np
import pytest

from mechprobe.causal.writing.free_runs import Writing
from mechprobe.causal.writing.free_tables import FREE_COLUMNS
from mechprobe.causal.writing.prompting import (
    prompt_effects,
    prompt_rows,
    reworded,
    with_instruction,
    with_words,
)
from mechprobe.errors import ConfigError, DataError
from mechprobe.transcripts.transcript import Message, Transcript

WRITING = Writing(max_new_tokens=30)


def talk(*messages: tuple[str, str]) -> Transcript:
    turn, found = 0, []
    for role, content in messages:
        turn += role == "user"
        found.append(Message(role=role, content=content, turn=turn))
    return Transcript(id="t", messages=tuple(found))


def contents(transcript: Transcript) -> list[str]:
    return [message.content for message in transcript.messages]


def test_an_instruction_goes_into_the_system_message_or_before_the_first_user_message():
    reword = with_instruction("do not lie")
    both = talk(("system", "be brief"), ("user", "hi"), ("assistant", "hello"))
    assert contents(reword(both)) == ["be brief\ndo not lie", "hi", "hello"]
    alone = talk(("user", "hi"), ("assistant", "hello"), ("user", "more"))
    assert contents(reword(alone)) == ["do not lie\nhi", "hello", "more"]
    with pytest.raises(DataError, match="no system and no user message"):
        reword(talk(("assistant", "hello")))


def test_words_are_replaced_in_the_prompt_and_nowhere_else():
    reword = with_words({"pressure high": "pressure low"})
    given = talk(
        ("system", "goal x pressure high"),
        ("user", "pressure high"),
        ("assistant", "pressure high"),
        ("user", "pressure high"),
    )
    assert contents(reword(given)) == [
        "goal x pressure low",
        "pressure low",
        "pressure high",
        "pressure high",
    ]


def test_both_sides_of_a_pair_are_reworded_and_keep_their_spans(planted):
    pair = planted.pairs[0]
    found = reworded(pair, with_instruction("ask about-lie"))
    assert found.positive.messages[0].content == "ask about-lie\ngo"
    assert found.positive.messages[1:] == pair.positive.messages[1:]
    assert (found.span, found.negative_span) == (pair.span, pair.negative_span)


def test_a_prompt_that_the_model_obeys_changes_the_outcome_and_one_that_it_ignores_does_not(
    planted,
):
    # In the planted world a held thought counts wherever it stands, so saying it is an instruction.
    pairs = [p for p in planted.pairs if p.indicator == "boast" and p.split == "test"]
    found = prompt_effects(
        planted.subject,
        pairs,
        "behavior",
        {"care": with_instruction("will-care " * 3), "idle": with_instruction("go")},
        writing=WRITING,
    )
    care, idle = found
    assert care.effect.value < -0.2
    assert care.effect.high < 0
    assert abs(idle.effect.value) < abs(care.effect.value) / 2
    assert len(care.effects) == len(pairs)
    assert 0 < care.mass <= 1


def test_prompting_rows_stand_beside_the_rows_of_steering(planted):
    pairs = planted.pairs[::25]
    found = prompt_effects(
        planted.subject,
        pairs,
        "behavior",
        {"idle": with_instruction("go")},
        indicator="lie",
        writing=WRITING,
    )
    row = next(iter(prompt_rows(found)))
    assert set(row) == set(FREE_COLUMNS)
    assert (row["indicator"], row["direction"], row["operation"]) == ("lie", "idle", "prompt")
    assert row["effect"] == pytest.approx(float(np.mean(found[0].effects)))
    assert row["n"] == len(pairs)


def test_bad_input_is_refused_by_name(planted):
    with pytest.raises(ConfigError, match="instruction is empty"):
        with_instruction("  ")
    with pytest.raises(ConfigError, match="no word is given"):
        with_words({})
    with pytest.raises(DataError, match="leaves all 25 prompts as they are"):
        prompt_effects(
            planted.subject,
            planted.pairs[:25],
            "behavior",
            {"none": with_words({"absent": "there"})},
            writing=WRITING,
        )
    with pytest.raises(DataError, match="no natural gap over 0 runs"):
        prompt_effects(planted.subject, planted.pairs[:4], "exam", {}, writing=WRITING)
