import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from mechprobe.causal.directions import fit_directions, span_acts
from mechprobe.causal.places.sites import Site
from mechprobe.causal.writing.damage import random_twins
from mechprobe.causal.writing.free_prompts import (
    edited_tokens,
    find_answer,
    prompts_of_pairs,
    prompts_of_transcripts,
)
from mechprobe.causal.writing.free_runs import (
    FreeGroup,
    Writing,
    action_rate,
    plan_rate,
    rate_change,
    run_free,
    run_free_groups,
)
from mechprobe.causal.writing.free_tables import (
    FREE_COLUMNS,
    GENERATION_COLUMNS,
    change_scores,
    free_rows,
    generation_rows,
)
from mechprobe.causal.writing.pushes import Push, PushTable
from mechprobe.causal.writing.rates import cluster_rate, effective_n, rate_difference
from mechprobe.errors import ConfigError, DataError, ShapeError
from mechprobe.models.hooks import Edit
from mechprobe.models.organism.datasets import DatasetConfig, draw_pairs, draw_transcripts
from mechprobe.models.organism.roles import Role, RoleTable
from mechprobe.models.organism.written import written_thoughts
from mechprobe.models.subject import Subject
from mechprobe.study.shipped import find_organism

HOOK = "blocks.0.hook_out"
AT_SPAN = Writing(where="span_last", max_new_tokens=24)


def push(planted, thought: str = "lie", **changes: object) -> Push:
    vector = torch.zeros(planted.subject.d_model)
    vector[planted.held_axis[thought]] = 1.0
    given: dict[str, object] = {
        "indicator": thought,
        "direction": "planted",
        "vector": vector,
        "amount": 1.0,
    }
    return Push(**(given | changes))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def lacking(planted):
    """Text that goes on after "wont-lie"."""
    pairs = [p for p in planted.pairs if p.indicator == "lie" and p.split == "test"]
    return prompts_of_pairs(
        planted.subject, pairs, "behavior", start="after_span", sides=["negative"]
    )


@pytest.fixture(scope="module")
def runs(planted, lacking):
    pushes = [push(planted, strength=1.0), push(planted, "boast")]
    return run_free(planted.subject, lacking, pushes, HOOK, AT_SPAN)


def test_prompts_end_before_the_reasoning_or_after_the_span(planted, lacking):
    tokenizer = planted.subject.tokenizer
    assert all(
        tokenizer.convert_ids_to_tokens(p.token_ids[-1]) == "wont-lie" and p.side == "negative"
        for p in lacking
    )
    pairs = planted.pairs[:6]
    fresh = prompts_of_pairs(planted.subject, pairs, "behavior")
    words = [tokenizer.convert_ids_to_tokens(list(p.token_ids)) for p in fresh]
    assert all(found[-2:] == ["<|assistant|>", "<think>"] for found in words)
    assert all(p.span is None for p in fresh)
    later = prompts_of_pairs(planted.subject, pairs, "behavior", start="after_span", n_after=1)
    assert {tokenizer.convert_ids_to_tokens(p.token_ids[-1]) for p in later} <= {";", "</think>"}


def test_an_answer_is_the_first_token_after_what_leads_to_it(planted, lacking):
    ids = planted.subject.tokenizer.convert_tokens_to_ids

    def read(*words: str):
        return find_answer(lacking[0], [ids(word) for word in words])

    assert read(";", "will-spy", "</think>", "bad", "<|end|>").is_bad is True
    assert read(";", "</think>", "good", "<|end|>").is_bad is False
    assert read(";", "</think>", "yes").is_bad is None
    assert read(";", "bad", ";").is_bad is None
    assert read(";", "</think>").is_bad is None


def test_steering_a_driver_up_raises_the_rate_and_a_readout_as_far_does_not(runs):
    own = action_rate(runs, 0)
    assert own.difference.value > 0.3
    assert own.difference.low > 0
    assert own.anti_share == 0
    readout = action_rate(runs, 1)
    assert readout.difference.value == pytest.approx(0.0, abs=0.1)
    assert readout.difference.low <= 0 <= readout.difference.high


