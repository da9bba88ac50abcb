from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from mechprobe.causal.cases import natural_cases, render_pairs
from mechprobe.causal.keeping import kept
from mechprobe.causal.places.site_map import best_sites
from mechprobe.causal.places.sites import Site, site_acts
from mechprobe.causal.protocol import run_causal
from mechprobe.causal.swaps import along, complement_plan, feature_direction, feature_part
from mechprobe.causal.verdicts.deciding import decide
from mechprobe.causal.verdicts.evidence import Effort, family_evidence
from mechprobe.causal.verdicts.verdict import VerdictRule
from mechprobe.errors import DataError, ShapeError
from mechprobe.models.batches import TokenBatch
from tests.causal.test_causal_evidence import readings
from tests.causal.test_causal_protocol import CONFIG

SITE = Site(hook_name="blocks.0.hook_out", position="span_last")
RULE, EFFORT = VerdictRule(), Effort(n_boot=300, n_permutations=2000)


@pytest.fixture(scope="module")
def cases(planted):
    pairs = [pair for pair in planted.pairs if pair.indicator == "lie" and pair.split == "test"]
    return natural_cases(render_pairs(planted.subject, pairs[:6]))


def test_the_complement_takes_everything_from_the_partner_but_the_coordinate(planted, cases):
    acts = site_acts(planted.subject, cases, SITE, "behavior")
    drawn = torch.randn(2, planted.subject.d_model, generator=torch.Generator().manual_seed(0))
    units = drawn / drawn.norm(dim=-1, keepdim=True)
    condition, case = torch.tensor([0, 1]), torch.tensor([2, 5])
    edit = complement_plan(acts, along(acts, units))(condition, case)
    ids = [cases[i].own.token_ids.tolist() for i in case]
    batch = TokenBatch.of(ids, planted.subject.pad_id)
    edited = planted.subject.capture(batch, [SITE.hook_name], edits=[edit])[SITE.hook_name]
    for row in range(2):
        found = edited[row, acts.positions[case[row], 0]]
        own, partner, u = acts.own[case[row], 0], acts.partner[case[row], 0], units[row]
        assert float(found @ u) == pytest.approx(float(own @ u), abs=1e-5)
        across = torch.eye(len(u)) - torch.outer(u, u)
        assert torch.allclose(across @ found, across @ partner, atol=1e-5)
    with pytest.raises(ShapeError, match="3 numbers"):
        along(acts, torch.ones(1, 3))


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


class CopyingSae(nn.Module):
    """A feature for each axis, on where the axis is positive: known features, written by hand."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.W_dec = nn.Parameter(torch.eye(width))
        self.cfg = SimpleNamespace(
            d_in=width, d_sae=width, normalize_activations="none", architecture=lambda: "standard"
        )

    def encode(self, acts: Tensor) -> Tensor:
        return acts.relu()


def sweep_row(indicator: str, hook: str, effect: float, n: int = 12, outcome: str = "behavior"):
    place = {"hook_name": hook, "position": "span_last", "outcome": outcome}
    sides = {"removing": 1.0, "adding": effect}
    return place | {"indicator": indicator, "n": n, "effect": (1 + effect) / 2} | sides


def test_an_indicator_leaves_the_common_site_only_where_another_does_twice_as_much():
    first, second = "blocks.0.hook_out", "blocks.1.hook_out"
    rows = [sweep_row("all", first, 0.9), sweep_row("all", second, 0.4)]
    rows += [sweep_row("near", first, 0.6), sweep_row("near", second, 1.0)]
    rows += [sweep_row("far", first, 0.1), sweep_row("far", second, 0.9)]
    rows += [sweep_row("far", first, 1.0) | {"position": "span_all"}]
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


def test_a_run_without_shadow_controls_has_no_complements_of_any(planted):
    config = replace(CONFIG, n_shuffled=0, n_covariance_matched=0, with_other_indicators=False)
    found = run_causal(
        planted.subject,
        [pair for pair in planted.pairs if pair.indicator == "lie"],
        planted.transcripts,
        config,
        sites=SITE,
    )
    assert found.verdicts["verdict"].tolist() == ["driver"]
    assert found.selftest["false_driver_shuffled"] == "0/0"
    assert set(found.readings[0].controls) == {"random"}


def test_a_site_is_wanted_for_every_indicator(planted):
    with pytest.raises(DataError, match="no site is given for boast"):
        run_causal(
            planted.subject,
            planted.pairs,
            planted.transcripts,
            CONFIG,
            sites={name: SITE for name in planted.truth if name != "boast"},
        )


def test_swapping_sae_features_adds_their_decoder_rows_and_nothing_else(planted, cases):
    sae = CopyingSae(planted.subject.d_model)
    acts = site_acts(planted.subject, cases, SITE, "behavior")
    axis = planted.held_axis["lie"]
    part = feature_part(sae, [axis])
    moved = part(acts.partner) - part(acts.own)
    wanted = (acts.partner - acts.own)[..., axis]
    assert torch.allclose(moved[..., axis], wanted)
    assert not moved[..., [i for i in range(planted.subject.d_model) if i != axis]].any()
    with pytest.raises(ShapeError, match="features 0 to"):
        feature_part(sae, [10_000])


def test_the_feature_of_a_driver_is_judged_a_driver_and_a_silent_one_has_no_direction(planted):
    sae = CopyingSae(planted.subject.d_model)
    axis, silent = planted.held_axis["lie"], planted.subject.d_model - 1

    def further(spans):
        with pytest.raises(ShapeError, match="the same mean"):
            feature_direction(spans, sae, indicator="lie", name="silent", features=[silent])
        return [feature_direction(spans, sae, indicator="lie", name="feature", features=[axis])]

    found = run_causal(
        planted.subject,
        [pair for pair in planted.pairs if pair.indicator == "lie"],
        planted.transcripts,
        CONFIG,
        sites=SITE,
        further_directions=further,
    )
    verdicts = found.verdicts.set_index("direction")
    assert verdicts["verdict"].to_dict() == {"diff_of_means": "driver", "feature": "driver"}
    assert verdicts.loc["diff_of_means", "replicates"] == "2 of 2"
    assert verdicts.loc["feature", "complement_necessity"] == pytest.approx(0, abs=0.02)
