import numpy as np
import pytest
import torch

from mechprobe.causal.cases import Case, natural_cases, render_pairs
from mechprobe.causal.checks.controls import random_directions
from mechprobe.causal.edits.interventions import (
    ablate_everywhere,
    add_direction,
    change_at,
    steer_everywhere,
)
from mechprobe.causal.effects import (
    SitePlan,
    addition_plan,
    coordinate_plan,
    grid_batches,
    interchange_plan,
    measure,
    patch_plan,
)
from mechprobe.causal.places.sites import Site, SiteActs, site_acts
from mechprobe.errors import DataError, HookError, ShapeError
from mechprobe.models.hooks import Edit, EditContext

HOOK = "blocks.0.hook_out"
SITE = Site(hook_name=HOOK, position="span_last")


@pytest.fixture(scope="module")
def lies(planted):
    pairs = [pair for pair in planted.pairs if pair.indicator == "lie" and pair.split == "test"]
    return natural_cases(render_pairs(planted.subject, pairs[:12]))


def axis(planted, thought: str) -> torch.Tensor:
    one = torch.zeros(1, planted.subject.d_model)
    one[0, planted.held_axis[thought]] = 1.0
    return one


def other_side(cases: list[Case]) -> list[Case]:
    return [
        Case(pair=c.pair, side="negative" if c.side == "positive" else "positive") for c in cases
    ]


def test_the_planted_model_does_what_its_text_says(planted, lies):
    base = measure(planted.subject, lies, "behavior")
    by_id = {pair.id: pair for pair in planted.pairs}
    wanted = [getattr(by_id[c.pair.id], c.side).messages[1].content == "bad" for c in lies]
    assert ((base.logit_diff[0] > 0) == np.array(wanted)).all()
    assert (base.mass > 0.99).all()


def test_patching_the_whole_span_at_the_first_block_is_flipping_the_text(planted, lies):
    acts = site_acts(planted.subject, lies, SITE, "behavior")
    patched = measure(planted.subject, lies, "behavior", plan=patch_plan(acts))
    flipped = measure(planted.subject, other_side(lies), "behavior")
    assert patched.logit_diff == pytest.approx(flipped.logit_diff, abs=1e-3)


def test_interchange_along_the_planted_axis_flips_and_along_random_directions_does_not(
    planted, lies
):
    acts = site_acts(planted.subject, lies, SITE, "behavior")
    vectors = torch.cat(
        [axis(planted, "lie"), random_directions(10, planted.subject.d_model, seed=0)]
    )
    base = measure(planted.subject, lies, "behavior").logit_diff
    flipped = measure(planted.subject, other_side(lies), "behavior").logit_diff
    edited = measure(
        planted.subject,
        lies,
        "behavior",
        plan=interchange_plan(acts, vectors),
        n_conditions=len(vectors),
    ).logit_diff
    matters = np.abs(flipped[0] - base[0]) > 10
    share = (edited - base)[:, matters] / (flipped - base)[:, matters]
    assert matters.sum() >= 4
    assert (share[0] > 0.8).all()
    assert np.abs(share[1:]).max() < 0.4


def test_interchange_is_setting_the_partners_coordinate_and_an_addition_of_the_difference(
    planted, lies
):
    acts = site_acts(planted.subject, lies, SITE, "behavior")
    vector = random_directions(1, planted.subject.d_model, seed=3)
    ours, theirs = ((side @ vector.T)[..., 0][None] for side in (acts.own, acts.partner))
    plans = (
        interchange_plan(acts, vector),
        coordinate_plan(acts, vector, theirs),
        addition_plan(acts, vector, theirs - ours),
    )
    found = [measure(planted.subject, lies, "behavior", plan=plan).logit_diff for plan in plans]
    assert found[1] == pytest.approx(found[0], abs=1e-4)
    assert found[2] == pytest.approx(found[0], abs=1e-3)


