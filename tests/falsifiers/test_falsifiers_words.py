"""Texts are altered exactly where they should be, and words are chosen by what the counts say."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechprobe.errors import DataError
from mechprobe.falsifiers.injection import inject
from mechprobe.falsifiers.masking import mask_others, mask_words
from mechprobe.falsifiers.organism_wording import organism_wording
from mechprobe.falsifiers.passages import Passage
from mechprobe.falsifiers.word_choice import Frequencies, telling_words
from mechprobe.falsifiers.wording import (
    Wording,
    paraphrase,
    read_paraphrases,
    replace_words,
    synonym_groups,
    words_of,
)
from mechprobe.transcripts.transcript import Message, Transcript, number_turns

TEXTS = st.text(alphabet="ab ,.-'\n", max_size=40)


def test_words_keep_their_apostrophes_and_lose_their_case_and_marks():
    assert words_of("They don\u2019t HIDE well-known facts, v2 (yes).") == [
        "they",
        "don\u2019t",
        "hide",
        "well-known",
        "facts",
        "v2",
        "yes",
    ]


@given(TEXTS)
def test_replacing_no_word_or_each_word_by_itself_changes_nothing(text: str):
    assert replace_words(text, {}) == text
    own = dict(enumerate(words_of(text)))
    assert replace_words(text.lower(), own) == text.lower()


def test_words_are_replaced_by_number_and_dropped_with_one_space():
    assert replace_words("I hide, they hide.", {1: "show", 3: "see"}) == "I show, they see."
    assert replace_words("I plan to hide facts", {1: "", 4: ""}) == "I to hide "


def test_a_paraphrase_takes_the_longest_phrase_keeps_capitals_and_is_not_paraphrased_again():
    wording = Wording(
        paraphrases={"hide": ("conceal",), "hide away": ("stash",), "conceal": ("x",)}
    )
    rng = np.random.default_rng(0)
    assert paraphrase("Hide away, hide, conceal; hideous", wording, rng) == (
        "Stash, conceal, x; hideous"
    )
    assert paraphrase("nothing here", wording, rng) == "nothing here"
    assert paraphrase("hide", Wording(), rng) == "hide"


def test_synonyms_stand_for_each_other_but_not_for_themselves():
    assert synonym_groups([("a", "b", "c"), ("alone",)]) == {
        "a": ("b", "c"),
        "b": ("a", "c"),
        "c": ("a", "b"),
    }


def test_paraphrase_pairs_are_read_and_a_line_that_is_no_pair_is_named(tmp_path):
    good = tmp_path / "pairs.tsv"
    good.write_text("# original\tparaphrase\nHide\tconceal\nhide\tkeep back\n\nerror\tmistake\n")
    assert read_paraphrases(good) == {"hide": ("conceal", "keep back"), "error": ("mistake",)}
    bad = tmp_path / "bad.tsv"
    bad.write_text("hide\tconceal\nerror\n")
    with pytest.raises(DataError, match="line 2: 1 columns"):
        read_paraphrases(bad)
    (tmp_path / "empty.tsv").write_text("# nothing\n")
    with pytest.raises(DataError, match="holds no paraphrase"):
        read_paraphrases(tmp_path / "empty.tsv")
    with pytest.raises(DataError, match="does not exist"):
        read_paraphrases(tmp_path / "missing.tsv")


@given(TEXTS, st.integers(0, 9))
def test_injected_words_are_all_there_and_replacing_keeps_the_number_of_words(text: str, seed: int):
    rng, before = np.random.default_rng(seed), Counter(words_of(text))
    for strategy in ("append", "prepend"):
        after = Counter(words_of(inject(text, ["x", "y"], strategy, rng)))
        assert after == before + Counter(["x", "y"])
    replaced = words_of(inject(text, ["x", "y"], "replace", rng))
    assert len(replaced) == before.total()
    assert len({"x", "y"} & set(replaced)) == min(2, before.total())


def test_masking_takes_the_listed_words_and_its_control_as_many_others():
    words, rng = frozenset(["hide", "facts"]), np.random.default_rng(0)
    text = "i plan to hide the facts"
    assert mask_words(text, words, "_x_") == "i plan to _x_ the _x_"
    control = mask_others(text, words, "X", rng).split()
    assert control.count("X") == 2 and {"hide", "facts"} <= set(control)
    assert mask_others("hide facts now", words, "X", rng) == "hide facts X"


def passages(texts: list[str]) -> list[Passage]:
    found = []
    for number, text in enumerate(texts):
        messages = number_turns(
            [Message(role="user", content="go"), Message(role="assistant", content=text)]
        )
        transcript = Transcript(id=str(number), messages=messages)
        found.append(
            Passage(
                transcript=transcript,
                message=1,
                section="answer",
                start=0,
                end=len(text),
                cluster=str(number),
            )
        )
    return found


def test_the_most_telling_words_are_those_of_the_positives_only():
    positives = passages(["hide the facts", "hide facts", "hide the evidence", "facts hide"])
    negatives = passages(["the review", "the budget", "the plan", "the facts"])
    # hide: 4 of 4 against 0 of 4; facts: 3 of 4 against 1 of 4; the: 2 of 4 against 4 of 4; evidence is too rare.
    assert telling_words(positives, negatives, 5) == ("hide", "facts")


def test_a_random_word_is_about_as_frequent_and_never_taboo():
    counts = {f"w{i}": 2**i for i in range(30)}
    rng, taboo = np.random.default_rng(0), frozenset(["w19", "w21"])
    drawn = {Frequencies(counts=counts).near("w20", taboo, rng) for _ in range(400)}
    assert drawn == {f"w{i}" for i in (13, 14, 15, 16, 17, 18, 22, 23, 24, 25, 26, 27)}
    assert Frequencies(counts={"a": 1}).near("a", frozenset(), rng) == "a"


def test_the_organism_is_paraphrased_grafted_and_judged_by_its_own_rule():
    wording, rng = organism_wording(), np.random.default_rng(0)
    clause = "i plan to quietly hide recent facts"
    other = paraphrase(clause, wording, rng)
    assert other.split()[3:] == ["quietly", "conceal", "recent", "evidence"]
    assert other.split()[1] in ("intend", "want")
    grafted = wording.graft("users ask to flatter client", wording.phrase(clause))
    assert grafted == "users ask to quietly hide recent facts"
    assert wording.holds is not None
    assert wording.holds(clause, "strategic_omission") and wording.holds(
        other, "strategic_omission"
    )
    assert not wording.holds(grafted, "strategic_omission")
    assert not wording.holds(clause, "fabrication")
