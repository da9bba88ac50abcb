"""A feature that fires on an indicator is ranked first and beats luck; with labels at random nothing does."""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from mechprobe.activations.store import ActivationStore
from mechprobe.activations.writing import StoreWriter
from mechprobe.models.subject import Subject
from mechprobe.saes.encoding import encode_store
from mechprobe.saes.features import FeatureStore
from mechprobe.study.config import StudyConfig
from mechprobe.study.feature_ranking import RANKING_COLUMNS, feature_ranking
from mechprobe.study.run import Run
from mechprobe.transcripts.transcript import Message, Span, Transcript, number_turns
from tests.models.families import FAMILIES, save
from tests.saes.made_sae import D_IN, HOOK, MadeSae

N_TRANSCRIPTS, N_WORDS, MAIN = 60, 8, 5


@dataclass(frozen=True, kw_only=True, eq=False)
class MadeRun(Run):
    """A run whose parts are given; its model is an encoder."""

    made: SimpleNamespace

    store = property(lambda self: self.made.store)
    transcripts = property(lambda self: self.made.transcripts)
    sae = property(lambda self: self.made.sae)
    taxonomy = property(lambda _: SimpleNamespace(slugs=("hiding", "lying")))
    subject = property(lambda self: self.made.subject)


def labelled(index: int, indicator: str) -> Transcript:
    """One-word spans: words 2 and 5 hold the indicator, 0 and 7 only look like it."""
    text = "a b c d e f g h"
    spans = tuple(
        Span(
            indicator=indicator,
            message=1,
            section="reasoning",
            start=2 * w,
            end=2 * w + 1,
            present=p,
        )
        for w, p in ((2, True), (5, True), (0, False), (7, False))
    )
    messages = (
        Message(role="user", content="x"),
        Message(role="assistant", reasoning=text, content="y"),
    )
    split = "test" if index % 3 == 0 else "fit"
    return Transcript(id=f"t{index}", messages=number_turns(messages), spans=spans, split=split)


@pytest.fixture
def sae() -> MadeSae:
    """Feature 5 reads coordinate 0; the others read anything but that."""
    made = MadeSae(bias=0.0)
    with torch.no_grad():
        made.b_dec.zero_()
        made.W_enc[0] = 0.0
        made.W_enc[:, MAIN] = 0.0
        made.W_enc[0, MAIN] = 1.0
    return made


def made_run(folder: Path, sae: MadeSae, *, is_planted: bool) -> tuple[MadeRun, FeatureStore]:
    generator = torch.Generator().manual_seed(1)
    writer = StoreWriter.start(
        folder / "store",
        hooks={HOOK: D_IN},
        dtype="float32",
        config={},
        n_conversations=N_TRANSCRIPTS,
    )
    transcripts: list[Transcript] = []
    for index in range(N_TRANSCRIPTS):
        indicator = "hiding" if index % 2 else "lying"
        transcripts.append(labelled(index, indicator))
        acts = torch.randn(N_WORDS, D_IN, generator=generator)
        acts[:, 0] = 0.0
        if is_planted and indicator == "hiding":
            acts[[2, 5], 0] = 3.0
        position = np.arange(N_WORDS)
        tokens = pd.DataFrame(
            {
                "conversation": np.full(N_WORDS, index, np.int32),
                "transcript_id": pd.Categorical([f"t{index}"] * N_WORDS),
                "position": position,
                "token_id": position,
                "message": np.ones(N_WORDS, np.int32),
                "turn": np.ones(N_WORDS, np.int32),
                "role": pd.Categorical(["assistant"] * N_WORDS),
                "section": pd.Categorical(["reasoning"] * N_WORDS),
                "char_start": 2 * position,
                "char_end": 2 * position + 1,
            }
        )
        writer.write(
            index, {HOOK: acts}, tokens, first_conversation=index, transcript_ids=[f"t{index}"]
        )
    store = ActivationStore.open(folder / "store")
    features = encode_store(store, HOOK, sae, folder / "features")
    config = StudyConfig(
        name="made", kind="transcripts", out=folder, transcripts=folder, model="none"
    )
    encoder = Subject.load(save(FAMILIES["BERT"], folder / "model"), chat_template="plain")
    made = SimpleNamespace(store=store, transcripts=transcripts, sae=sae, subject=encoder)
    return MadeRun(config=config, say=print, made=made), features


def test_a_planted_feature_is_first_and_beats_luck(tmp_path: Path, sae: MadeSae):
    run, features = made_run(tmp_path, sae, is_planted=True)
    table = feature_ranking(run, features, n=2, n_permutations=99)
    assert tuple(table.columns) == RANKING_COLUMNS
    best = table[(table["indicator"] == "hiding") & (table["rank"] == 1)].iloc[0]
    assert best["feature"] == MAIN
    assert (best["auroc"], best["split"]) == (1.0, "test")
    assert best["p_value"] == pytest.approx(0.01)
    assert 0.5 < best["by_luck"] < 0.8
    assert best["mean_positive"] == pytest.approx(3.0)
    assert best["density"] == pytest.approx(60 / 480)  # 30 transcripts with two such words
    assert np.isnan(best["output"])  # an encoder has no logits
    second = table[(table["indicator"] == "hiding") & (table["rank"] == 2)].iloc[0]
    assert second["p_value"] > 0.01


def test_nothing_beats_luck_where_there_is_nothing(tmp_path: Path, sae: MadeSae):
    run, features = made_run(tmp_path, sae, is_planted=False)
    table = feature_ranking(run, features, n=1, n_permutations=99)
    # The least p of 99 permutations is .01, which the planted feature reaches.
    assert (table["p_value"] > 0.01).all()
    assert (table["auroc"] < 0.9).all()
