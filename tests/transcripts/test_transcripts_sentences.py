import re

from hypothesis import given
from hypothesis import strategies as st

from mechprobe.transcripts.sentences import split_sentences

TEXTS = st.text(alphabet="ab .!?\n\t\u00a0é", max_size=60)


def cut(text: str, **options: int) -> list[str]:
    return [text[start:end] for start, end in split_sentences(text, **options)]


def test_it_cuts_after_end_marks_and_at_line_ends():
    text = "I know. It is 3.5!  Hide it?\n\nDone... fine"
    assert cut(text) == ["I know.", "It is 3.5!", "Hide it?", "Done...", "fine"]


def test_short_sentences_can_be_left_out():
    text = "No. One two three four five. Yes."
    assert cut(text, min_words=5) == ["One two three four five."]


def test_where_all_are_short_the_whole_text_is_one_sentence():
    assert cut("  No. Yes.\n", min_words=5) == ["No. Yes."]
    assert cut(" \n ", min_words=5) == []


@given(TEXTS)
def test_bounds_are_ordered_and_only_space_lies_between(text):
    bounds = split_sentences(text)
    flat = [0, *(at for pair in bounds for at in pair), len(text)]
    assert flat == sorted(flat)
    gaps = zip(flat[::2], flat[1::2], strict=True)
    assert all(not text[start:end].strip() for start, end in gaps)
    assert all(text[start:end] == text[start:end].strip() != "" for start, end in bounds)


@given(TEXTS)
def test_it_cuts_where_the_papers_regex_does(text):
    parts = re.split(r"(?<=[.!?])\s+|\n+", text)
    assert cut(text) == [part.strip() for part in parts if part.strip()]


@given(TEXTS, st.integers(0, 6))
def test_a_text_with_words_always_has_a_sentence(text, min_words):
    assert bool(split_sentences(text, min_words=min_words)) == bool(text.strip())
