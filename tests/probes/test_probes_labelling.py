"""The label rules on one small conversation, worked out by hand, and the balance of what they give."""

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from mechprobe.errors import ConfigError, LabelError
from mechprobe.probes.estimators import find_estimator
from mechprobe.probes.labels.balance import draw_balanced, with_class_weights
from mechprobe.probes.labels.examples import MISALIGNED
from mechprobe.probes.labels.labelling import ANYWHERE, LabelRule
from mechprobe.probes.labels.token_labels import label_tokens
from mechprobe.probes.rows import LabelledRows
from mechprobe.transcripts.asked import LABELLED_FOR
from mechprobe.transcripts.transcript import Message, Span, Transcript, number_turns

P, N, X = 1, 0, -1


def two_turns(**labels: object) -> Transcript:
    """Turn 1 has "a" in "a a" of the reasoning and in "A" of the answer; turn 2 is clean."""
    messages = number_turns(
        [
            Message(role="user", content="go"),
            Message(role="assistant", reasoning="a a b", content="A c"),
            Message(role="user", content="on"),
            Message(role="assistant", reasoning="d", content="e"),
        ]
    )
    spans = (
        Span(indicator="a", message=1, section="reasoning", start=0, end=3),
        Span(indicator="a", message=1, section="answer", start=0, end=1),
    )
    given = {
        "id": "t",
        "spans": spans,
        "turn_indicators": {1: frozenset({"a"}), 2: frozenset[str]()},
        **labels,
    }
    return Transcript(messages=messages, **given)  # type: ignore[arg-type]


