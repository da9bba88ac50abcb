"""Means by token, span and transcript, the figures of agreement, and every way to ask wrongly."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.stats import spearmanr

from mechprobe.causal.attribution.agreement import (
    check_against_patching,
    chosen_features,
    rank_correlation,
    sign_agreement,
)
from mechprobe.causal.attribution.contributions import Contributions
from mechprobe.causal.attribution.methods import attribute_outcome
from mechprobe.causal.attribution.probe_scores import EXACT_LINEAR
from mechprobe.causal.attribution.readouts import Readout, token_id_of
from mechprobe.causal.attribution.summary import summarise
from mechprobe.causal.verdicts.statistics import bootstrap_many
from mechprobe.errors import CheckpointError, ConfigError, DataError, HookError, ModelError
from mechprobe.models.subject import Subject
from tests.causal.attribution.made import HOOK, LATER, made_runs, random_sae

RUNS = made_runs()
FEATURES = np.array(
    [[1.0, 0, 0], [3.0, 0, -1], [0, 0, 2], [0, 0.5, 2], [4.0, 0, 0]]
)  # rows: tokens of spans 0, 0, 1, 2, 3, of transcripts t0, t0, t1, t1, t1
ERROR = np.array([0.1, 0.1, 0.2, 0.0, -0.4])


def contributions(method: str = "attribution_patching") -> Contributions:
    return Contributions(
        hook_name=HOOK,
        method=method,
        reference="partner",
        case=np.array([0, 0, 1, 1, 2]),
        position=np.array([1, 2, 1, 2, 2]),
        span=np.array([0, 0, 1, 2, 3]),
        features=sp.csr_matrix(FEATURES),
        error=ERROR,
        constant=0.25 if method == EXACT_LINEAR else 0.0,
    )


def means(**options: object) -> dict[str, float]:
    table = summarise(contributions(), RUNS, n_boot=200, **options)  # type: ignore[arg-type]
    return dict(zip(table["name"], table["mean"], strict=True))


def test_units_are_sums_and_the_mean_is_over_units() -> None:
    assert means(unit="token")["0"] == pytest.approx(8 / 5)
    assert means(unit="span")["0"] == pytest.approx((4 + 0 + 0 + 4) / 4)
    found = means(unit="transcript")
    assert found["0"] == pytest.approx((4 + 0 + 4) / 3)
    assert found["2"] == pytest.approx((-1 + 4 + 0) / 3)
    assert found["error term"] == pytest.approx(ERROR.sum() / 3)
    assert found["total"] == pytest.approx((FEATURES.sum() + ERROR.sum()) / 3)
    assert means(unit="span", indicator="b")["0"] == pytest.approx((0 + 4) / 2)


def test_a_probe_is_averaged_over_the_tokens_of_a_unit() -> None:
    table = summarise(contributions(EXACT_LINEAR), RUNS, unit="span", n_boot=200)
    found = dict(zip(table["name"], table["mean"], strict=True))
    assert found["0"] == pytest.approx((2 + 0 + 0 + 4) / 4)
    assert found["constant"] == pytest.approx(0.25)


def test_rows_are_ranked_and_intervals_resample_transcripts() -> None:
    table = summarise(contributions(), RUNS, n_boot=300, seed=4)
    assert table["name"].tolist() == ["0", "2", "1", "error term", "constant", "total"]
    assert table["rank"].tolist() == [1, 2, 3, 0, 0, 0]
    wanted = bootstrap_many(np.array([[4.0], [0], [4]]), ["t0", "t1", "t1"], n_boot=300, seed=4)
    assert table.iloc[0][["low", "high"]].tolist() == pytest.approx(wanted[0].tolist())
    assert table["n_active"].tolist()[:2] == [2, 2]
    assert table["share"][:4].sum() == pytest.approx(1)


def test_agreement_by_hand_and_by_scipy() -> None:
    linear, exact = np.array([5.0, 3, -1, 0]), np.array([9.0, 1, -2, 4])
    assert rank_correlation(linear, exact) == pytest.approx(spearmanr(linear, exact).statistic)
    assert sign_agreement(linear, exact) == 0.75
    assert sign_agreement(np.array([1.0, 0, 1e-9]), np.array([-1.0, 0, 0])) == 0.0
    assert np.isnan(sign_agreement(np.zeros(2), np.zeros(2)))
    assert np.isnan(rank_correlation(linear, np.ones(4)))
    top, random = chosen_features(np.array([0, -9.0, 3, 5, 0, 1]), np.array([1, 2, 3, 5]), 2, 0)
    assert top.tolist() == [1, 3] and sorted(random.tolist()) == [2, 5]


@pytest.fixture(scope="module")
def subject(tiny_llama: Path) -> Subject:
    return Subject.load(tiny_llama)


def test_an_sae_of_another_place_or_width_is_refused(subject: Subject) -> None:
    with pytest.raises(CheckpointError, match="not at blocks"):
        attribute_outcome(subject, RUNS, {LATER: random_sae()}, method="gradient_x_activation")
    narrow = random_sae()
    narrow.cfg.d_in = 8
    with pytest.raises(CheckpointError, match="d_in = 8"):
        attribute_outcome(subject, RUNS, {HOOK: narrow}, method="gradient_x_activation")
    with pytest.raises(HookError, match=r"no hook point 'blocks\.7\.hook_out'"):
        sae = random_sae(0, "")
        attribute_outcome(subject, RUNS, {"blocks.7.hook_out": sae}, method="gradient_x_activation")


def test_methods_and_references_that_do_not_go_together_are_refused(subject: Subject) -> None:
    saes = {HOOK: random_sae()}
    with pytest.raises(ConfigError, match="these have none"):
        attribute_outcome(subject, made_runs(paired=False), saes, method="attribution_patching")
    with pytest.raises(ConfigError, match="counts from 'zero'"):
        attribute_outcome(subject, RUNS, saes, method="gradient_x_activation", reference="partner")
    with pytest.raises(ConfigError, match="n_steps is 0"):
        attribute_outcome(subject, RUNS, saes, method="integrated_gradients", n_steps=0)
    found = attribute_outcome(subject, RUNS, saes, method="attribution_patching")[HOOK]
    with pytest.raises(ConfigError, match="m is 0"):
        check_against_patching(subject, RUNS, saes[HOOK], found, m=0)


def test_tokens_after_the_outcome_and_runs_without_tokens_are_refused() -> None:
    with pytest.raises(HookError, match="run 1 is read at token 2, and token 3 comes after it"):
        replace(RUNS, positions=torch.tensor([[1, 2], [1, 3], [2, -1]]))
    with pytest.raises(HookError, match=r"run 2 \(t1\) has no token"):
        replace(RUNS, positions=torch.tensor([[1, 2], [1, 2], [-1, -1]]))


def test_gradients_that_are_not_numbers_are_told(subject: Subject) -> None:
    def read(logits: torch.Tensor, _case: torch.Tensor) -> torch.Tensor:
        return (logits[:, 0] * 0).sqrt() * logits[:, 1]

    runs = replace(RUNS, readout=Readout(name="broken", read=read))
    with pytest.raises(ModelError, match="are NaN or infinite"):
        attribute_outcome(subject, runs, {HOOK: random_sae()}, method="gradient_x_activation")


def test_an_outcome_that_depends_on_nothing_is_told(subject: Subject) -> None:
    runs = replace(RUNS, readout=Readout(name="constant", read=lambda x, _: torch.ones(len(x))))
    with pytest.raises(HookError, match="does not depend on the activations"):
        attribute_outcome(subject, runs, {HOOK: random_sae()}, method="gradient_x_activation")


def test_an_outcome_token_must_be_one_token(subject: Subject) -> None:
    assert token_id_of(subject, 3) == 3
    [hide] = subject.tokenizer(" hide", add_special_tokens=False)["input_ids"]
    assert token_id_of(subject, " hide") == hide
    with pytest.raises(ConfigError, match="no single token"):
        token_id_of(subject, "zebra crossing")
    with pytest.raises(ConfigError, match="token 99999 is not in the vocabulary"):
        token_id_of(subject, 99999)


def test_asking_for_no_unit_is_told() -> None:
    with pytest.raises(DataError, match="no span of 'z'"):
        summarise(contributions(), RUNS, unit="span", indicator="z")
