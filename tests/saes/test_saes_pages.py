"""What is said of a feature is what its activations, words and rows are."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mechprobe.errors import ConfigError
from mechprobe.reports.feature_browser import FeatureFacts, write_feature_browser
from mechprobe.saes.describing.company import feature_words, indicator_company
from mechprobe.saes.describing.descriptions import (
    Band,
    DescribingConfig,
    FeatureDescription,
    describe_features,
)
from mechprobe.saes.describing.directions import logit_lens, nearest_rows
from mechprobe.saes.describing.neuronpedia import (
    DashboardSource,
    dashboard_feature,
    write_dashboards,
)
from mechprobe.saes.encoding import encode_store
from mechprobe.saes.examples import FeatureExample, TokenContext
from mechprobe.saes.features import FeatureStore
from tests.saes.made_sae import D_SAE, HOOK, MadeSae, write_store


@pytest.fixture
def made(tmp_path: Path) -> tuple[FeatureStore, TokenContext]:
    store = write_store(tmp_path / "store", sizes=(5, 7, 6))
    features = encode_store(store, HOOK, MadeSae(bias=0.5), tmp_path / "features")
    return features, TokenContext.of(store.tokens)


def test_descriptions_agree_with_the_dense_activations(made: tuple[FeatureStore, TokenContext]):
    features, tokens = made
    dense = features.csr().toarray()
    config = DescribingConfig(n_top=2, n_bands=2, n_per_band=50, context=2, n_bars=4)
    described = list(describe_features(features, tokens, config))
    assert [one.feature for one in described] == list(range(D_SAE))
    for one in described:
        column = dense[:, one.feature]
        active = column[column > 0]
        assert (one.n_active, one.density) == (len(active), pytest.approx(len(active) / 18))
        if not len(active):
            assert (one.largest, one.mean, one.top, one.bands) == (0.0, 0.0, [], [])
            continue
        assert one.largest == active.max()
        assert one.mean == pytest.approx(active.mean(), rel=1e-5)
        assert (
            one.bars.tolist() == np.histogram(column[column > 0], 4, (0, active.max()))[0].tolist()
        )
        best = [column[tokens.conversations == c].max() for c in range(3)]
        assert [e.act for e in one.top] == sorted((b for b in best if b > 0), reverse=True)[:2]
        drawn = [example for band in one.bands for example in band.examples]
        assert sorted(e.act for e in drawn) == sorted(active.tolist())
        for band in one.bands:
            inside = [example.act for example in band.examples]
            assert all(band.low < act <= band.high for act in inside)
            assert inside == sorted(inside, reverse=True)
            assert band.share == pytest.approx(len(inside) / len(active))
        for example in [*one.top, *drawn]:
            around = np.arange(max(0, example.row - 2), min(18, example.row + 3))
            around = around[tokens.conversations[around] == tokens.conversations[example.row]]
            assert example.token_ids == tuple(tokens.token_ids[around].tolist())
            assert example.acts == tuple(column[around].tolist())
            assert around[example.position] == example.row


def test_a_feature_is_described_alike_alone_and_among_all(made: tuple[FeatureStore, TokenContext]):
    whole = {one.feature: one for one in describe_features(*made)}
    (alone,) = describe_features(*made, chosen=[7])
    assert [band.examples for band in alone.bands] == [band.examples for band in whole[7].bands]
    assert alone.top == whole[7].top


def test_the_best_of_each_conversation_is_found_in_a_small_pool(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    conversations = np.sort(rng.integers(0, 9, 600))
    rows = np.flatnonzero(rng.random(600) < 0.8)
    values = rng.integers(1, 40, len(rows)).astype(np.float32)  # many ties
    tokens = TokenContext(
        token_ids=np.arange(600),
        conversations=conversations,
        transcript_ids=pd.Series(conversations),
    )
    wanted = tokens.top_rows(rows, values, 4)
    assert [values[rows == row][0] for row in wanted] == sorted(
        (values[conversations[rows] == c].max() for c in range(9)), reverse=True
    )[:4]
    for pool in (5, 20, 100):
        monkeypatch.setattr("mechprobe.saes.examples._POOL", pool)
        assert tokens.top_rows(rows, values, 4).tolist() == wanted.tolist()


def test_lift_of_words_by_hand():
    # Token 3 is 2 of 4 active tokens and 2 of 20 in all: lift 5. Token 0 is 2 of 4 and 10 of 20: lift 1.
    words = feature_words(np.array([3, 0, 3, 0]), np.array([10, 5, 3, 2]))
    assert [(word.token_id, word.count, word.lift) for word in words] == [
        (3, 2, pytest.approx(5.0))
    ]
    assert feature_words(np.zeros(0, int), np.array([10, 5, 3, 2])) == []
    assert feature_words(np.array([3]), np.array([10, 5, 3, 2])) == []  # once is no finding


def test_lift_of_indicators_by_hand(made: tuple[FeatureStore, TokenContext]):
    features, _ = made
    fired = features.csr().toarray() > 0
    inside = {"hiding": np.arange(18) < 5, "lying": np.zeros(18, bool)}
    company = indicator_company(features, inside)
    assert company.n_tokens.tolist() == [5, 0]
    wanted = fired[:5].mean(0)
    assert np.allclose(company.share[0], wanted)
    alive = fired.any(axis=0)
    assert np.allclose(company.lift[0, alive], wanted[alive] / fired.mean(0)[alive])
    assert np.isnan(company.lift[0, ~alive]).all()
    assert np.isnan(company.lift[1]).all()


def test_the_logit_lens_and_nearest_rows_by_hand():
    unembed = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -3.0]])
    rows = torch.tensor([[2.0, 0.0], [0.0, 1.0], [2.0, 0.1], [-2.0, 0.0]])
    lens = logit_lens(rows, unembed, 2)
    assert lens.top_ids[0].tolist()[0] == 0
    assert lens.bottom_ids[1].tolist() == [3, 0] or lens.bottom_ids[1].tolist() == [3, 2]
    assert lens.top[1].tolist() == [1.0, 0.0]
    assert lens.bottom[1].tolist() == [-3.0, 0.0]
    # logits of row 1: 0, 1, 0, -3; their mean is -.5
    assert float(lens.spread[1]) == pytest.approx(np.std([0.0, 1.0, 0.0, -3.0]))
    assert lens.histogram.sum(1).tolist() == [4.0] * 4
    assert (float(lens.histogram[1, 0]), float(lens.histogram[1, -1])) == (1.0, 1.0)
    near = nearest_rows(rows, 1)
    assert near.feature[:, 0].tolist() == [2, 2, 0, 1]
    assert float(near.cosine[0, 0]) == pytest.approx(2 / np.hypot(2, 0.1))
    with pytest.raises(ConfigError, match="5 tokens are to be shown of a vocabulary of 4"):
        logit_lens(rows, unembed, 5)


SOURCE = DashboardSource(
    model_id="toy", layer=3, sae_set="abc", dataset="talks", n_prompts_total=4, n_tokens_in_prompt=5
)


def words(ids: object) -> list[str]:
    return [f"<{token}>" for token in ids]  # pyright: ignore


def described() -> FeatureDescription:
    example = FeatureExample(
        row=6, transcript_id="t1", act=1.25, token_ids=(8, 9, 8), acts=(0.0, 1.25, 0.5), position=1
    )
    return FeatureDescription(
        feature=1,
        n_active=5,
        density=0.25,
        largest=1.25,
        mean=0.6,
        bars=np.array([4, 1]),
        top=[example],
        bands=[Band(low=0.0, high=0.5, share=0.8, examples=[example])],
        words=[],
    )


def test_a_dashboard_has_the_fields_that_neuronpedia_reads(tmp_path: Path):
    lens = logit_lens(torch.eye(2), torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, -3.0]]), 1)
    shown = {"tokens": ["<8>", "<9>", "<8>"], "values": [0.0, 1.25, 0.5]}
    wanted = {
        "feature_index": 1,
        "neuron_alignment_indices": [],
        "neuron_alignment_values": [],
        "neuron_alignment_l1": [],
        "correlated_neurons_indices": [],
        "correlated_neurons_l1": [],
        "correlated_neurons_pearson": [],
        "correlated_features_indices": [],
        "correlated_features_l1": [],
        "correlated_features_pearson": [],
        "neg_str": ["<2>"],
        "neg_values": [-3.0],
        "pos_str": ["<1>"],
        "pos_values": [2.0],
        "frac_nonzero": 0.25,
        "freq_hist_data_bar_values": [0.312, 0.938],
        "freq_hist_data_bar_heights": [4, 1],
        "n_prompts_total": 4,
        "n_tokens_in_prompt": 5,
        "dataset": "talks",
        "decoder_weights_dist": [],
        "activations": [
            {"bin_min": -1, "bin_max": 1.25, "bin_contains": -1, **shown},
            {"bin_min": 0.0, "bin_max": 0.5, "bin_contains": 0.8, **shown},
        ],
    }
    found = dashboard_feature(described(), SOURCE, words, lens)
    heights = found.pop("logits_hist_data_bar_heights")
    values = found.pop("logits_hist_data_bar_values")
    assert found == wanted
    # Logits -3, 0, 2 in 24 steps of 5 / 24.
    assert [at for at, height in enumerate(heights) if height] == [0, 14, 23]
    assert values[0] == pytest.approx(-3 + 5 / 48, abs=1e-3)
    (path,) = write_dashboards(tmp_path, [described()], SOURCE, words, lens=lens)
    batch = json.loads(path.read_text())
    assert list(batch) == ["model_id", "layer", "sae_set", "features"]
    assert (batch["model_id"], batch["layer"], batch["sae_set"]) == ("toy", 3, "abc")
    assert batch["features"][0]["activations"] == wanted["activations"]


def test_the_page_holds_all_it_shows_and_asks_the_network_for_nothing(
    made: tuple[FeatureStore, TokenContext], tmp_path: Path
):
    features, tokens = made
    facts = FeatureFacts(
        rankings={"hiding": [{"feature": 3, "auroc": 0.98765, "p_value": 0.01}]},
        falsified={
            3: [
                {
                    "indicator": "hiding",
                    "falsifier": "masking",
                    "figure": 0.1,
                    "reading": "survives",
                }
            ]
        },
    )
    path = write_feature_browser(
        tmp_path / "features.html",
        describe_features(features, tokens),
        lambda ids: [f"</script><b>{token}" for token in ids],
        title="<Talks>",
        hook_name=HOOK,
        facts=facts,
    )
    page = path.read_text()
    assert "&lt;Talks&gt;" in page
    assert "http://" not in page and "https://" not in page and "src=" not in page
    start = page.index('id="data">') + len('id="data">')
    data = json.loads(page[start : page.index("</script>", start)])  # no word closes the element
    assert [one["i"] for one in data["features"]] == list(range(D_SAE))
    assert data["rankings"]["hiding"] == [[3, 0.988, 0.01]]
    third = data["features"][3]
    assert third["f"] == [["hiding", "masking", 0.1, "survives"]]
    (described_third,) = describe_features(features, tokens, chosen=[3])
    top = described_third.top[0]
    transcript, position, ids, heat = third["x"][0]
    assert data["transcripts"][transcript] == top.transcript_id
    assert [data["words"][token] for token in ids] == [f"</script><b>{t}" for t in top.token_ids]
    assert dict(zip(heat[::2], heat[1::2], strict=True))[position] == 100
    assert heat[::2] == [at for at, act in enumerate(top.acts) if act]