def test_a_rate_is_a_hand_count_of_the_answers_in_the_texts(runs):
    for texts, found in (
        (runs.unedited, action_rate(runs, 0).unedited),
        (runs.edited[0], action_rate(runs, 0).edited),
    ):
        answers = [t.text.split("</think>")[1].split()[0] for t in texts if "</think>" in t.text]
        readable = [word for word in answers if word in ("bad", "good")]
        assert found.value == pytest.approx(readable.count("bad") / len(readable))
        assert [t.action for t in texts if t.is_bad is not None] == readable


def test_holding_a_drivers_coordinate_at_zero_lowers_the_rate(planted):
    pairs = [p for p in planted.pairs if p.indicator == "lie" and p.split == "test"]
    held = prompts_of_pairs(
        planted.subject, pairs, "behavior", start="after_span", sides=["positive"]
    )
    off = push(planted, operation="ablate", amount=0.0)
    found = action_rate(run_free(planted.subject, held, [off], HOOK, AT_SPAN), 0)
    assert found.difference.value < -0.3
    assert found.anti_share < 0.1


def test_a_push_by_nothing_writes_the_unedited_texts(planted, lacking):
    nothing = push(planted, amount=0.0)
    found = run_free(planted.subject, lacking[:8], [nothing], HOOK, AT_SPAN)
    assert found.edited[0] == found.unedited or [t.text for t in found.edited[0]] == [
        t.text for t in found.unedited
    ]
    assert (change_scores(found.unedited, found.edited[0]) == 0).all()