def tables(transcript: Transcript) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One token a word; the span table of the same."""
    tokens = pd.DataFrame(
        [
            {
                "conversation": 0,
                "message": index,
                "turn": message.turn,
                "role": message.role,
                "section": section,
                "char_start": word.start(),
                "char_end": word.end(),
            }
            for index, message in enumerate(transcript.messages)
            for section in ("reasoning", "answer")
            for word in re.finditer(r"\S+", message.text(section))
        ]
    )
    rows = []
    for span in transcript.spans:
        part = tokens[(tokens["message"] == span.message) & (tokens["section"] == span.section)]
        inside = part[(part["char_start"] >= span.start) & (part["char_end"] <= span.end)].index
        rows.append((0, span.indicator, span.present, inside[0], inside[-1]))
    columns = ["conversation", "indicator", "present", "first_row", "last_row"]
    return tokens, pd.DataFrame(rows, columns=columns)


def words(transcript: Transcript, rule: LabelRule | None, column: str = "a", **kw: object) -> dict:
    """The label of each word in a column; words of which nothing is used are absent."""
    tokens, spans = tables(transcript)
    labelled = label_tokens(tokens, spans, [transcript], ["a", "z"], rule, **kw)  # type: ignore[arg-type]
    at = labelled.indicators.index(column)
    texts = [
        transcript.messages[row.message].text(row.section)[row.char_start : row.char_end]
        for row in tokens.iloc[labelled.rows].itertuples()
    ]
    return {
        f"{text}{number}": label
        for number, (text, label) in enumerate(
            zip(texts, labelled.labels[:, at].tolist(), strict=True)
        )
    }


@pytest.mark.parametrize(
    ("rule", "labels"),
    [
        # The paper's: spans in the reasoning; the span in the answer and the rest of the turn are left out.
        (None, [P, P, X, X, X, N, N]),
        (ANYWHERE, [P, P, X, P, X, N, N]),
        (LabelRule(positives=("answer",)), [X, X, X, P, X, N, N]),
        # A span is evidence wherever it stands: never a negative.
        (LabelRule(rest_of_turn="negative"), [P, P, N, X, N, N, N]),
        (LabelRule(mode="turn"), [P, P, P, X, X, N, N]),
        (LabelRule(mode="turn", positives=("reasoning", "answer")), [P, P, P, P, P, N, N]),
        (LabelRule(mode="turn", rest_of_turn="negative"), [P, P, P, N, N, N, N]),
    ],
)
def test_each_rule_labels_the_words_as_by_hand(rule: LabelRule | None, labels: list[int]) -> None:
    names = ["a0", "a1", "b2", "A3", "c4", "d5", "e6"]
    assert words(two_turns(), rule) == dict(zip(names, labels, strict=True))


def test_any_indicator_follows_the_judge_of_turns() -> None:
    expected = {"a0": P, "a1": P, "b2": X, "A3": X, "c4": X, "d5": N, "e6": N}
    assert words(two_turns(), None, MISALIGNED) == expected
    judged = two_turns(misaligned_turns=frozenset({1, 2}))
    assert words(judged, None, MISALIGNED) == {**expected, "d5": X, "e6": X}


def test_a_union_is_positive_where_a_member_is_and_left_out_where_one_is() -> None:
    unions = {"both": ["a", "z"], "quiet": ["z"]}
    assert words(two_turns(), None, "both", unions=unions) == words(two_turns(), None)
    assert set(words(two_turns(), None, "quiet", unions=unions).values()) == {N}
    with pytest.raises(LabelError, match="a union has the indicators y"):
        words(two_turns(), None, unions={"bad": ["y"]})


def test_nothing_is_known_of_an_indicator_that_was_not_asked_for() -> None:
    only_a = two_turns(meta={LABELLED_FOR: "a"})
    assert words(only_a, None) == {"a0": P, "a1": P, "d2": N, "e3": N}
    assert set(words(only_a, None, "z").values()) == {X}
    # Turn 2 of a deceptive transcript may hold another indicator; an honest transcript holds none.
    assert words(only_a, None, MISALIGNED) == {"a0": P, "a1": P, "d2": X, "e3": X}
    honest = two_turns(
        meta={LABELLED_FOR: "a"},
        spans=(),
        turn_indicators={1: frozenset[str](), 2: frozenset[str]()},
        is_misaligned=False,
    )
    assert set(words(honest, None, MISALIGNED).values()) == {N}


def test_rules_that_name_no_section_or_no_ratio_are_refused() -> None:
    with pytest.raises(ConfigError, match="name at least one of reasoning"):
        LabelRule(positives=())
    with pytest.raises(ConfigError, match="it must be > 0"):
        LabelRule(negatives_per_positive=0.0)


LABELS = st.lists(st.sampled_from([P, N, X]), min_size=1, max_size=40)


@given(LABELS, st.sampled_from([0.5, 1.0, 3.0]), st.integers(0, 99))
def test_a_balanced_draw_keeps_all_positives_and_no_more_negatives_than_asked(
    labels: list[int], ratio: float, seed: int
) -> None:
    before = np.array(labels, dtype=np.int8)[:, None]
    after = draw_balanced(before, ratio, seed)
    assert ((after == before) | ((before == N) & (after == X))).all()
    n_pos, n_neg = int((before == P).sum()), int((before == N).sum())
    assert (after == N).sum() == min(n_neg, int(np.ceil(ratio * n_pos)))
    assert (draw_balanced(before, ratio, seed) == after).all()


def test_class_weights_are_handed_on_and_refused_where_a_loss_takes_none() -> None:
    rng = np.random.default_rng(0)
    y = np.arange(200) < 20
    X = (rng.normal(size=(200, 3)) + y[:, None]).astype(np.float32)
    rows = LabelledRows(X=X, labels=y[:, None].astype(np.int8), indicators=("a",))
    plain = find_estimator("dense_logistic")
    weighted = with_class_weights(plain)
    oracle = LogisticRegression(class_weight="balanced", C=1.0, tol=1e-10, max_iter=1000).fit(X, y)
    ours = weighted.fit(rows, [1.0], seed=0)[0][0].score(X)
    assert np.corrcoef(ours, oracle.decision_function(X))[0, 1] > 0.999
    # Balanced classes: the mean score moves up by about the log of 180 / 20.
    assert ours.mean() - plain.fit(rows, [1.0], seed=0)[0][0].score(X).mean() > 1
    means = find_estimator("dense_diff_of_means")
    assert with_class_weights(means) is means
    with pytest.raises(ConfigError, match="'dense_paper' takes no class weights"):
        with_class_weights(find_estimator("dense_paper"))
