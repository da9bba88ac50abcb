"""A selector says which tokens are meant; what it says can be counted by hand, and read off its print."""

import operator
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mechprobe.causal.edits.selection import EVERY_TOKEN, NEW_TOKENS, InSpans, TokenSelector, Where
from mechprobe.causal.edits.selection_print import selection_html, show_selection
from mechprobe.errors import ConfigError, LabelError, ShapeError
from mechprobe.models.rendering import Rendering, render
from mechprobe.transcripts.transcript import Message, Span, Transcript
from tests.models.tiny import CHAT_TEMPLATE, tiny_tokenizer

REASONING = "i plan to hide the records now"
TALK = Transcript(
    id="talk",
    messages=(
        Message(role="system", content="task"),
        Message(role="user", content="hide records ?", turn=1),
        Message(role="assistant", reasoning=REASONING, content="done", turn=1),
        Message(role="user", content="why", turn=2),
        Message(role="assistant", content="the task is done", turn=2),
    ),
    spans=(
        Span(indicator="hide", message=2, section="reasoning", start=10, end=26),
        Span(indicator="plan", message=2, section="reasoning", start=2, end=6, present=False),
    ),
)
TOKENIZER = tiny_tokenizer(CHAT_TEMPLATE)


@pytest.fixture(scope="module")
def talk() -> Rendering:
    return render(TALK, TOKENIZER)


def words(rendering: Rendering, mask: np.ndarray) -> str:
    return TOKENIZER.decode(rendering.token_ids[mask]).strip()


@pytest.mark.parametrize(
    ("selector", "wanted"),
    [
        (Where(sections=("reasoning",)), REASONING),
        (Where(roles=("assistant",), sections=("answer",)), "done" + "the task is done"),
        (Where(sections=("answer",), turns=(1,)), "hide records ?" + "done"),
        (Where(roles=("assistant",), sections=("answer",), turns=(-1,)), "the task is done"),
        (Where(roles=("system",), sections=("answer",)), "task"),
        (InSpans(indicators=("hide",)), "hide the records"),
        (InSpans(at="first"), "hide"),
        (InSpans(at="last"), "records"),
        (InSpans(at="after"), "now"),
        (InSpans(present=False), "plan"),
        (InSpans(present=None, at="last"), "plan records"),
        (InSpans(at="first").window(before=2, after=1), "plan to hide the"),
        (InSpans(at="first").window(before=1) - InSpans(), "to"),
        (Where(sections=("reasoning",)) & Where(turns=(1,)) & InSpans(at="last"), "records"),
        (InSpans() | InSpans(present=False), "plan hide the records"),
    ],
    ids=str,
)
def test_what_is_selected_reads_as_it_was_meant(
    talk: Rendering, selector: TokenSelector, wanted: str
):
    assert words(talk, selector.mask(talk, spans=TALK.spans)) == wanted


def test_every_token_is_prompt_or_new(talk: Rendering):
    n, longer = len(talk.token_ids), len(talk.token_ids) + 5
    assert EVERY_TOKEN.mask(talk, n_tokens=longer).all()
    assert Where().mask(talk, n_tokens=longer).tolist() == [True] * n + [False] * 5
    assert NEW_TOKENS.mask(talk, n_tokens=longer).tolist() == [False] * n + [True] * 5
    assert not NEW_TOKENS.mask(talk).any()


def test_what_stands_after_the_prompt_counts_as_new(talk: Rendering):
    n, n_prompt = len(talk.token_ids), 10
    assert NEW_TOKENS.mask(talk, n_prompt=n_prompt).tolist() == [False] * 10 + [True] * (n - 10)
    assistant = Where(roles=("assistant",), generated=True).mask(talk, n_prompt=n_prompt)
    assert assistant[n_prompt:].all()
    assert assistant[:n_prompt].tolist() == (talk.role[:n_prompt] == 3).tolist()
    with pytest.raises(LabelError, match="selects none of its 10 prompt tokens"):
        InSpans().mask(talk, spans=TALK.spans, n_prompt=n_prompt)


def test_a_window_reaches_from_new_tokens_into_the_prompt_and_back(talk: Rendering):
    n = len(talk.token_ids)
    before = NEW_TOKENS.window(before=3).mask(talk, n_tokens=n)
    assert before.tolist() == [False] * (n - 3) + [True] * 3
    last = Where(turns=(2,)).window(after=2).mask(talk, n_tokens=n + 4)
    assert last[n:].tolist() == [True, True, False, False]


# Descriptions are drawn and built in the test: building in the strategy would use the type checker's random numbers.
leaves = st.one_of(
    st.tuples(
        st.just("where"),
        st.lists(st.sampled_from(["system", "user", "assistant"]), max_size=2).map(tuple),
        st.lists(st.sampled_from([0, 1, 2, -1]), max_size=2).map(tuple),
        st.booleans(),
    ),
    st.tuples(st.just("spans"), st.sampled_from(["all", "first", "last", "after"])),
    st.just(("new",)),
)
descriptions = st.recursive(
    leaves,
    lambda inner: st.tuples(st.sampled_from(["|", "&", "-"]), inner, inner),
    max_leaves=4,
)
COMBINE = {"|": operator.or_, "&": operator.and_, "-": operator.sub}
RENDERED = render(TALK, TOKENIZER)


def made(description: tuple) -> TokenSelector:
    kind, *rest = description
    if kind == "where":
        roles, turns, generated = rest
        return Where(roles=roles, turns=turns, generated=generated)
    if kind == "spans":
        return InSpans(at=rest[0])
    if kind == "new":
        return NEW_TOKENS
    return COMBINE[kind](made(rest[0]), made(rest[1]))


