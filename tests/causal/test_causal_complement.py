from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from mechprobe.causal.cases import natural_cases, render_pairs
from mechprobe.causal.complement import complement_plan
from mechprobe.causal.evidence import Effort, family_evidence
from mechprobe.causal.keeping import kept
from mechprobe.causal.site_map import best_sites
from mechprobe.causal.sites import Site, site_acts
from mechprobe.causal.verdict import VerdictRule, decide
from mechprobe.errors import DataError, ShapeError
from mechprobe.models.batches import TokenBatch
from tests.causal.test_causal_evidence import readings

SITE = Site(hook_name="blocks.0.hook_out", position="span_last")
RULE, EFFORT = VerdictRule(), Effort(n_boot=300, n_permutations=2000)


@pytest.fixture(scope="module")
def cases(planted):
    pairs = [pair for pair in planted.pairs if pair.indicator == "lie" and pair.split == "test"]
    return natural_cases(render_pairs(planted.subject, pairs[:6]))


def test_the_complement_takes_everything_from_the_partner_but_the_coordinate(planted, cases):
    acts = site_acts(planted.subject, cases, SITE, "behavior")
    drawn = torch.randn(2, planted.subject.d_model, generator=torch.Generator().manual_seed(0))
    along = drawn / drawn.norm(dim=-1, keepdim=True)
    condition, case = torch.tensor([0, 1]), torch.tensor([2, 5])
    edit = complement_plan(acts, along)(condition, case)
    ids = [cases[i].own.token_ids.tolist() for i in case]
    batch = TokenBatch.of(ids, planted.subject.pad_id)
    edited = planted.subject.capture(batch, [SITE.hook_name], edits=[edit])[SITE.hook_name]
    for row in range(2):
        found = edited[row, acts.positions[case[row], 0]]
        own, partner, u = acts.own[case[row], 0], acts.partner[case[row], 0], along[row]
        assert float(found @ u) == pytest.approx(float(own @ u), abs=1e-5)
        across = torch.eye(len(u)) - torch.outer(u, u)
        assert torch.allclose(across @ found, across @ partner, atol=1e-5)
    with pytest.raises(ShapeError, match="3 numbers"):
        complement_plan(acts, torch.ones(1, 3))


def test_a_direction_that_leaves_much_of_the_effect_to_the_rest_is_no_driver():
    whole, half = readings(1.0), readings(0.6)
    assert decide(family_evidence([whole], RULE, EFFORT)[0], RULE).name == "driver"
    evidence = family_evidence([half], RULE, EFFORT)[0]
    verdict = decide(evidence, RULE)
    assert verdict.name == "undetermined"
    assert verdict.reason.startswith("a part or a shadow of the cause: necessity 0.")
    assert evidence.strata["necessity"].rest == pytest.approx(0.4, abs=0.05)
    # The same effects without the control would be called a driver: it is the complement that refuses.
    assert decide(
        family_evidence([replace(half, complement=None)], RULE, EFFORT)[0], RULE
    ).name == ("driver")


def sweep_row(indicator: str, hook: str, effect: float, n: int = 12, outcome: str = "behavior"):
    place = {"hook_name": hook, "position": "span_last", "outcome": outcome}
    return place | {"indicator": indicator, "n": n, "effect": effect}


def test_an_indicator_leaves_the_common_site_only_where_another_does_clearly_more():
    first, second = "blocks.0.hook_out", "blocks.1.hook_out"
    rows = [sweep_row("all", first, 0.9), sweep_row("all", second, 0.4)]
    rows += [sweep_row("near", first, 0.9), sweep_row("near", second, 1.0)]
    rows += [sweep_row("far", first, 0.1), sweep_row("far", second, 0.9)]
    rows += [sweep_row("few", first, 0.1, n=2), sweep_row("few", second, 0.9, n=2)]
    rows += [sweep_row("audit", first, 0.1, outcome="audit")]
    rows += [sweep_row("audit", second, 0.9, outcome="audit")]
    found = best_sites(pd.DataFrame(rows), ["behavior", "audit"])
    assert {name: site.hook_name for name, site in found.items()} == {
        "near": first,
        "far": second,
        "few": first,
        "audit": second,
    }


def test_what_is_kept_is_not_made_again(tmp_path):
    made: list[int] = []

    def make() -> np.ndarray:
        made.append(1)
        return np.arange(3)

    for _ in range(2):
        assert kept(tmp_path / "new", "piece", make).tolist() == [0, 1, 2]
    assert len(made) == 1
    assert kept(None, "piece", make).tolist() == [0, 1, 2]
    assert len(made) == 2
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["piece.pt"]


def test_a_site_is_wanted_for_every_indicator(planted):
    from mechprobe.causal.protocol import run_causal
    from tests.causal.test_causal_protocol import CONFIG

    with pytest.raises(DataError, match="no site is given for boast"):
        run_causal(
            planted.subject,
            planted.pairs,
            planted.transcripts,
            CONFIG,
            sites={name: SITE for name in planted.truth if name != "boast"},
        )
