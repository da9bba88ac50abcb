from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechprobe.errors import ConfigError, DataError
from mechprobe.transcripts.scenarios import group_by_scenario
from mechprobe.transcripts.splits import assign_splits, grouped_folds
from mechprobe.transcripts.transcript import Message, Transcript

SIZES = st.lists(
    st.tuples(st.integers(1, 4), st.sampled_from(["sabotage", "sycophancy"])),
    min_size=3,
    max_size=25,
)


def many(sizes):
    return [
        Transcript(id=f"{group}-{number}", messages=(), group=f"g{group}", behavior=behavior)
        for group, (size, behavior) in enumerate(sizes)
        for number in range(size)
    ]


@given(SIZES, st.integers(0, 5))
def test_no_group_stands_on_two_sides_and_no_split_is_empty(sizes, seed):
    split = assign_splits(many(sizes), seed=seed)
    sides = defaultdict(set)
    for item in split:
        sides[item.group].add(item.split)
    assert all(len(side) == 1 for side in sides.values())
    assert {item.split for item in split} == {"fit", "select", "test"}


@given(SIZES, st.integers(0, 5), st.randoms())
def test_splits_depend_on_the_seed_and_not_on_the_order(sizes, seed, random):
    items = many(sizes)
    shuffled = random.sample(items, len(items))
    by_id = {item.id: item.split for item in assign_splits(items, seed=seed)}
    assert {item.id: item.split for item in assign_splits(shuffled, seed=seed)} == by_id


def test_each_behaviour_is_split_in_proportion():
    sizes = [(2, "sabotage")] * 50 + [(2, "sycophancy")] * 10
    counts = Counter((item.behavior, item.split) for item in assign_splits(many(sizes)))
    assert counts["sabotage", "fit"] == 60
    assert counts["sycophancy", "fit"] == 12
    assert counts["sycophancy", "select"] == counts["sycophancy", "test"] == 4


def test_other_seeds_give_other_splits():
    items = many([(1, "sabotage")] * 40)
    first, second = ([item.split for item in assign_splits(items, seed=s)] for s in (0, 1))
    assert first != second


def test_a_transcript_without_group_is_its_own():
    items = [Transcript(id=str(i), messages=()) for i in range(10)]
    assert Counter(item.split for item in assign_splits(items)) == {
        "fit": 6,
        "select": 2,
        "test": 2,
    }


def test_impossible_splits_are_refused():
    with pytest.raises(DataError, match=r"2 groups .* for 3 splits"):
        assign_splits(many([(5, "sabotage")] * 2))
    for fractions in ({"fit": 0.6, "test": 0.3}, {"fit": 1.0, "test": 0.0}, {}):
        with pytest.raises(ConfigError, match="add up to 1"):
            assign_splits(many([(5, "sabotage")] * 9), fractions)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=60), st.integers(2, 5), st.integers(0, 3))
def test_folds_keep_groups_whole_and_are_about_equal(numbers, n_folds, seed):
    groups = [f"g{number}" for number in numbers]
    if len(set(groups)) < n_folds:
        with pytest.raises(ConfigError, match="n_folds"):
            grouped_folds(groups, n_folds, seed)
        return
    folds = grouped_folds(groups, n_folds, seed)
    of_group = defaultdict(set)
    for group, fold in zip(groups, folds, strict=True):
        of_group[group].add(fold)
    assert all(len(folds_of) == 1 for folds_of in of_group.values())
    sizes = np.bincount(folds, minlength=n_folds)
    assert sizes.min() > 0
    assert sizes.max() - sizes.min() <= max(Counter(groups).values())


def story(name, words, group="", behavior="sabotage"):
    messages = (Message(role="system", content=words),)
    return Transcript(id=name, messages=messages, group=group, behavior=behavior)


def groups(*stories):
    return [item.group for item in group_by_scenario(stories)]


RIVER = "measure the river level near the old mill and write the report for the council"
NOISY_RIVER = "please measure the river level near the old mill, then write the report for council"
TAXES = "audit quarterly tax filings of seven subsidiaries before friday with great care"
TWIN = "audit with great care the kitchens of seven restaurants that opened near other towns"


def test_the_same_story_with_a_little_noise_is_one_scenario():
    assert groups(story("b", RIVER), story("a", NOISY_RIVER), story("c", TAXES)) == ["a", "a", "c"]


def test_a_hint_joins_stories_that_are_somewhat_alike_and_no_others():
    apart = groups(story("a", TAXES), story("b", TWIN), story("c", RIVER))
    assert apart == ["a", "b", "c"]
    hinted = groups(story("a", TAXES, "v1"), story("b", TWIN, "v1"), story("c", RIVER, "v2"))
    assert hinted == ["a", "a", "c"]
    unlike = groups(story("a", "apples pears plums", "v1"), story("b", "rockets orbit mars", "v1"))
    assert unlike == ["a", "b"]


def test_scenarios_do_not_cross_behaviours():
    assert groups(story("a", RIVER), story("b", RIVER, behavior="sycophancy")) == ["a", "b"]


def test_transcripts_without_a_prompt_stay_apart():
    assert groups(story("a", ""), story("b", "")) == ["a", "b"]
    assert group_by_scenario([]) == []
