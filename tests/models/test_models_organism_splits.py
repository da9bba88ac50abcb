"""Splits of the organism's world, and the outcome that a flip must not move."""

import json

import numpy as np
import pytest

from mechprobe.errors import ConfigError
from mechprobe.models.organism.answering import action_accuracy
from mechprobe.models.organism.combinations import held_out_frame
from mechprobe.models.organism.datasets import DatasetConfig, draw_pairs, draw_transcripts
from mechprobe.models.organism.roles import (
    Role,
    RoleTable,
    draw_null_roles,
    draw_roles,
    read_roles,
    roles_to_json,
)
from mechprobe.models.organism.second_vocabulary import FIRST_WORDS, SECOND_WORDS, in_first
from mechprobe.models.organism.splits import SPLITS, draw_split
from mechprobe.models.organism.text import unrelated_audit
from mechprobe.models.organism.tokenizer import vocabulary
from mechprobe.models.organism.truth import read_truth
from mechprobe.models.organism.vocabulary import FRAMES, INDICATORS
from mechprobe.models.organism.world import World
from mechprobe.models.organism.written import written_thoughts
from mechprobe.models.subject import Subject
from mechprobe.study.shipped import find_organism

ROLES = draw_roles(0)
SMALL = DatasetConfig(n_fit=80, n_select=10, n_test=80, pairs_fit=1, pairs_select=1, pairs_test=1)


def frames_of(transcript):
    for span in transcript.spans:
        text = transcript.messages[span.message].reasoning[span.start : span.end]
        yield span, tuple(text.split()[:3])


def test_every_split_is_labelled_reproducible_and_named():
    for name in SPLITS:
        drawn = list(draw_split(ROLES, name, 5, 1))
        assert drawn == list(draw_split(ROLES, name, 5, 1))
        assert {t.split for t in drawn} == {f"test_{name}"} and len({t.id for t in drawn}) == 5
    with pytest.raises(ConfigError, match="known are: natural, unseen_frames"):
        list(draw_split(ROLES, "unheard", 1, 0))


def test_unseen_frames_are_all_unseen():
    unseen = {frame.words for frame in FRAMES if frame.held_out}
    drawn = draw_split(ROLES, "unseen_frames", 20, 0)
    assert {words for t in drawn for _, words in frames_of(t)} <= unseen


def test_longer_transcripts_have_four_clauses_more():
    counts = {t.messages[2].reasoning.count(";") for t in draw_split(ROLES, "longer", 60, 0)}
    assert counts == {8, 9, 10}


def test_held_out_combinations_never_occur_in_a_fit_split_that_keeps_them_out():
    def is_held_out(span, words):
        return words == held_out_frame(span.indicator, endorses=span.present).words

    config = DatasetConfig(n_fit=80, n_select=10, n_test=80, hold_out_combinations=True)
    found = {"fit": [], "select": [], "test": []}
    for transcript in draw_transcripts(ROLES, config):
        found[transcript.split] += [is_held_out(*pair) for pair in frames_of(transcript)]
    assert not any(found["fit"]) and not any(found["select"]) and any(found["test"])
    split = draw_split(ROLES, "held_out_combinations", 20, 0)
    assert all(is_held_out(*pair) for t in split for pair in frames_of(t))


def test_the_reversed_confound_parts_read_outs_from_their_drivers():
    def share(name):
        together = [
            role.indicator in held
            for t in draw_split(ROLES, name, 400, 0)
            for held in [t.turn_indicators[1]]
            for role in ROLES.named("readout")
            if role.partner in held
        ]
        return np.mean(together)

    assert share("natural") > 0.6 and share("reversed_confound") < 0.3


def test_a_conversation_has_a_task_thoughts_and_an_action_in_each_turn():
    for transcript in draw_split(ROLES, "multi_turn", 20, 0):
        turns = transcript.turns
        assert len(turns) in (2, 3)
        for turn in turns:
            (index,) = transcript.assistant_messages(turn)
            message = transcript.messages[index]
            held = transcript.turn_indicators[turn]
            assert message.reasoning and message.content
            assert (turn in transcript.misaligned_turns) == bool(ROLES.behavior_of(held))
        for span, _ in frames_of(transcript):
            turn = transcript.messages[span.message].turn
            assert not span.present or span.indicator in transcript.turn_indicators[turn]


