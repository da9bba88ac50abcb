"""What text alone reaches on the published development transcripts: the bar that stands in the project's notes."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from mechprobe.baselines.fold import BaselineFold
from mechprobe.baselines.leaks import shared_texts
from mechprobe.baselines.passages import LabelledTexts
from mechprobe.baselines.text import score_baselines
from mechprobe.taxonomy import load_taxonomy
from mechprobe.transcripts.importing import open_transcripts
from mechprobe.transcripts.labels import LabelReader
from mechprobe.transcripts.splits import group_names, grouped_folds
from mechprobe.transcripts.transcript import Transcript


@pytest.fixture(scope="module")
def transcripts(shared_data: Path) -> list[Transcript]:
    labels = LabelReader(taxonomy=load_taxonomy(), lost="keep")
    file = shared_data / "transcripts" / "bloom_dev_glm47flash.jsonl.zst"
    return [one for one in open_transcripts(file, "normalised", labels) if not one.excluded]


@pytest.fixture(scope="module")
def turns(transcripts: list[Transcript]) -> pd.DataFrame:
    rows = [
        {
            "conversation": at,
            "text": "\n".join(
                f"{one.messages[i].reasoning}\n{one.messages[i].content}"
                for i in one.assistant_messages(turn)
            ),
            "is_positive": turn in (one.misaligned_turns or ()),
        }
        for at, one in enumerate(transcripts)
        for turn in one.turns
    ]
    return pd.DataFrame(rows)


def fold_of(
    transcripts: list[Transcript], turns: pd.DataFrame, number: int
) -> tuple[np.ndarray, BaselineFold]:
    """One of five folds by scenario, with the turns that it tests."""
    of_transcript = grouped_folds(group_names(transcripts), 5)
    is_test = of_transcript[turns["conversation"].to_numpy()] == number
    every = LabelledTexts(
        texts=tuple(turns["text"]), labels=turns["is_positive"].to_numpy(dtype=np.int8)[:, None]
    )
    test = np.flatnonzero(is_test)
    return test, BaselineFold(
        every.take(np.flatnonzero(~is_test)), None, every.without_labels(test)
    )


def test_length_alone_scores_high_on_the_mixed_metric_and_low_on_turns(
    transcripts: list[Transcript], turns: pd.DataFrame
) -> None:
    _, fold = fold_of(transcripts, turns, 0)
    every = BaselineFold(
        fold.fit,
        None,
        LabelledTexts(texts=tuple(turns["text"]), labels=np.zeros((len(turns), 1), np.int8)),
    )
    scores = score_baselines(["length"], every)["length"][:, 0]
    turns = turns.assign(score=scores)
    highest = turns.groupby("conversation").agg({"is_positive": "max", "score": "max"})
    negatives = turns.loc[~turns["is_positive"], "score"]
    positives = highest.loc[highest["is_positive"], "score"]
    mixed = roc_auc_score(
        np.repeat([1, 0], [len(positives), len(negatives)]), np.r_[positives, negatives]
    )
    turn = roc_auc_score(turns["is_positive"], scores)
    transcript = roc_auc_score(highest["is_positive"], highest["score"])
    assert (mixed, turn, transcript) == pytest.approx((0.820, 0.622, 0.572), abs=0.01)


def test_words_beat_length_on_scenarios_that_they_were_not_fitted_on(
    transcripts: list[Transcript], turns: pd.DataFrame
) -> None:
    test, fold = fold_of(transcripts, turns, 0)
    shared = shared_texts(fold.fit.texts, fold.test.texts)
    assert shared.n_near == 0, shared.warning
    scores = score_baselines(["length", "tfidf"], fold)
    labels = turns["is_positive"].to_numpy()[test]
    found = {name: roc_auc_score(labels, values[:, 0]) for name, values in scores.items()}
    assert found["tfidf"] > found["length"] + 0.05
