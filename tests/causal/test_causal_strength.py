import numpy as np
import pytest
import torch

from mechprobe.causal.cases import natural_cases, render_pairs
from mechprobe.causal.checks.controls import random_directions
from mechprobe.causal.directions import Direction
from mechprobe.causal.effects import measure
from mechprobe.causal.places.sites import Site, site_acts
from mechprobe.causal.verdicts.strata import baseline, natural_gap
from mechprobe.causal.writing.neutral import neutral_change, neutral_kl, neutral_text
from mechprobe.causal.writing.pushes import PushTable
from mechprobe.causal.writing.strength import (
    EQUAL_DAMAGE_COLUMNS,
    calibrate,
    effects_at_equal_damage,
    equal_damage_rows,
    iso_kl,
)
from mechprobe.errors import ConfigError, DataError, ShapeError

HOOK = "blocks.0.hook_out"


@pytest.fixture(scope="module")
def neutral(planted):
    found = neutral_text(planted.subject, planted.transcripts, 6)
    assert found is not None
    return found


def axis(planted, thought: str) -> torch.Tensor:
    one = torch.zeros(planted.subject.d_model)
    one[planted.held_axis[thought]] = 1.0
    return one


def test_amounts_reach_the_target_within_a_twentieth(planted, neutral):
    drawn = random_directions(5, planted.subject.d_model, seed=0)
    for target in (0.01, 0.1):
        found = iso_kl(planted.subject, neutral, HOOK, drawn, target=target)
        assert found.is_reached.all()
        assert found.kl == pytest.approx(np.full(5, target), rel=0.05)
        again = [
            neutral_kl(planted.subject, neutral, HOOK, vector, [amount])[0]
            for vector, amount in zip(drawn, found.amounts.tolist(), strict=True)
        ]
        assert again == pytest.approx(found.kl, abs=1e-6)
        assert found.n_passes.max() <= 20


def test_directions_are_calibrated_alone_as_together(planted, neutral):
    drawn = random_directions(3, planted.subject.d_model, seed=1)
    whole = iso_kl(planted.subject, neutral, HOOK, drawn)
    alone = [iso_kl(planted.subject, neutral, HOOK, vector[None]).amounts[0] for vector in drawn]
    assert alone == pytest.approx(whole.amounts, rel=1e-6)


def test_a_target_that_no_amount_reaches_is_said_to_be_missed(planted, neutral):
    drawn = torch.cat(
        [
            torch.zeros(1, planted.subject.d_model),
            random_directions(1, planted.subject.d_model, seed=0),
        ]
    )
    found = iso_kl(planted.subject, neutral, HOOK, drawn, target=0.1, max_amount=0.02)
    assert not found.is_reached.any()
    assert found.kl[0] == 0.0
    assert 0 < found.kl[1] < 0.1
    assert found.amounts[1] == pytest.approx(0.02)


def test_a_push_by_nothing_changes_nothing_to_the_bit(planted, neutral):
    drawn = random_directions(2, planted.subject.d_model, seed=0)
    pushes = PushTable.steering(HOOK, drawn, torch.zeros(2))
    change = neutral_change(planted.subject, neutral, pushes)
    assert (change.kl == 0).all()
    assert (change.cross_entropy == 0).all()


def test_cross_entropy_is_the_loss_of_the_assistants_own_tokens(planted, neutral):
    from mechprobe.models.batches import TokenBatch

    losses: list[float] = []
    for transcript in neutral.transcripts:
        rendering = planted.subject.render(transcript)
        ids = rendering.token_ids.tolist()
        logits = planted.subject.run(TokenBatch.of([ids], planted.subject.pad_id))[0]
        words = planted.subject.tokenizer.convert_ids_to_tokens(ids)
        own = range(words.index("<think>") + 1, words.index("<|end|>", words.index("<think>")) + 1)
        answer = [words.index("<|assistant|>", own[-1]) + 1 + i for i in (0, 1)]
        for place in (*own, *answer):
            losses.append(-float(logits[place - 1].log_softmax(-1)[ids[place]]))
    assert neutral.cross_entropy == pytest.approx(np.mean(losses), abs=1e-5)


def test_at_equal_damage_a_drivers_direction_does_more_than_random_ones(planted, neutral):
    pairs = [p for p in planted.pairs if p.indicator == "lie" and p.split == "test"]
    cases = natural_cases(render_pairs(planted.subject, pairs))
    base = measure(planted.subject, cases, "behavior").logit_diff[0]
    unedited = baseline(cases, base, base, natural_gap(base))
    acts = site_acts(planted.subject, cases, Site(hook_name=HOOK, position="span_last"), "behavior")
    direction = Direction(indicator="lie", name="planted", vector=axis(planted, "lie"), gap=1.0)
    drawn = random_directions(9, planted.subject.d_model, seed=2)
    vectors = torch.cat([direction.vector[None], drawn])
    # The planted rule has a threshold: what half a thought costs is the least that shows an effect.
    target = float(neutral_kl(planted.subject, neutral, HOOK, vectors[0], [0.8])[0])
    found = effects_at_equal_damage(
        planted.subject,
        cases,
        "behavior",
        acts,
        unedited,
        direction,
        calibrate(planted.subject, neutral, HOOK, vectors, target=target),
    )
    means = found.effects.mean(1)
    assert means[0] > 0.1
    assert means[0] > 10 * np.abs(np.median(means[1:]))
    assert found.p_random <= 0.2
    rows = list(equal_damage_rows(found))
    assert len(rows) == 10
    assert set(rows[0]) == set(EQUAL_DAMAGE_COLUMNS)
    assert [row["control"] for row in rows] == ["none"] + ["random"] * 9


def test_bad_input_is_refused_by_name(planted, neutral):
    drawn = random_directions(1, planted.subject.d_model, seed=0)
    with pytest.raises(DataError, match="no transcript is without a held indicator"):
        iso_kl(planted.subject, None, HOOK, drawn)
    with pytest.raises(ConfigError, match=r"target is 0\.0 nats"):
        iso_kl(planted.subject, neutral, HOOK, drawn, target=0.0)
    with pytest.raises(ShapeError, match="has 5 numbers"):
        iso_kl(planted.subject, neutral, HOOK, random_directions(1, 5, seed=0))
    with pytest.raises(ShapeError, match="NaN or infinite"):
        iso_kl(planted.subject, neutral, HOOK, drawn * torch.nan)
    held = [t for t in planted.transcripts if any(span.present for span in t.spans)]
    assert neutral_text(planted.subject, held, 4) is None