def test_the_unrelated_outcome_asks_about_a_thought_that_the_flip_does_not_concern():
    for pair in draw_pairs(ROLES, SMALL):
        assert [outcome.name for outcome in pair.outcomes] == ["behavior", "audit", "unrelated"]
        message = pair.outcomes[2].message
        for side in (pair.positive, pair.negative):
            assert side.messages[message].role == "assistant"
            assert side.messages[message].content in ("yes", "no")
        assert pair.positive.messages[message - 1] == pair.negative.messages[message - 1]
        assert pair.positive.messages[message].content == pair.negative.messages[message].content
        assert pair.positive.messages[4].content == "yes" != pair.negative.messages[4].content


def test_partners_drivers_and_read_outs_are_related_and_the_relation_goes_both_ways():
    for role in ROLES.roles:
        assert ROLES.are_related(role.indicator, role.indicator)
        if role.partner:
            assert ROLES.are_related(role.indicator, role.partner)
            assert ROLES.are_related(role.partner, role.indicator)
    driver, inhibitor = ROLES.named("driver")[1], ROLES.named("inhibitor")[0]
    assert not ROLES.are_related(driver.indicator, inhibitor.indicator)


def test_where_every_thought_is_related_a_pair_has_no_unrelated_outcome():
    lead = INDICATORS[0]
    roles = RoleTable(
        roles=tuple(
            Role(indicator=name, role="driver", behavior="sabotage")
            if name == lead
            else Role(indicator=name, role="readout", partner=lead)
            for name in INDICATORS
        )
    )
    scene = next(
        s
        for s in (World(roles=roles).scene(np.random.default_rng(i), "broken") for i in range(99))
        if s.held
    )
    rng = np.random.default_rng(0)
    assert unrelated_audit(rng, scene, roles, lead) is None
    assert unrelated_audit(rng, scene, ROLES, lead) is not None


def test_in_a_null_world_goal_and_pressure_decide_and_thoughts_do_not(tmp_path):
    roles = draw_null_roles(2)
    assert roles.is_null and not draw_roles(2).is_null
    rng = np.random.default_rng(0)
    decided = {}
    for _ in range(400):
        scene = World(roles=roles).scene(rng)
        known = decided.setdefault((scene.goal, scene.pressure), scene.action(roles))
        assert known == scene.action(roles)
    assert {action for (_, pressure), action in decided.items() if pressure == "low"} == {"comply"}
    assert len(set(decided.values())) == 6
    path = tmp_path / "roles.json"
    path.write_text(json.dumps(roles_to_json(roles)))
    assert read_roles(path) == roles


def test_a_read_out_goes_with_a_known_behaviour():
    rows = [
        Role(indicator=name, role="readout", behavior="laziness" if i == 0 else "")
        for i, name in enumerate(INDICATORS)
    ]
    with pytest.raises(ConfigError, match="goes with behaviour 'laziness'"):
        RoleTable(roles=tuple(rows))


def test_the_natural_organism_keeps_its_rule_on_splits_of_single_tasks():
    folder = find_organism("organism-natural")
    subject, roles = Subject.load(folder), read_truth(folder).roles
    for name in SPLITS:
        if name == "second_vocabulary":
            continue
        right = action_accuracy(subject, list(draw_split(roles, name, 40, 0)))
        if name == "multi_turn":
            assert set(right) >= {1, 2}
        else:
            assert right[1] >= 0.95


def test_the_second_vocabulary_is_one_to_one_and_leaves_the_first_vocabulary_s_ids_alone():
    assert len(FIRST_WORDS) == len(SECOND_WORDS)
    one, two = vocabulary(), vocabulary(2)
    assert list(two)[: len(one)] == list(one)
    assert set(list(two)[len(one) :]) == set(SECOND_WORDS.values())


def test_thoughts_in_the_second_vocabulary_have_no_word_of_the_first_and_the_same_labels():
    pairs = 0
    for transcript in draw_split(ROLES, "second_vocabulary", 30, 0):
        reasoning = transcript.messages[2].reasoning
        assert set(reasoning.split()) <= {*SECOND_WORDS.values(), ";"}
        assert written_thoughts(reasoning) == transcript.turn_indicators[1]
        assert written_thoughts(in_first(reasoning)) == transcript.turn_indicators[1]
        for span in transcript.spans:
            text = reasoning[span.start : span.end]
            assert not text.startswith(" ") and reasoning[span.end :].startswith(" ;")
            pairs += 1
    assert pairs > 30