def test_an_edit_by_nothing_changes_nothing(planted, lies):
    acts = site_acts(planted.subject, lies, SITE, "behavior")
    vector = random_directions(1, planted.subject.d_model, seed=3)
    nothing = torch.zeros(1, len(lies), 1)
    base = measure(planted.subject, lies, "behavior").logit_diff
    plan = addition_plan(acts, vector, nothing)
    assert (measure(planted.subject, lies, "behavior", plan=plan).logit_diff == base).all()


def test_batches_do_not_change_results(planted, lies):
    acts = site_acts(planted.subject, lies, SITE, "audit")
    plan = interchange_plan(acts, random_directions(5, planted.subject.d_model, seed=1))
    subject = planted.subject
    whole = measure(subject, lies, "audit", plan=plan, n_conditions=5)
    small = measure(subject, lies, "audit", plan=plan, n_conditions=5, batch_tokens=40)
    assert small.logit_diff == pytest.approx(whole.logit_diff, abs=1e-4)


def test_batches_cover_the_grid_once_within_their_budget():
    lengths = np.array([5, 3, 9, 4])
    batches = grid_batches(lengths, 3, 20)
    pairs = {(c, i) for condition, case in batches for c, i in zip(condition, case, strict=True)}
    assert pairs == {(c, i) for c in range(3) for i in range(4)}
    assert sum(len(case) for _condition, case in batches) == 12
    assert all(len(case) * lengths[case].max() <= 20 for _condition, case in batches)


def test_batches_count_kept_tokens_as_a_quarter():
    lengths, kept = np.array([20, 18, 40]), np.array([12, 0, 36])
    batches = grid_batches(lengths, 2, 24, kept=kept)
    rows = [
        list(zip(case.tolist(), condition.tolist(), strict=True)) for condition, case in batches
    ]
    # 4 run after 36 kept cost 13, 8 after 12 cost 11, 18 after none 18; a mixed batch is as wide as its widest parts.
    assert rows == [[(2, 0)], [(2, 1)], [(0, 0), (0, 1)], [(1, 0)], [(1, 1)]]


def two_tokens(acts: SiteActs, site_positions: torch.Tensor) -> SiteActs:
    """The same site with a second, later token in some cases."""
    more = torch.stack([acts.positions[:, 0], site_positions], 1)
    return SiteActs(
        site=acts.site,
        positions=more,
        own=acts.own.repeat(1, 2, 1),
        partner=acts.partner.repeat(1, 2, 1) * 1.5,
    )


def plans_of(acts: SiteActs, d_model: int, n: int) -> dict[str, SitePlan]:
    vectors = random_directions(n, d_model, seed=2)
    numbers = torch.randn(n, *acts.positions.shape, generator=torch.Generator().manual_seed(0))
    return {
        "patch": patch_plan(acts),
        "interchange": interchange_plan(acts, vectors),
        "coordinate": coordinate_plan(acts, vectors, numbers),
        "addition": addition_plan(acts, vectors, 3 * numbers),
    }


@pytest.mark.parametrize("hook_name", ["hook_embed", HOOK, "blocks.1.attn.hook_out"])
@pytest.mark.parametrize("outcome", ["behavior", "audit"])
def test_sharing_what_is_before_the_edits_changes_no_result(planted, lies, hook_name, outcome):
    """Thoughts stand at different tokens, some cases are edited at two, and batches cut cases apart."""
    subject, n = planted.subject, 5
    acts = site_acts(subject, lies, Site(hook_name=hook_name, position="span_all"), outcome)
    later = torch.where(torch.arange(len(lies)) % 2 == 0, acts.positions[:, 0] + 1, -1)
    acts = two_tokens(acts, later)
    assert len(set(acts.positions[:, 0].tolist())) > 2
    for name, plan in plans_of(acts, subject.d_model, n).items():
        found = measure(subject, lies, outcome, plan=plan, n_conditions=n, batch_tokens=300)
        wanted = measure(subject, lies, outcome, plan=plan.__call__, n_conditions=n)
        assert found.logit_diff == pytest.approx(wanted.logit_diff, abs=2e-5), name
        assert found.mass == pytest.approx(wanted.mass, abs=1e-5), name