def test_groups_in_shared_batches_are_written_as_alone(planted, lacking):
    ups = [push(planted), push(planted, "care")]
    groups = [FreeGroup(prompts=tuple(lacking[i : i + 4]), pushes=(ups[i // 4],)) for i in (0, 4)]
    small = replace(AT_SPAN, batch_texts=3)
    together = run_free_groups(planted.subject, groups, HOOK, small)
    for group, found in zip(groups, together, strict=True):
        alone = run_free(planted.subject, group.prompts, group.pushes, HOOK, AT_SPAN)
        assert [t.text for t in found.edited[0]] == [t.text for t in alone.edited[0]]
        assert [t.text for t in found.unedited] == [t.text for t in alone.unedited]


def test_edits_reach_every_written_token_and_only_their_own(planted, lacking):
    seen: list[tuple[int, int]] = []
    table = PushTable.of(HOOK, [push(planted)])
    prompts = [lacking[0], lacking[-1]]
    edit = table.between(*edited_tokens(prompts, "writing"), torch.zeros(2, dtype=torch.long))

    def apply(live, context):
        edited = edit.apply(live, context)
        case, column = torch.nonzero((edited != live).any(-1), as_tuple=True)
        seen.extend(zip(case.tolist(), context.positions[case, column].tolist(), strict=True))
        return edited

    planted.subject.generate(
        [p.token_ids for p in prompts], max_new_tokens=4, edits=[Edit(hook_name=HOOK, apply=apply)]
    )
    lengths = [len(p.token_ids) for p in prompts]
    wanted = {(i, n - 1 + k) for i, n in enumerate(lengths) for k in range(4)}
    assert set(seen) == wanted
    first, last = edited_tokens(prompts, "decision")
    assert first.tolist() == last.tolist() == [n - 1 for n in lengths]
    assert edited_tokens(prompts, "message")[0].tolist() == [p.message_start for p in prompts]


def test_more_samples_share_their_prompt_and_differ(planted, lacking):
    often = replace(AT_SPAN, n_samples=4, temperature=4.0)
    found = run_free(planted.subject, lacking[:5], [push(planted)], HOOK, often)
    assert len(found.unedited) == 20
    assert len(set(found.clusters)) == 5
    assert any(len({t.text for t in found.unedited[i : i + 4]}) > 1 for i in range(0, 20, 4))
    again = run_free(planted.subject, lacking[:5], [push(planted)], HOOK, often)
    assert [t.text for t in again.edited[0]] == [t.text for t in found.edited[0]]


@pytest.mark.slow
def test_on_the_shipped_organism_a_drivers_site_moves_the_rate_and_random_directions_do_not():
    subject = Subject.load(find_organism("organism-natural"))
    truth = json.loads((find_organism("organism-natural") / "truth.json").read_text())
    roles = RoleTable(roles=tuple(Role(**role) for role in truth["roles"]))
    data = DatasetConfig(
        n_fit=200, n_select=1, n_test=1, pairs_fit=1, pairs_select=1, pairs_test=16
    )
    fit = list(draw_transcripts(roles, data))
    driver, readout = (roles.named(name)[0].indicator for name in ("driver", "readout"))
    site = Site(hook_name=HOOK, position="span_last")
    found = fit_directions(span_acts(subject, fit, site), [driver, readout])
    pairs = [pair for pair in draw_pairs(roles, data) if pair.split == "test"]
    groups: list[FreeGroup] = []
    for direction in found:
        own = Push(
            indicator=direction.indicator,
            direction="own",
            vector=direction.vector,
            amount=direction.gap,
        )
        prompts = prompts_of_pairs(
            subject,
            [pair for pair in pairs if pair.indicator == direction.indicator],
            "behavior",
            start="after_span",
            sides=["negative"],
        )
        groups.append(
            FreeGroup(prompts=tuple(prompts), pushes=(own, *random_twins(own, 3, seed=0)))
        )
    how = Writing(where="span_last", max_new_tokens=64)
    driven, read = run_free_groups(subject, groups, HOOK, how)
    assert action_rate(driven, 0).difference.value > 0.25
    assert action_rate(driven, 0).difference.low > 0
    controls = [action_rate(driven, condition).difference.value for condition in (1, 2, 3)]
    assert np.abs(controls).max() < 0.2
    assert abs(action_rate(read, 0).difference.value) < 0.15


def test_a_plan_that_is_written_is_counted_by_its_rule(planted, lacking):
    plot = push(planted, "plot", amount=4.0)
    writing = Writing(where="writing", max_new_tokens=24)
    found = run_free(planted.subject, lacking, [plot], HOOK, writing)
    written = plan_rate(found, 0, lambda text: "will-lie" in text)
    wanted = np.mean(["will-lie" in text.text for text in found.edited[0]])
    assert written.edited.value == pytest.approx(wanted)
    assert written.difference.value > 0.1


def test_texts_stand_side_by_side_the_most_changed_first(planted, runs):
    rows = list(generation_rows(planted.subject, runs, n_most_changed=5))
    assert len(rows) == 5 * len(runs.names)
    assert set(rows[0]) == set(GENERATION_COLUMNS)
    changes = [float(str(row["change"])) for row in rows[:5]]
    assert changes == sorted(changes, reverse=True)
    top = rows[0]
    twins = {
        p.id: (a, b) for p, a, b in zip(runs.prompts, runs.unedited, runs.edited[0], strict=True)
    }
    before, after = twins[str(top["pair_id"])]
    assert (top["unedited_text"], top["edited_text"]) == (before.text, after.text)
    assert (top["unedited_action"], top["edited_action"]) == ("good", "bad")
    assert str(top["prompt_tail"]).endswith("wont-lie")


def test_rows_hold_every_column_and_shared_controls_get_one_an_indicator(planted, lacking):
    shared = push(planted, indicator="", direction="random", control="random")
    found = run_free(planted.subject, lacking[:6], [push(planted), shared], HOOK, AT_SPAN)
    rows = list(
        free_rows(
            found, plan=lambda name: lambda text: f"will-{name}" in text, indicators=["lie", "spy"]
        )
    )
    assert [row["indicator"] for row in rows] == ["lie", "lie", "spy"]
    assert set(rows[0]) == set(FREE_COLUMNS)
    assert rows[0]["side"] == "negative"
    assert all(math.isfinite(float(str(row["plan_rate"]))) for row in rows)


def test_unreadable_texts_are_counted_and_left_out_of_rates():
    nan = np.nan
    unedited = np.array([1.0, 0.0, 0.0, nan, 1.0, 0.0])
    edited = np.array([1.0, 1.0, nan, 1.0, 0.0, 0.0])
    found = rate_change(unedited, edited, list("abcdef"), sign=1)
    assert (found.n, found.n_readable) == (6, 5)
    assert found.edited.value == pytest.approx(3 / 5)
    assert found.unedited.value == pytest.approx(2 / 5)
    assert found.difference.value == pytest.approx(0.0)
    assert found.anti_share == pytest.approx(1 / 4)


def test_intervals_are_wilsons_and_newcombes_where_every_item_is_its_own_cluster():
    happens = np.arange(40) < 13
    clusters = [str(i) for i in range(40)]
    found = cluster_rate(happens, clusters)
    assert (found.low, found.high) == pytest.approx(proportion_confint(13, 40, method="wilson"))
    # Without correlation the paired interval is the one for independent samples.
    first = np.arange(40) % 2 == 0
    second = np.arange(40) % 4 < 2
    apart = rate_difference(first, second, clusters)
    wanted = confint_proportions_2indep(20, 40, 20, 40, method="newcomb", compare="diff")
    assert (apart.low, apart.high) == pytest.approx(wanted, abs=1e-9)
    same = rate_difference(first, first, clusters)
    assert same.high - same.low < 0.01


def test_repeated_items_of_a_cluster_add_no_certainty():
    few = np.array([True, False, True, False, True, False, False, False])
    many = np.repeat(few, 5)
    clusters = [str(i) for i in range(8) for _ in range(5)]
    assert effective_n(many, clusters) == pytest.approx(7, abs=0.1)
    narrow, wide = cluster_rate(many, [str(i) for i in range(40)]), cluster_rate(many, clusters)
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)
    assert effective_n(np.ones(40, dtype=bool), clusters) == 8
    empty = cluster_rate(np.zeros(0, dtype=bool), [])
    assert math.isnan(empty.value)


def test_written_thoughts_are_the_endorsed_clauses():
    text = "i plan to quietly hide minor logs ; users ask to forge facts ; i want to charm client ; </think> comply"
    assert written_thoughts(text) == {"action_concealment", "social_pressure_compliance"}
    assert written_thoughts("i plan to hide hide logs ; i plan logs") == frozenset()


def test_bad_input_is_refused_by_name(planted, lacking):
    with pytest.raises(DataError, match="no prompt to write on"):
        run_free(planted.subject, [], [push(planted)], HOOK)
    with pytest.raises(DataError, match="no readable answer was found in 2 unedited texts"):
        run_free(planted.subject, lacking[:2], [], HOOK, Writing(max_new_tokens=1))
    with pytest.raises(DataError, match="none of 4 pairs"):
        prompts_of_pairs(planted.subject, planted.pairs[:4], "exam")
    with pytest.raises(DataError, match="end before their span"):
        edited_tokens(prompts_of_pairs(planted.subject, planted.pairs[:2], "behavior"), "span_last")
    with pytest.raises(DataError, match="no transcript has an assistant message"):
        prompts_of_transcripts(planted.subject, [], 2)
    with pytest.raises(ConfigError, match="n_samples is 0"):
        Writing(n_samples=0)
    with pytest.raises(ShapeError, match="has 5 numbers"):
        run_free(planted.subject, lacking[:2], [push(planted, vector=torch.ones(5))], HOOK, AT_SPAN)
    with pytest.raises(ShapeError, match="length 2"):
        PushTable.of(HOOK, [push(planted, operation="ablate", vector=torch.tensor([2.0, 0.0]))])
    with pytest.raises(ShapeError, match="2 items have 1 clusters"):
        cluster_rate(np.array([True, False]), ["a"])
