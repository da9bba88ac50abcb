from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from mechprobe.causal.cases import render_pairs
from mechprobe.causal.config import CausalConfig
from mechprobe.causal.directions import (
    Direction,
    SpanActs,
    direction_along,
    fit_directions,
    probe_pattern,
    span_acts,
)
from mechprobe.causal.places.site_map import best_site
from mechprobe.causal.places.sites import Site
from mechprobe.causal.protocol import CausalResult, run_causal
from mechprobe.causal.tables.results import KnownTruth
from mechprobe.causal.writing.resampling import answer_start, resample
from mechprobe.errors import ConfigError, DataError, ShapeError

CONFIG = CausalConfig(
    n_test_pairs=44,
    n_select_pairs=4,
    n_random=20,
    n_covariance_matched=2,
    n_shuffled=1,
    n_fragility=1,
    strengths=(-1.0, -0.5, 0.5, 1.0),
    n_dose_pairs=20,
    n_dose_random=1,
    n_neutral=4,
    n_resampled_pairs=24,
    n_samples=2,
    max_new_tokens=30,
    n_boot=300,
    n_permutations=2000,
)
SITE = Site(hook_name="blocks.0.hook_out", position="span_last")


@pytest.fixture(scope="module")
def result(planted) -> CausalResult:
    return run_causal(
        planted.subject,
        planted.pairs,
        planted.transcripts,
        CONFIG,
        truth=KnownTruth(verdicts=planted.truth),
    )


def test_every_planted_role_gets_its_verdict(planted, result):
    found = dict(zip(result.verdicts["indicator"], result.verdicts["verdict"], strict=True))
    assert found == planted.truth
    assert result.selftest["right"] == result.selftest["of"] == 8


def test_no_direction_that_means_nothing_is_called_a_driver(result):
    for name in ("random", "random_covariance_orthogonal", "shuffled_orthogonal"):
        assert str(result.selftest[f"false_driver_{name}"]).startswith("0/")
    assert result.selftest["false_driver_random"] == "0/160"
    # As drawn they may hold part of a real direction, so these are reported, and stay within the level.
    for name in ("random_covariance", "shuffled"):
        n_drivers, n = str(result.selftest[f"false_driver_{name}"]).split("/")
        assert int(n_drivers) <= 0.05 * int(n)


def test_the_sweep_finds_where_the_thought_acts_and_does_not_choose_the_decision_token(result):
    assert set(result.sites.values()) == {SITE}
    everywhere = result.sweep[result.sweep["indicator"] == "all"].set_index(
        ["hook_name", "position", "outcome"]
    )["effect"]
    assert everywhere["blocks.0.hook_out", "span_last", "behavior"] == pytest.approx(1.0, abs=0.01)
    assert everywhere["blocks.0.hook_out", "after_span", "behavior"] == pytest.approx(0, abs=0.01)
    assert everywhere["blocks.1.hook_out", "decision", "behavior"] == pytest.approx(1.0, abs=0.01)


def test_partners_show_what_the_pooled_effect_hides(result):
    given = result.effects[result.effects["stratum"].str.contains(" with")]
    rows = given[given["indicator"] == "hide"].set_index("stratum")["effect"]
    assert rows["sufficiency with spy"] > 0.4
    assert rows["sufficiency without spy"] < 0.1
    notes = result.verdicts.set_index("indicator")["given_partner"]
    assert "spy" in notes["hide"]


def test_the_tables_are_whole(result):
    effects = result.effects
    assert set(effects["operation"]) == {
        *("N1", "S1", "N1_complement", "S1_complement", "N2", "S2", "P0")
    }
    controls = set(effects["control"].str.split(":").str[0])
    assert controls == {
        "none",
        "random",
        "random_covariance_orthogonal",
        "shuffled_orthogonal",
        "random_covariance",
        "shuffled",
        "other",
        "fragility",
    }
    assert effects[effects["control"] == "none"]["low"].notna().all()
    own = result.dose[(result.dose["indicator"] == "lie") & (result.dose["control"] == "none")]
    assert own["strength"].tolist() == [0.0, -1.0, -0.5, 0.5, 1.0]
    assert result.verdicts["reason"].str.len().gt(10).all()
    text = result.verdicts.set_index("indicator")
    assert text.loc["lie", "necessity"] == pytest.approx(text.loc["lie", "text_necessity"], abs=0.1)


def test_verdicts_at_a_dead_site_are_refused(planted):
    dead = Site(hook_name="blocks.0.hook_out", position="after_span")
    found = run_causal(
        planted.subject, lies_of(planted), planted.transcripts, CONFIG, sites=dead
    ).verdicts
    assert found["verdict"].tolist() == ["invalid"]
    assert found["reason"].str.contains("refused").all()