def test_conditions_share_and_single_runs_do_not(planted, lies, monkeypatch):
    subject = planted.subject
    plan = plans_of(site_acts(subject, lies, SITE, "audit"), subject.d_model, 4)["interchange"]

    def refuse(*_args: object, **_kwargs: object):
        raise AssertionError("not this way")

    told: list[int] = []
    subject.shared_blocks([HOOK])
    with monkeypatch.context() as patched:
        patched.setattr(subject, "run", refuse)
        measure(subject, lies, "audit", plan=plan, n_conditions=4, progress=told.append)
    assert sum(told) == 4 * len(lies)
    with monkeypatch.context() as patched:
        patched.setattr(subject, "run_shared", refuse)
        measure(subject, lies, "audit", plan=plan)
        measure(subject, lies, "audit", plan=plan.__call__, n_conditions=4)
        measure(subject, lies, "audit", n_conditions=4)
        patched.setattr(subject, "shared_blocks", lambda _names: None)
        measure(subject, lies, "audit", plan=plan, n_conditions=4)


def test_a_plan_knows_the_first_token_it_edits():
    def edit(tokens: torch.Tensor, _condition: torch.Tensor, _case: torch.Tensor):
        return add_direction(HOOK, tokens, torch.ones(len(tokens), 4), torch.ones(tokens.shape))

    plan = SitePlan(
        hook_name=HOOK, positions=torch.tensor([[5, 3, -1], [-1, 8, 9], [0, -1, -1]]), edit=edit
    )
    assert plan.first.tolist() == [3, 8, 0]
    assert plan(torch.tensor([0]), torch.tensor([1])).hook_name == HOOK
    with pytest.raises(HookError, match="case 1 has no token"):
        _ = SitePlan(hook_name=HOOK, positions=torch.tensor([[2], [-1]]), edit=edit).first


def test_an_edit_outside_the_tokens_of_its_plan_is_refused(planted, lies):
    acts = site_acts(planted.subject, lies, SITE, "audit")
    vectors = random_directions(4, planted.subject.d_model, seed=1)
    first = int(acts.positions[3, 0])

    def early(tokens: torch.Tensor, condition: torch.Tensor, case: torch.Tensor):
        moved = tokens - (case == 3).long()[:, None]
        return add_direction(HOOK, moved, vectors[condition], torch.ones(tokens.shape))

    plan = SitePlan(hook_name=HOOK, positions=acts.positions, edit=early)
    with pytest.raises(HookError, match=f"changes token {first - 1} .* said to be {first}"):
        measure(planted.subject, lies, "audit", plan=plan, n_conditions=4)
    late = SitePlan(hook_name=HOOK, positions=acts.positions + 40, edit=early)
    with pytest.raises(HookError, match="would not fire"):
        measure(planted.subject, lies, "audit", plan=late, n_conditions=4)


def test_a_broken_run_reads_nan_and_leaves_the_others(planted, lies):
    acts = site_acts(planted.subject, lies, SITE, "audit")

    def edit_by(broken: float):
        def edit(tokens: torch.Tensor, condition: torch.Tensor, case: torch.Tensor) -> Edit:
            is_broken = (condition == 2) & (case == 5)
            amounts = torch.where(is_broken, broken, condition.float())

            def apply(live: torch.Tensor, where: EditContext) -> torch.Tensor:
                is_chosen = (where.positions == tokens)[..., None]
                return torch.where(is_chosen, live + amounts[:, None, None], live)

            return Edit(hook_name=HOOK, apply=apply)

        return SitePlan(hook_name=HOOK, positions=acts.positions, edit=edit)

    found, whole = (
        measure(planted.subject, lies, "audit", plan=edit_by(broken), n_conditions=4)
        for broken in (float("nan"), 1.0)
    )
    is_broken = np.zeros(found.logit_diff.shape, dtype=bool)
    is_broken[2, 5] = True
    assert (np.isnan(found.logit_diff) == is_broken).all()
    assert (np.isnan(found.mass) == is_broken).all()
    assert found.logit_diff[~is_broken] == pytest.approx(whole.logit_diff[~is_broken], abs=1e-5)


