from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mechprobe.causal.cases import Case, natural_cases, render_pairs
from mechprobe.causal.checks.untrained import (
    best_feature,
    feature_table,
    model_figures,
    model_table,
)
from mechprobe.causal.directions import SpanActs, span_acts
from mechprobe.causal.effects import measure
from mechprobe.causal.places.sites import Site, site_acts
from mechprobe.causal.verdicts.strata import baseline, natural_gap
from mechprobe.errors import DataError, ShapeError
from mechprobe.models.untrained import load_untrained

SITE = Site(hook_name="blocks.0.hook_out", position="span_last")


class Dictionary(nn.Module):
    """Features read and written by the same rows."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.W_dec = nn.Parameter(rows)
        self.cfg = SimpleNamespace(d_in=rows.shape[1], normalize_activations="none")

    def encode(self, acts: Tensor) -> Tensor:
        return (acts @ self.W_dec.T).relu()


def cases_of(planted: Any, thought: str) -> list[Case]:
    pairs = [p for p in planted.pairs if p.split == "test" and p.indicator == thought]
    return natural_cases(render_pairs(planted.subject, pairs))


@pytest.fixture(scope="module")
def scale(planted: Any) -> float:
    pairs = [pair for pair in planted.pairs if pair.split == "test"]
    cases = natural_cases(render_pairs(planted.subject, pairs))
    return natural_gap(measure(planted.subject, cases, "behavior").logit_diff[0])


@pytest.fixture(scope="module")
def trained_spans(planted: Any) -> SpanActs:
    return span_acts(planted.subject, planted.transcripts, SITE)


def test_a_trained_model_moves_along_its_direction_and_an_untrained_one_does_not(
    planted: Any, planted_folder: Path, scale: float, trained_spans: SpanActs
) -> None:
    untrained = load_untrained(planted_folder, seed=0)
    random_spans = span_acts(untrained, planted.transcripts, SITE)
    found = {}
    for name, subject, spans in (
        ("trained", planted.subject, trained_spans),
        ("untrained 0", untrained, random_spans),
    ):
        cases = cases_of(planted, "lie")
        found[name] = [
            model_figures(subject, spans, "lie", cases, "behavior", scale=scale, n_boot=100)
        ]
    trained, control = found["trained"][0], found["untrained 0"][0]
    assert trained.auroc.value == 1.0
    assert trained.moved == pytest.approx(trained.text_flip, rel=0.02)
    assert trained.moved > 0.3
    assert control.auroc.value > 0.9, "the word alone tells, and a random model keeps words apart"
    assert control.moved < 0.02
    table = model_table(found)
    assert list(table["model"]) == ["trained", "untrained 0"]
    assert {"auroc", "low", "high", "moved", "text_flip", "n"} <= set(table.columns)


def made_spans(n: int = 200, width: int = 12) -> SpanActs:
    """Axis 0 tells the label, axis 1 tells it as well and is twice as large."""
    is_present = torch.arange(n) % 2 == 0
    acts = 0.1 * torch.randn(n, width, generator=torch.Generator().manual_seed(0))
    acts[is_present, 0] += 2.0
    acts[is_present, 1] += 4.0
    return SpanActs(site=SITE, acts=acts, indicator=("hide",) * n, is_present=is_present)


def test_the_best_feature_is_chosen_on_one_half_and_read_on_the_other() -> None:
    found = best_feature(Dictionary(torch.eye(12)), made_spans(), "hide", n_boot=100)
    assert found.feature == 1, "of two that tell equally well, the one that contributes more"
    assert found.auroc_chosen == found.auroc.value == 1.0
    assert torch.equal(found.vector, torch.eye(12)[1])


def test_the_best_of_many_meaningless_features_is_worth_nothing_on_the_other_half() -> None:
    spans = made_spans()
    nothing = SpanActs(
        site=SITE,
        acts=torch.randn(200, 12, generator=torch.Generator().manual_seed(1)),
        indicator=spans.indicator,
        is_present=spans.is_present,
    )
    rows = torch.randn(500, 12, generator=torch.Generator().manual_seed(2))
    found = best_feature(Dictionary(rows), nothing, "hide", n_boot=100)
    assert found.auroc_chosen > 0.62, "the best of many on the half that chose it"
    assert found.auroc.low < 0.5 < found.auroc.high


def test_decoder_rows_are_judged_side_by_side(
    planted: Any, scale: float, trained_spans: SpanActs
) -> None:
    subject, cases = planted.subject, cases_of(planted, "lie")
    acts = site_acts(subject, cases, SITE, "behavior")
    base = measure(subject, cases, "behavior").logit_diff[0]
    flipped = [case.flipped for case in cases]
    other = measure(subject, flipped, "behavior").logit_diff[0]
    change = acts.partner[0, 0] - acts.own[0, 0]
    change = -change if cases[0].side == "positive" else change
    change = change / change.norm()
    random = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    table = feature_table(
        subject,
        {"trained": Dictionary(change[None]), "random 0": Dictionary(random)},
        trained_spans,
        "lie",
        cases,
        acts,
        baseline(cases, base, other, scale),
        "behavior",
        n_boot=100,
    )
    assert list(table["operation"]) == ["decoder_row"] * 2 + ["feature"] * 2
    assert list(table["sae"]) == ["trained", "random 0"] * 2
    trained, control, feature, _control = table.to_dict("records")
    assert trained["effect"] == pytest.approx(1, abs=0.05)
    assert 0.3 < feature["effect"] < trained["effect"], "a feature does not go below zero"
    assert abs(control["effect"]) < 0.6 * trained["effect"]
    assert 0 <= control["moved"] < trained["moved"]
    assert control["auroc"] > 0.8, "the best of random features tells as well"


def test_bad_input_is_one_clear_error() -> None:
    with pytest.raises(ShapeError, match=r"width 3 and blocks.0.hook_out has width 12"):
        best_feature(Dictionary(torch.eye(3)), made_spans(), "hide")
    with pytest.raises(DataError, match="capture more spans"):
        best_feature(Dictionary(torch.eye(12)), made_spans(n=12), "hide")