def test_further_directions_are_judged_in_the_same_way_and_seeds_hold(planted):
    def further(spans: SpanActs) -> list[Direction]:
        axis = torch.zeros(planted.subject.d_model)
        axis[planted.held_axis["lie"]] = 1.0
        return [direction_along(spans, indicator="lie", name="planted", vector=axis)]

    first, again = (
        run_causal(
            planted.subject,
            lies_of(planted),
            planted.transcripts,
            CONFIG,
            sites=SITE,
            further_directions=further,
        )
        for _ in range(2)
    )
    assert first.verdicts["direction"].tolist() == ["diff_of_means", "planted"]
    assert first.verdicts["verdict"].tolist() == ["driver", "driver"]
    for name in ("effects", "dose", "verdicts"):
        assert getattr(again, name).equals(getattr(first, name))


def lies_of(planted):
    return [pair for pair in planted.pairs if pair.indicator == "lie"]


def test_missing_parts_are_named(planted):
    run = (planted.subject, planted.pairs[:60], planted.transcripts)
    with pytest.raises(DataError, match="split 'test'"):
        run_causal(planted.subject, [replace(planted.pairs[0], split="")], [], CONFIG)
    with pytest.raises(DataError, match="named 'deeds'"):
        run_causal(*run, replace(CONFIG, behavior_outcome="deeds"))
    with pytest.raises(DataError, match="no labelled span"):
        run_causal(planted.subject, planted.pairs[-20:], [], CONFIG, sites=SITE)
    with pytest.raises(ConfigError, match="n_random"):
        CausalConfig(n_random=5)
    with pytest.raises(ConfigError, match="strengths"):
        CausalConfig(strengths=(1.0,))
    with pytest.raises(ConfigError, match="n_test_pairs"):
        CausalConfig(n_test_pairs=3)


def test_directions_need_both_kinds_of_span_and_the_right_width(planted):
    spans = span_acts(planted.subject, planted.transcripts, SITE)
    fitted = {one.indicator: one for one in fit_directions(spans, ["lie"])}
    assert fitted["lie"].gap > 0
    assert float(fitted["lie"].vector[planted.held_axis["lie"]]) > 0.4
    with pytest.raises(DataError, match="'nothing' has 0 spans"):
        fit_directions(spans, ["nothing"])
    with pytest.raises(ShapeError, match="3 numbers"):
        direction_along(spans, indicator="lie", name="bad", vector=torch.ones(3))


def test_a_probe_is_judged_along_its_pattern_not_its_weight():
    generator = torch.Generator().manual_seed(0)
    is_present = torch.arange(400) % 2 == 0
    noise = torch.randn(400, generator=generator)
    acts = torch.stack([is_present * 2.0 + 3 * noise, 3 * noise], 1)
    acts += 0.1 * torch.randn(400, 2, generator=generator)
    spans = SpanActs(site=SITE, acts=acts, indicator=("lie",) * 400, is_present=is_present)
    weight = torch.tensor([1.0, -1.0])
    along = direction_along(spans, indicator="lie", name="weight", vector=weight)
    pattern = probe_pattern(spans, indicator="lie", name="pattern", weight=weight)
    assert along.vector[1] == pytest.approx(-(0.5**0.5))
    assert pattern.vector[0] > 0.97
    with pytest.raises(ShapeError):
        probe_pattern(spans, indicator="lie", name="bad", weight=torch.ones(3))


def test_a_sweep_without_any_effect_of_the_text_chooses_nothing(result):
    silent = result.sweep.assign(effect=np.nan)
    with pytest.raises(DataError, match="no site can be chosen"):
        best_site(silent)


def test_a_smaller_site_is_preferred_when_it_does_nearly_as_well(result):
    template = result.sweep[result.sweep["indicator"] == "all"].iloc[:1]
    rows = [
        template.assign(hook_name="blocks.0.hook_out", position="span_all", effect=1.0),
        template.assign(hook_name="blocks.1.hook_out", position="span_last", effect=0.93),
    ]
    assert best_site(pd.concat(rows)).position == "span_last"
    rows[1] = rows[1].assign(effect=0.6)
    assert best_site(pd.concat(rows)).position == "span_all"


def test_only_what_acts_through_later_text_moves_the_rate_when_text_is_written_anew(planted):
    found = {}
    for name in ("plot", "boast"):
        pairs = [p for p in planted.pairs if p.indicator == name and p.split == "test"]
        rendered = render_pairs(planted.subject, pairs[:24])
        found[name] = resample(
            planted.subject, rendered, "behavior", n_samples=4, max_new_tokens=30, seed=1
        )
    assert found["plot"].difference.mean() > 0.3
    assert abs(found["boast"].difference.mean()) < 0.15
    assert found["plot"].parsed > 0.7


def test_an_answer_in_another_message_than_the_span_cannot_be_regenerated(planted):
    rendered = render_pairs(planted.subject, planted.pairs[:3])
    found = resample(planted.subject, rendered, "audit", n_samples=1, max_new_tokens=5)
    assert found.clusters == ()


def test_the_answer_is_found_after_its_lead(planted):
    read = render_pairs(planted.subject, planted.pairs[:1])[0].sides["positive"].reads["behavior"]
    lead = list(read.lead)
    assert answer_start([1, 2, *lead, 7], read, search_from=0) == 2 + len(lead)
    assert answer_start([1, 2, 3], read, search_from=0) is None
    assert answer_start([*lead, 1, 2], read, search_from=1) is None
