"""Heat-maps: every token once, tinted by its score, escaped, cut round the span."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from mechprobe.errors import DataError
from mechprobe.reports.heatmap import (
    WINDOW,
    heat_examples,
    heat_scale,
    heat_text,
    readable_tokens,
)


def example(kind: str = "positive", **more: object) -> dict[str, object]:
    row = {
        "indicator": "a",
        "kind": kind,
        "transcript_id": "t-1",
        "turn": 2,
        "section": "reasoning",
        "tokens": ["i", "plan", "to"],
        "scores": [-1.0, 2.0, 4.0],
        "is_span": [False, True, True],
    }
    return row | more


@given(st.lists(st.tuples(st.text(max_size=8), st.floats(-9, 9), st.booleans()), max_size=30))
def test_text_survives_as_text(cases):
    tokens = [token for token, _, _ in cases]
    html = heat_text(tokens, [s for _, s, _ in cases], [m for _, _, m in cases], 3.0)
    plain = "".join(readable_tokens(tokens))
    assert Markup(html).striptags() == Markup.escape(plain).striptags()
    assert html.count('class="t') == len(tokens)


def test_score_gives_sign_and_depth_of_the_tint_and_span_is_underlined():
    html = str(heat_text(["a", "b"], [-1.0, 9.0], [False, True], 2.0))
    assert 'class="t n" style="--h:50%" title="\u22121.00"' in html
    assert 'class="t p s" style="--h:100%" title="9.00"' in html


def test_a_token_without_score_has_no_tint():
    assert str(heat_text(["a"], [math.nan], [False], 1.0)) == '<span class="t">a</span>'


def test_a_long_text_is_cut_to_the_neighbourhood_of_its_span():
    n = 1000
    marks = [500 <= i < 510 for i in range(n)]
    html = str(heat_text([f"w{i}" for i in range(n)], [0.0] * n, marks, 1.0))
    assert WINDOW - 2 <= html.count('class="t') <= WINDOW + 2
    assert html.count('class="cut"') == 2
    assert "w500<" in html
    assert "w509<" in html
    assert "w1<" not in html


def test_a_long_text_without_span_is_cut_round_its_highest_token():
    scores = [0.0] * 999 + [5.0]
    html = str(heat_text([f"w{i}" for i in range(1000)], scores, [False] * 1000, 1.0))
    assert "w999<" in html


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (["ĠI", "Ġplan", "ned", "Ċ"], " I planned\n"),
        (["▁I", "▁plan", "ned"], " I planned"),
        (["I", "plan", "##ned"], "I planned"),
        (["I", "plan"], "I plan"),
        (["I", " plan"], "I plan"),
    ],
)
def test_hidden_spaces_of_tokenizers_are_shown(tokens: list[str], text: str):
    assert "".join(readable_tokens(tokens)) == text


def test_positives_come_first_then_hard_negatives_and_each_kind_is_limited():
    many = [example("hard_negative")] * 5 + [example("positive")] * 5 + [example(indicator="b")]
    found = heat_examples(many, "a", limit=2)
    assert [item.title for item in found] == ["Positive"] * 2 + ["Hard negative"] * 2
    assert found[0].top == 4.0
    assert found[0].source == "t-1 · turn 2 · reasoning"


def test_a_malformed_example_is_an_error():
    with pytest.raises(DataError, match="must be of one length"):
        heat_examples([example(scores=[1.0])], "a")
    broken = example()
    del broken["tokens"]
    with pytest.raises(DataError, match="lacks tokens"):
        heat_examples([broken], "a")


def test_scale_is_never_zero():
    assert heat_scale([example(scores=[0.0, 0.0, 0.0])], "scores") == 1.0
    assert heat_scale([], "scores") == 1.0
