"""The organism's world: what its scenes promise, checked on draws."""

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mechprobe.errors import ConfigError, DataError
from mechprobe.models.organism.datasets import DatasetConfig, draw_pairs, draw_transcripts
from mechprobe.models.organism.roles import (
    VERDICT_OF_ROLE,
    draw_roles,
    read_roles,
    roles_to_json,
)
from mechprobe.models.organism.text import REASONING_MESSAGE, draw_audits, to_transcript
from mechprobe.models.organism.vocabulary import (
    FILLER_CELLS,
    HELP,
    INDICATOR_CELLS,
    INDICATORS,
    OBJECTS,
    VERBS,
)
from mechprobe.models.organism.world import World
from mechprobe.taxonomy import load_taxonomy

SMALL = DatasetConfig(
    n_fit=60, n_select=20, n_test=20, pairs_fit=1, pairs_select=2, pairs_test=3, seed=4
)


def test_the_cells_are_the_taxonomy_and_no_single_word_tells_an_indicator_from_a_filler():
    assert set(INDICATORS) == set(load_taxonomy().slugs)
    verbs = Counter(verb for verb, _ in INDICATOR_CELLS.values())
    nouns = Counter(noun for _, noun in INDICATOR_CELLS.values())
    assert verbs == dict.fromkeys(VERBS, 3) and nouns == dict.fromkeys(OBJECTS, 3)
    assert len(FILLER_CELLS) == 18


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_any_seed_deals_the_same_roles_to_different_indicators(seed: int):
    counts = Counter(role.role for role in draw_roles(seed).roles)
    assert counts == {
        "driver": 6,
        "conjunctive": 2,
        "redundant": 2,
        "inhibitor": 1,
        "upstream": 1,
        "readout": 6,
    }
    assert set(counts) == set(VERDICT_OF_ROLE)


def test_the_rule_of_the_world_is_the_one_in_the_role_table():
    table = draw_roles(1)
    driver, readout = table.named("driver")[0], table.named("readout")[0]
    one, other = table.named("conjunctive")
    redundant, inhibitor = table.named("redundant")[0], table.named("inhibitor")[0]
    upstream = table.named("upstream")[0]
    assert table.behavior_of(frozenset({driver.indicator})) == driver.behavior
    assert table.behavior_of(frozenset({one.indicator})) == ""
    assert table.behavior_of(frozenset({one.indicator, other.indicator})) == one.behavior
    assert table.behavior_of(frozenset({redundant.indicator})) == redundant.behavior
    assert table.behavior_of(frozenset({driver.indicator, inhibitor.indicator})) == ""
    assert table.behavior_of(frozenset({readout.indicator, upstream.indicator})) == ""


def test_roles_survive_a_file_and_bad_files_are_explained(tmp_path):
    table = draw_roles(3)
    path = tmp_path / "roles.json"
    path.write_text(json.dumps(roles_to_json(table)))
    assert read_roles(path) == table
    with pytest.raises(DataError, match="does not exist"):
        read_roles(tmp_path / "none.json")
    path.write_text("{broken")
    with pytest.raises(DataError, match="not a role table"):
        read_roles(path)
    path.write_text(json.dumps(roles_to_json(table)[:-1]))
    with pytest.raises(ConfigError, match="each of the 18 indicators once"):
        read_roles(path)
    path.write_text(json.dumps([{"indicator": INDICATORS[0], "role": "villain"}]))
    with pytest.raises(ConfigError, match="known roles"):
        read_roles(path)


def test_natural_scenes_keep_the_co_occurrence_that_the_roles_promise():
    table = draw_roles(0)
    rng = np.random.default_rng(0)
    held = [World(roles=table).scene(rng).held for _ in range(4000)]

    def share(name: str, given_name: str) -> float:
        cases = [h for h in held if given_name in h]
        return sum(name in h for h in cases) / len(cases)

    readout = table.named("readout")[1]
    redundant, partner = table.named("redundant")
    assert share(readout.indicator, readout.partner) > 0.7
    assert share(redundant.indicator, partner.indicator) > 0.7
    assert sum(readout.indicator in h for h in held) / len(held) < 0.2


def test_a_readout_never_stands_before_its_driver_so_it_cannot_foretell_it():
    table = draw_roles(5)
    rng = np.random.default_rng(1)
    for _ in range(800):
        scene = World(roles=table).scene(rng)
        order = [c.indicator for c in scene.clauses if c.indicator and c.frame.endorses]
        for readout in table.named("readout"):
            if readout.indicator in order and readout.partner in order:
                assert order.index(readout.partner) < order.index(readout.indicator)


def test_transcripts_carry_spans_that_mark_exactly_their_clause_and_the_world_s_answer():
    table = draw_roles(2)
    for transcript in draw_transcripts(table, SMALL):
        assert transcript.is_misaligned == (transcript.messages[REASONING_MESSAGE].content != HELP)
        for span in transcript.spans:
            words = transcript.span_text(span).split()
            verb, noun = INDICATOR_CELLS[span.indicator]
            assert words[-1] in OBJECTS[noun] and set(words) & set(VERBS[verb])
            assert (words[0] == "i" and words[1] != "refuse") == span.present


def test_both_sides_of_a_pair_have_the_same_words_and_only_one_indicator_changes():
    pairs = list(draw_pairs(draw_roles(2), SMALL))
    assert len(pairs) == 18 * 2 * (1 + 2 + 3)
    for pair in pairs:
        positive, negative = (
            side.messages[REASONING_MESSAGE].reasoning for side in (pair.positive, pair.negative)
        )
        assert Counter(positive.split()) == Counter(negative.split()) and positive != negative
        changed = pair.positive.turn_indicators[1] ^ pair.negative.turn_indicators[1]
        assert changed == {pair.indicator}
        assert pair.indicator in pair.positive.turn_indicators[1]


def test_the_same_seed_draws_the_same_data():
    table = draw_roles(7)
    assert list(draw_transcripts(table, SMALL)) == list(draw_transcripts(table, SMALL))
    assert list(draw_pairs(table, SMALL)) == list(draw_pairs(table, SMALL))


def test_audits_are_answered_truly():
    table = draw_roles(0)
    rng = np.random.default_rng(0)
    for _ in range(50):
        scene = World(roles=table).scene(rng)
        for audit in draw_audits(rng, scene, 4):
            assert (audit.answer == "yes") == (audit.indicator in scene.held)
        assert to_transcript(scene, table, name="one").turns == (1,)


def test_sizes_below_one_are_refused():
    with pytest.raises(ConfigError, match="n_fit is 0"):
        DatasetConfig(n_fit=0)
