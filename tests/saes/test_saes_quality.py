"""The quality table is what its formulas say, for each subset of tokens."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mechprobe.saes.encoding import encode_store
from mechprobe.saes.quality import QUALITY_COLUMNS, sae_quality
from mechprobe.transcripts.transcript import Message, Span, Transcript, number_turns
from tests.saes.made_sae import HOOK, MadeSae, write_store


def labelled(index: int) -> Transcript:
    messages = (
        Message(role="user", content="x"),
        Message(role="assistant", reasoning="a b c d e f", content="y"),
    )
    spans = (Span(indicator="hiding", message=1, section="reasoning", start=2, end=5),)
    negative = Span(
        indicator="lying", message=1, section="reasoning", start=0, end=3, present=False
    )
    return Transcript(
        id=f"t{index}",
        messages=number_turns(messages),
        spans=spans if index == 1 else (negative,),
    )


def test_each_subset_agrees_with_plain_formulas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mechprobe.saes.quality._CHUNK", 4)
    store, sae = write_store(tmp_path / "store"), MadeSae()
    features = encode_store(store, HOOK, sae, tmp_path / "features")
    table = sae_quality(store, features, sae, [labelled(index) for index in range(4)])
    assert tuple(table.columns) == QUALITY_COLUMNS
    subsets = {
        "all": np.arange(18),
        "role:assistant": np.arange(18),
        "section:answer": np.array([4, 11, 17]),
        "section:reasoning": np.setdiff1d(np.arange(18), [4, 11, 17]),
        "indicator:hiding": np.array([6, 7]),
    }
    assert list(table["subset"]) == list(subsets)
    for row in table.to_dict("records"):
        acts = store.acts(HOOK, subsets[row["subset"]]).double()
        active = torch.from_numpy(features.csr(subsets[row["subset"]]).toarray()).double()
        with torch.no_grad():
            error = acts - (active @ sae.W_dec.double() + sae.b_dec.double())
        spread = (acts - acts.mean(0)).pow(2).sum()
        density = (active > 0).double().mean(0)
        assert row["n_tokens"] == len(acts)
        assert row["l0"] == pytest.approx(float((active > 0).sum(1).double().mean()))
        assert row["explained_variance"] == pytest.approx(
            float(1 - error.pow(2).sum() / spread), rel=1e-4
        )
        assert row["dead_share"] == pytest.approx(float((density == 0).double().mean()))
        assert row["dense_share"] == pytest.approx(float((density > 0.1).double().mean()))


def test_a_perfect_sae_explains_everything(tmp_path: Path):
    store, sae = write_store(tmp_path / "store"), MadeSae(bias=0.0)
    with torch.no_grad():  # each coordinate and its negative are features
        sae.W_enc.zero_()
        sae.b_dec.zero_()
        sae.W_enc[:, :8], sae.W_enc[:, 8:16] = torch.eye(8), -torch.eye(8)
        sae.W_dec.copy_(sae.W_enc.T)
    features = encode_store(store, HOOK, sae, tmp_path / "features")
    row = sae_quality(store, features, sae).iloc[0]
    assert row["explained_variance"] == pytest.approx(1.0, abs=1e-5)
    assert row["l0"] == pytest.approx(8.0)
    assert row["dead_share"] == pytest.approx(8 / 24)
