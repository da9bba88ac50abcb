"""What every baseline keeps to, by name: shapes, finite scores, determinism, and no look at the test texts' company."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mechprobe.baselines.embeddings import embedding_baseline
from mechprobe.baselines.fold import Baseline, BaselineFold
from mechprobe.baselines.passages import LabelledTexts, Passages, Places
from mechprobe.baselines.text import BASELINES, TEXT_SCORERS, score_baselines
from mechprobe.errors import ConfigError, ShapeError

FILLERS = ("red", "green", "blue", "grey", "brown")


def letters(texts: list[str]) -> np.ndarray:
    """A stand-in for an embedding: how often each of some letters occurs."""
    return np.array([[text.count(c) for c in "abegiklnrstu"] for text in texts], dtype=np.float64)


EVERY: dict[str, Baseline] = {**BASELINES, "letters": embedding_baseline(letters, "letters")}
WORDED = [name for name in EVERY if name in ("letters",) or name.startswith(("tfidf", "word_"))]
PLACED = ["length", "length_characters", "length_tokens", "turn_number", "token_in_turn"]


def units(n: int, seed: int) -> LabelledTexts:
    """Three indicators: a word tells the first, length and place tell the second, all have the third."""
    rng = np.random.default_rng(seed)
    told, late = rng.random(n) < 0.4, rng.random(n) < 0.5
    texts = [
        " ".join([*rng.choice(FILLERS, 4 + 6 * b), *(["sabotage"] if a else [])])
        for a, b in zip(told, late, strict=True)
    ]
    labels = np.stack([told, late, np.ones(n)], axis=1).astype(np.int8)
    labels[:3, 0] = -1
    return LabelledTexts(
        texts=tuple(texts),
        labels=labels,
        n_tokens=np.array([2 * len(text.split()) for text in texts]),
        places=Places(
            turn=1 + 2 * late + rng.integers(0, 2, n),
            token_in_turn=10 - 8 * late + rng.integers(0, 3, n),
            token_in_transcript=rng.integers(0, 99, n),
        ),
    )


FIT, SELECT, TEST = units(120, 0), units(60, 1), units(80, 2)


def fold_of(test: LabelledTexts = TEST, **changed: object) -> BaselineFold:
    every = np.arange(len(test.texts))
    parts = {"fit": FIT, "select": SELECT, "test": test.without_labels(every), **changed}
    return BaselineFold(**parts)  # type: ignore[arg-type]


def scores_of(baseline: Baseline, fold: BaselineFold, seed: int = 0) -> np.ndarray:
    return score_baselines([baseline], fold, seed=seed)[baseline.name]


@pytest.fixture(params=list(EVERY))
def baseline(request: pytest.FixtureRequest) -> Baseline:
    return EVERY[request.param]


def test_scores_are_finite_one_a_text_and_indicator(baseline: Baseline) -> None:
    scores = scores_of(baseline, fold_of())
    assert scores.shape == (80, 3)
    assert np.isfinite(scores).all()
    assert baseline.about


def test_the_same_fold_and_seed_give_the_same_scores(baseline: Baseline) -> None:
    np.testing.assert_array_equal(
        scores_of(baseline, fold_of(), 3), scores_of(baseline, fold_of(), 3)
    )


def test_a_text_scores_the_same_in_whatever_company(baseline: Baseline) -> None:
    few = np.array([7, 3, 50])
    alone = scores_of(baseline, fold_of(TEST.take(few)))
    np.testing.assert_allclose(alone, scores_of(baseline, fold_of())[few], atol=1e-6)


def test_an_indicator_with_one_class_only_scores_zero_if_it_is_fitted(baseline: Baseline) -> None:
    scores = scores_of(baseline, fold_of())[:, 2]
    is_fitted = not baseline.name.startswith("length") or baseline.name == "length_and_position"
    assert (scores == 0).all() == is_fitted


def test_without_select_units_it_still_scores(baseline: Baseline) -> None:
    scores = scores_of(baseline, fold_of(select=None))
    assert scores.shape == (80, 3) and np.isfinite(scores).all()
    empty = SELECT.take(np.zeros(0, dtype=np.int64))
    np.testing.assert_array_equal(scores_of(baseline, fold_of(select=empty)), scores)


def test_no_test_units_have_no_scores(baseline: Baseline) -> None:
    nobody = TEST.take(np.zeros(0, dtype=np.int64))
    assert scores_of(baseline, fold_of(nobody)).shape == (0, 3)


def test_empty_texts_score_and_count_as_texts_without_words(baseline: Baseline) -> None:
    texts = ("", " \n", *TEST.texts[2:])
    scores = scores_of(baseline, fold_of(replace(TEST, texts=texts)))
    assert np.isfinite(scores).all()
    fit = replace(FIT, texts=("",) * 120)
    assert np.isfinite(scores_of(baseline, fold_of(fit=fit))).all()


def test_labels_that_are_left_out_change_nothing(baseline: Baseline) -> None:
    """The texts without a label for any fitted indicator may as well carry other ones."""
    labels = FIT.labels.copy()
    labels[:20, :2] = -1
    other = labels.copy()
    other[:20, 2] = 0
    found = [
        scores_of(baseline, fold_of(fit=replace(FIT, labels=given)))[:, :2]
        for given in (labels, other)
    ]
    # Another column changes when the shared solver stops, within its tolerance.
    np.testing.assert_allclose(found[0], found[1], atol=5e-3)


@pytest.mark.parametrize("name", WORDED)
def test_scorers_of_words_find_the_telling_word(name: str) -> None:
    scores = scores_of(EVERY[name], fold_of())[:, 0]
    assert roc_auc_score(TEST.labels[3:, 0], scores[3:]) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("name", [*PLACED, "length_and_position"])
def test_scorers_of_length_and_place_find_what_is_long_and_late(name: str) -> None:
    scores = scores_of(EVERY[name], fold_of())[:, 1]
    # The turn overlaps, and a place early in the turn is turned to the side of the positives.
    assert roc_auc_score(TEST.labels[:, 1], scores) > 0.9


def test_a_fold_that_knows_no_place_and_no_tokens_runs_the_others() -> None:
    bare = BaselineFold(
        LabelledTexts(texts=FIT.texts, labels=FIT.labels), None, Passages(texts=TEST.texts)
    )
    cheap = [name for name in EVERY if not name.startswith(("tfidf", "word_", "letters"))]
    assert list(score_baselines(cheap, bare)) == ["length", "length_characters"]
    assert {"length", "tfidf", "tfidf_forest", "tfidf_boosted"} < set(TEXT_SCORERS)
    assert "turn_number" not in TEXT_SCORERS


def test_unequal_rows_and_names_asked_for_twice_are_refused() -> None:
    with pytest.raises(ShapeError, match="n_tokens has 1 rows for 2 texts"):
        Passages(texts=("a", "b"), n_tokens=np.array([1]))
    with pytest.raises(ShapeError, match="places has 80 rows for 1 texts"):
        Passages(texts=("a",), places=TEST.places)
    two = LabelledTexts(texts=SELECT.texts, labels=SELECT.labels[:, :2])
    with pytest.raises(ShapeError, match="labels for 3 indicators and the select units for 2"):
        fold_of(select=two)
    with pytest.raises(ConfigError, match="'length' is asked for twice"):
        score_baselines(["length", "length"], fold_of())


def test_embeddings_are_made_once_for_each_text() -> None:
    asked: list[str] = []

    def embed(texts: list[str]) -> np.ndarray:
        asked.extend(texts)
        return letters(texts)

    baseline = embedding_baseline(embed)
    for _ in range(2):
        scores_of(baseline, fold_of())
    distinct = {*FIT.texts, *SELECT.texts, *TEST.texts}
    assert len(asked) == len(distinct) and set(asked) == distinct
    with pytest.raises(ShapeError, match="must have one row a text"):
        scores_of(embedding_baseline(lambda _: np.zeros((1, 2)), "wrong"), fold_of())
