"""Domains of transcripts, and folds with no scenario on both sides."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mechprobe.errors import ConfigError
from mechprobe.evaluation.transfers.domains import (
    Domains,
    domain_names,
    domains_of,
    fold_of_conversation,
    folds_from,
    folds_without,
)
from mechprobe.transcripts.transcript import Message, Transcript, number_turns
from tests.evaluation.two_domains import two_domains

LEFT, RIGHT = [9.0] * 6 + [0.0] * 6, [1.0, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 3]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 8)), min_size=4, max_size=60),
    st.integers(3, 6),
    st.integers(0, 3),
)
def test_no_scenario_is_on_both_sides_and_everything_is_tested_once(
    conversations: list[tuple[int, int]], n_folds: int, seed: int
) -> None:
    domain, group = np.array(conversations).T
    domains = Domains(
        key="model", names=("a", "b", "c"), of_conversation=domain - (group == 8), group=group
    )
    for name in domains.names:
        for folds, tested in (
            (folds_from(domains, name, n_folds, seed=seed), domains.anywhere),
            (folds_without(domains, name, n_folds, seed=seed), domains.within(name)),
        ):
            assert (sum(fold.test.astype(int) for fold in folds) == tested).all()
            for fold in folds:
                sides = [set(group[side]) for side in (fold.fit, fold.select, fold.test)]
                assert not sides[0] & sides[1] and not sides[0] & sides[2]
                assert not sides[1] & sides[2]
                assert not (domain[fold.fit] - (group[fold.fit] == 8) < 0).any()


def test_a_domain_s_scenarios_are_dealt_evenly_over_the_folds() -> None:
    domains = two_domains(40)
    fold = fold_of_conversation(domains, 5, seed=3)
    for name in domains.names:
        assert np.bincount(fold[domains.within(name)], minlength=5).tolist() == [8] * 5


def test_leaving_a_domain_out_takes_one_fit_unless_scenarios_are_shared() -> None:
    assert len(folds_without(two_domains(20), "left", 5)) == 1
    (fold,) = folds_without(two_domains(20), "left", 5)
    assert (fold.fit | fold.select).sum() == 20 and fold.test.sum() == 20
    assert len(folds_without(two_domains(20, shared=True), "left", 5)) == 5


def talk(number: int, **labels: object) -> Transcript:
    messages = number_turns(
        [Message(role="user", content="go on"), Message(role="assistant", content="yes")]
    )
    return Transcript(id=f"talk {number}", messages=messages, **labels)  # type: ignore[arg-type]


def test_domains_come_from_a_field_or_from_meta_and_excluded_transcripts_are_in_none() -> None:
    transcripts = [
        talk(0, behavior="a", meta={"language": "en"}),
        talk(1, behavior="b", meta={"language": "vi"}),
        talk(2, behavior="a", excluded=True),
        talk(3),
    ]
    domains = domains_of(transcripts, "behavior")
    assert domains.names == ("a", "b")
    assert domains.of_conversation.tolist() == [0, 1, -1, -1]
    assert domains_of(transcripts, "language").of_conversation.tolist() == [0, 1, -1, -1]
    assert domain_names(transcripts, "model") == ()
    with pytest.raises(ConfigError, match="'model' has 0 value"):
        domains_of(transcripts, "model")
    with pytest.raises(ConfigError, match=r"no transcript has a 'tongue'.*behavior, .*language"):
        domains_of(transcripts, "tongue")


def test_too_few_folds_and_a_single_domain_are_refused() -> None:
    with pytest.raises(ConfigError, match="n_folds is 2"):
        folds_from(two_domains(8), "left", 2)
    with pytest.raises(ConfigError, match="'key' has 1 value"):
        Domains(key="key", names=("a",), of_conversation=np.zeros(3, int), group=np.arange(3))