def mask_of(selector: TokenSelector, n_tokens: int) -> np.ndarray:
    try:
        return selector.mask(RENDERED, spans=TALK.spans, n_prompt=40, n_tokens=n_tokens)
    except LabelError:
        return np.zeros(n_tokens, dtype=bool)


@settings(max_examples=50, deadline=None)
@given(descriptions, descriptions, st.integers(1, 60))
def test_combining_selectors_combines_their_tokens(first: tuple, second: tuple, n: int):
    a, b = made(first), made(second)
    left, right = mask_of(a, n), mask_of(b, n)
    assert (mask_of(a | b, n) == (left | right)).all()
    assert (mask_of(a & b, n) == (left & right)).all()
    assert (mask_of(a - b, n) == (left & ~right)).all()


@settings(max_examples=50, deadline=None)
@given(descriptions, st.integers(0, 4), st.integers(0, 4), st.integers(1, 60))
def test_a_window_is_every_token_near_enough(inner: tuple, before: int, after: int, n: int):
    inside = np.flatnonzero(mask_of(made(inner), n + before))
    near = [any(-before <= i - at <= after for at in inside) for i in range(n)]
    assert mask_of(made(inner).window(before=before, after=after), n).tolist() == near


@settings(max_examples=50, deadline=None)
@given(descriptions, st.integers(1, 50), st.integers(0, 20))
def test_a_longer_mask_says_the_same_of_the_first_tokens(inner: tuple, n: int, more: int):
    assert (mask_of(made(inner), n + more)[:n] == mask_of(made(inner), n)).all()


def test_a_selector_is_a_value():
    assert Where(roles=("user",)) | InSpans() == Where(roles=("user",)) | InSpans()
    assert len({Where(turns=(1,)), Where(turns=(1,)), Where(turns=(2,))}) == 2


def test_an_empty_selection_says_what_there_is(talk: Rendering):
    with pytest.raises(LabelError, match=r"'talk'.*roles none, system, user, assistant"):
        Where(roles=("tool",)).mask(talk)
    with pytest.raises(LabelError, match=r"spans of hide, hard negatives of plan \(2 spans"):
        InSpans(indicators=("spy",)).mask(talk, spans=TALK.spans)
    with pytest.raises(LabelError, match="0 spans were given"):
        InSpans().mask(talk)


def test_a_span_that_was_cut_off_has_no_tokens():
    cut = render(TALK, TOKENIZER, max_tokens=18)
    both = InSpans(present=None) | Where(roles=("user",))
    assert both.mask(cut, spans=TALK.spans).sum() == Where(roles=("user",)).mask(cut).sum()
    with pytest.raises(LabelError, match="2 spans were given, 2 of them are not in the rendered"):
        InSpans().mask(cut, spans=TALK.spans)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Where(roles=("asistant",)), "role 'asistant' is unknown"),
        (lambda: Where(sections=("thoughts",)), "section 'thoughts' is unknown"),
        (lambda: InSpans(at="middle"), "span position 'middle' is unknown"),
        (lambda: Where(generated="only", turns=(1,)), "turns are set"),
        (lambda: Where().window(before=-1), "from 0 on"),
    ],
)
def test_a_description_that_cannot_be_is_refused(make, message: str):
    with pytest.raises(ConfigError, match=message):
        make()


def test_a_prompt_longer_than_the_text_is_refused(talk: Rendering):
    with pytest.raises(ShapeError, match="n_prompt is 1000"):
        Where().mask(talk, n_prompt=1000)


def test_the_print_marks_the_selected_words_and_changes_no_other(talk: Rendering):
    selector = InSpans() | Where(roles=("system",), sections=("answer",))
    plain = show_selection(talk, selector, TOKENIZER, spans=TALK.spans, colour=False)
    title, body = plain.split("\n", 1)
    n_selected = int(selector.mask(talk, spans=TALK.spans).sum())
    assert title == f"{n_selected} of {len(talk.token_ids)} tokens selected"
    assert [m.strip() for m in re.findall("⟦(.*?)⟧", body)] == ["task", "hide the records"]
    assert body.replace("⟦", "").replace("⟧", "") == talk.text
    coloured = show_selection(talk, selector, TOKENIZER, spans=TALK.spans)
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain.replace("⟦", "").replace("⟧", "")


def test_the_print_says_that_new_tokens_are_selected(talk: Rendering):
    shown = show_selection(talk, NEW_TOKENS, TOKENIZER, colour=False)
    assert shown.startswith("0 of ")
    assert "the tokens that the model writes next" in shown


def test_a_marked_line_does_not_paint_the_rest_of_the_line(talk: Rendering):
    coloured = show_selection(talk, EVERY_TOKEN, TOKENIZER)
    for line in coloured.split("\n"):
        assert line.count("\x1b[30;43m") <= line.count("\x1b[0m")


def test_a_transcript_cannot_write_to_the_terminal_or_the_page():
    evil = Transcript(
        id="evil", messages=(Message(role="user", content="\x1b[2J<script>\x07x", turn=1),)
    )
    rendering = render(evil, TOKENIZER)
    shown = show_selection(rendering, Where(), TOKENIZER, colour=False)
    assert "\x1b" not in shown
    assert "\x07" not in shown
    page = selection_html(rendering, Where(sections=("answer",)), TOKENIZER)
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert page.count("<mark>") == page.count("</mark>") == 1


def test_another_tokenizer_is_refused(talk: Rendering):
    def letters(text: str, **_options: object) -> dict[str, list]:
        return {
            "input_ids": [ord(letter) for letter in text],
            "offset_mapping": [(i, i + 1) for i in range(len(text))],
        }

    with pytest.raises(ConfigError, match="other tokens"):
        show_selection(talk, Where(), letters)
