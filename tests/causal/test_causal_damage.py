import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mechprobe.causal.writing.audit_questions import ask, audit_questions
from mechprobe.causal.writing.damage import (
    DAMAGE_COLUMNS,
    damage_rows,
    measure_damage,
    random_twins,
)
from mechprobe.causal.writing.free_runs import Writing
from mechprobe.causal.writing.neutral import neutral_text
from mechprobe.causal.writing.pushes import Push, PushTable
from mechprobe.causal.writing.text_figures import distinct_n, edit_distances, repetition
from mechprobe.errors import ConfigError, DataError, ShapeError

HOOK = "blocks.0.hook_out"


def push(planted, thought: str = "boast", amount: float = 1.0) -> Push:
    vector = torch.zeros(planted.subject.d_model)
    vector[planted.held_axis[thought]] = 1.0
    return Push(indicator=thought, direction="planted", vector=vector, amount=amount)


@pytest.fixture(scope="module")
def neutral(planted):
    return neutral_text(planted.subject, planted.transcripts, 4)


def test_distinct_n_counts_different_runs_over_all_texts():
    texts = [[1, 2, 1, 2], [1, 2, 3]]
    assert distinct_n(texts, 1) == pytest.approx(3 / 7)
    assert distinct_n(texts, 2) == pytest.approx(3 / 5)
    assert np.isnan(distinct_n([[1]], 2))
    with pytest.raises(ConfigError, match="n is 0"):
        distinct_n(texts, 0)


def test_repetition_is_the_share_of_runs_seen_before():
    assert repetition([[1, 2, 3, 4, 5]]) == 0
    assert repetition([[7] * 8]) == pytest.approx(4 / 5)
    assert repetition([[7] * 8, [1, 2, 3, 4, 5], [1]]) == pytest.approx(2 / 5)


def slow_distance(a: list[int], b: list[int]) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a):
        new = [i + 1]
        for j, y in enumerate(b):
            new.append(min(row[j + 1] + 1, new[j] + 1, row[j] + (x != y)))
        row = new
    return row[-1]


tokens = st.lists(st.integers(0, 3), max_size=7)


@given(st.lists(st.tuples(tokens, tokens), min_size=1, max_size=5))
def test_edit_distances_are_those_of_the_textbook(couples):
    first, second = [a for a, _ in couples], [b for _, b in couples]
    wanted = [slow_distance(a, b) / max(len(a), len(b), 1) for a, b in couples]
    assert edit_distances(first, second) == pytest.approx(wanted)


def test_edit_distances_need_as_many_texts_on_both_sides():
    with pytest.raises(ShapeError, match="2 texts cannot be compared with 1"):
        edit_distances([[1], [2]], [[1]])


def test_an_empty_push_does_no_damage(planted, neutral):
    found = measure_damage(
        planted.subject,
        neutral,
        [push(planted, amount=0.0)],
        HOOK,
        questions=audit_questions(planted.subject, planted.pairs, n=24),
        writing=Writing(max_new_tokens=20),
    )[0]
    assert (found.kl, found.ce_change) == (0.0, 0.0)
    assert found.variety == found.variety_unedited
    assert found.accuracy == found.accuracy_unedited


def test_steering_costs_more_the_further_it_goes(planted, neutral):
    pushes = [push(planted, amount=amount) for amount in (0.02, 0.05, 0.1)]
    found = measure_damage(planted.subject, neutral, pushes, HOOK)
    costs = [one.kl for one in found]
    assert 0 < costs[0] < costs[1] < costs[2]
    assert all(np.isnan(one.accuracy) and np.isnan(one.variety.distinct_1) for one in found)


def test_audit_questions_are_answered_right_and_a_held_answer_axis_makes_them_wrong(planted):
    questions = audit_questions(planted.subject, planted.pairs, n=32)
    assert len(set(questions.indicators)) == 8
    clean = ask(planted.subject, questions)
    wanted = clean.is_right[0].mean()
    assert clean.accuracy(0) == pytest.approx(wanted)
    assert wanted > 0.9
    everything_held = torch.zeros(1, planted.subject.d_model)
    everything_held[0, list(planted.held_axis.values())] = 1.0
    table = PushTable.steering(HOOK, everything_held, torch.tensor([6.0]))
    pushed = ask(planted.subject, questions, table)
    assert pushed.accuracy(0) < 0.8


def test_accuracy_leaves_out_the_questions_about_the_edited_thought(planted):
    questions = audit_questions(planted.subject, planted.pairs, n=32)
    answers = ask(planted.subject, questions, PushTable.of(HOOK, [push(planted, amount=3.0)]))
    others = [name != "boast" for name in questions.indicators]
    assert answers.accuracy(0, without="boast") == pytest.approx(answers.is_right[0, others].mean())


def test_questions_do_not_depend_on_batches(planted):
    questions = audit_questions(planted.subject, planted.pairs, n=16)
    table = PushTable.of(HOOK, [push(planted), push(planted, "lie")])
    whole = ask(planted.subject, questions, table)
    small = ask(planted.subject, questions, table, batch_tokens=60)
    assert small.mass == pytest.approx(whole.mass, abs=1e-5)
    assert (small.is_right == whole.is_right).all()


def test_random_twins_are_as_long_and_rows_stand_beside_the_unedited(planted, neutral):
    own = push(planted)
    pushes = [own, *random_twins(own, 2, seed=0)]
    found = measure_damage(
        planted.subject, neutral, pushes, HOOK, writing=Writing(max_new_tokens=12)
    )
    rows = list(damage_rows(found))
    assert [row["control"] for row in rows] == ["none", "random", "random"]
    assert {row["amount"] for row in rows} == {1.0}
    assert set(rows[0]) == set(DAMAGE_COLUMNS)
    assert all(0 < float(str(row["distinct_1_unedited"])) <= 1 for row in rows)


def test_damage_without_neutral_text_or_questions_is_refused(planted):
    with pytest.raises(DataError, match="no neutral text"):
        measure_damage(planted.subject, None, [push(planted)], HOOK)
    with pytest.raises(DataError, match="'exam'"):
        audit_questions(planted.subject, planted.pairs, outcome="exam")