def test_edits_everywhere_and_edits_by_a_function_agree(planted, lies):
    acts = site_acts(planted.subject, lies, SITE, "behavior")
    vector = axis(planted, "lie")
    zeros = torch.zeros(1, len(lies), 1)
    set_zero = coordinate_plan(acts, vector, zeros)

    def function(_condition: torch.Tensor, case: torch.Tensor):
        return change_at(HOOK, acts.positions[case], lambda rows: rows - (rows @ vector.T) * vector)

    def everywhere(_condition: torch.Tensor, _case: torch.Tensor):
        return ablate_everywhere(HOOK, vector[0])

    found = [
        measure(planted.subject, lies, "behavior", plan=plan).logit_diff
        for plan in (set_zero, function, everywhere)
    ]
    assert found[1] == pytest.approx(found[0], abs=1e-4)
    assert found[2] == pytest.approx(found[0], abs=1e-4)


def test_steering_works_while_text_is_written(planted, lies):
    base, flipped = (
        measure(planted.subject, cases, "behavior").logit_diff[0]
        for cases in (lies, other_side(lies))
    )
    case = lies[int(np.argmax(np.abs(flipped - base)))]
    prompt = case.own.token_ids[: case.own.reads["behavior"].at + 1].tolist()
    vector = axis(planted, "lie")[0]
    written = {
        amount: planted.subject.generate(
            [prompt], max_new_tokens=1, edits=[steer_everywhere(HOOK, vector, amount)], seed=0
        )[0][0]
        for amount in (-1.0, 1.0)
    }
    assert written[-1.0] != written[1.0]


def test_a_direction_of_the_wrong_width_is_refused(planted, lies):
    acts = site_acts(planted.subject, lies, SITE, "behavior")
    with pytest.raises(ShapeError, match="7 numbers"):
        interchange_plan(acts, torch.ones(1, 7))


def test_a_site_that_cannot_fire_is_refused(planted):
    late = [
        pair for pair in planted.pairs if pair.span.end == len(pair.positive.messages[1].reasoning)
    ]
    cases = natural_cases(render_pairs(planted.subject, late[:2]))
    after = Site(hook_name=HOOK, position="after_span")
    site_acts(planted.subject, cases, after, "behavior")
    with pytest.raises(HookError):
        site_acts(
            planted.subject,
            cases,
            Site(hook_name="blocks.9.hook_out", position="span_last"),
            "behavior",
        )


def test_a_pair_of_unequal_length_is_refused(planted, make_pair):
    from dataclasses import replace

    pair = make_pair({"lie": True, "care": False}, "lie", name="odd")
    message = replace(pair.negative.messages[1], reasoning="wont-lie ; ; wont-care")
    odd = replace(
        pair,
        negative=replace(
            pair.negative,
            messages=(pair.negative.messages[0], message, *pair.negative.messages[2:]),
            spans=(),
        ),
    )
    with pytest.raises(ShapeError, match="'odd'"):
        render_pairs(planted.subject, [odd])


def test_answers_that_start_alike_are_refused(planted, make_pair):
    from dataclasses import replace

    pair = make_pair({"lie": True, "care": False}, "lie", name="same")
    outcome = replace(pair.outcomes[0], bad=("unheard",), good=("unknown",))
    with pytest.raises(DataError, match="same token"):
        render_pairs(planted.subject, [replace(pair, outcomes=(outcome,))])
