"""Lengths and places are what they say, and which duplicates stand on both sides of a split is counted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechprobe.baselines.fold import BaselineFold
from mechprobe.baselines.leaks import shared_texts
from mechprobe.baselines.passages import LabelledTexts, Passages, Places
from mechprobe.baselines.text import score_baselines
from mechprobe.errors import ConfigError

TWO = LabelledTexts(texts=("a", "b"), labels=np.array([[1, 0], [0, 1]], dtype=np.int8))
RUN = "one two three four five six seven eight"


def lengths(texts: tuple[str, ...]) -> dict[str, np.ndarray]:
    fold = BaselineFold(TWO, None, Passages(texts=texts))
    return score_baselines(["length", "length_characters"], fold)


def test_lengths_are_counted_for_every_indicator() -> None:
    found = lengths(("one two", "", "  one\n"))
    assert found["length"].tolist() == [[2.0, 2.0], [0.0, 0.0], [1.0, 1.0]]
    assert found["length_characters"].tolist() == [[7.0, 7.0], [0.0, 0.0], [6.0, 6.0]]


@given(st.lists(st.text(alphabet="ab cd\n", max_size=12), min_size=1, max_size=5))
def test_length_adds_up_over_joined_texts_and_ignores_order_and_case(texts: list[str]) -> None:
    single = lengths(tuple(texts))["length"][:, 0]
    joined = lengths((" ".join(texts), " ".join(reversed(texts)).upper()))["length"][:, 0]
    assert joined.tolist() == [single.sum()] * 2


def test_length_in_tokens_is_what_the_model_reads() -> None:
    known = LabelledTexts(texts=TWO.texts, labels=TWO.labels, n_tokens=np.array([1, 1]))
    test = Passages(texts=("x", "y"), n_tokens=np.array([5, 9]))
    scores = score_baselines(["length_tokens"], BaselineFold(known, None, test))["length_tokens"]
    assert scores.tolist() == [[5.0, 5.0], [9.0, 9.0]]


def test_a_place_is_turned_to_the_side_of_each_indicators_positives() -> None:
    known = LabelledTexts(
        texts=("a",) * 4,
        labels=np.array([[1, 0], [1, 0], [0, 1], [0, 1]], dtype=np.int8),
        places=Places(
            turn=np.array([1, 2, 3, 4]),
            token_in_turn=np.zeros(4, dtype=np.int64),
            token_in_transcript=np.arange(4),
        ),
    )
    test = known.without_labels(np.array([3]))
    scores = score_baselines(["turn_number", "token_in_turn"], BaselineFold(known, None, test))
    assert scores["turn_number"].tolist() == [[-4.0, 4.0]]
    # A place that tells nothing keeps its sign.
    assert scores["token_in_turn"].tolist() == [[0.0, 0.0]]


def test_duplicates_are_found_through_case_and_space_and_empty_texts_apart() -> None:
    found = shared_texts(["Hide  the\nrecords", ""], ["hide the records", "", " ", "other"])
    assert found.is_duplicate.tolist() == [True, False, False, False]
    assert (found.n_duplicates, found.n_near, found.n_empty) == (1, 1, 2)
    assert found.warning.startswith("1 of 4 test texts stand among the fit texts word for word")


def test_a_text_is_near_if_half_of_its_runs_of_words_are_known() -> None:
    # Nine words hold two runs of eight, of which one is known; ten words hold three.
    found = shared_texts([RUN], [f"{RUN} nine", f"{RUN} nine ten", "one two three"])
    assert found.is_near.tolist() == [True, False, False]
    assert found.n_duplicates == 0
    assert shared_texts([RUN], ["another text of words"]).warning == ""


@given(
    st.lists(st.text(alphabet="ab ", max_size=6), max_size=6),
    st.lists(st.text(alphabet="ab ", max_size=6), max_size=6),
)
def test_fitting_on_more_texts_never_lowers_the_count(fit: list[str], test: list[str]) -> None:
    found, more = shared_texts(fit, test), shared_texts([*fit, *test], test)
    assert found.n_duplicates <= more.n_duplicates == len(test) - found.n_empty


def test_a_run_without_words_is_refused() -> None:
    with pytest.raises(ConfigError, match="run_length is 0"):
        shared_texts([], [], run_length=0)
