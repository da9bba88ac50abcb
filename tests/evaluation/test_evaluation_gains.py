"""What a scorer gains over a text baseline: the same units, in its place and beside it, corrected for number."""

import numpy as np
import pandas as pd
import pytest

from mechprobe.evaluation.gains import GAIN_COLUMNS, gain_table
from mechprobe.evaluation.metrics import auroc

HOOK = "blocks.0.hook_out"


def study_scores(n: int = 120) -> pd.DataFrame:
    """Turns of three a transcript: words see half of what is there, the probe the other half, the copy what words see."""
    rng = np.random.default_rng(0)
    is_positive = rng.random(n) < 0.4
    seen, unseen = (is_positive + 0.8 * rng.normal(size=n) for _ in range(2))
    transcript = np.repeat(np.arange(n // 3), 3)
    tables = []
    for scorer, hook_name, values in (
        ("probe", HOOK, unseen),
        ("copy", HOOK, 5 * seen + 2),
        ("noise", HOOK, rng.normal(size=n)),
        ("words", "", seen),
    ):
        base = {"indicator": "misaligned", "scorer": scorer, "hook_name": hook_name}
        turns = pd.DataFrame(
            {
                "transcript_id": [f"t{at}" for at in transcript],
                "turn": np.tile([1, 2, 3], n // 3),
                "is_positive": is_positive,
                "score": values,
                "unit": "turn",
            }
        )
        grouped = turns.groupby("transcript_id", sort=False)
        whole = grouped.agg(is_positive=("is_positive", "any"), score=("score", "max"))
        whole = whole.reset_index().assign(turn=-1, unit="transcript")
        tables += [turns.assign(span_id=-1, **base), whole.assign(span_id=-1, **base)]
    return pd.concat(tables, ignore_index=True)


@pytest.fixture(scope="module")
def gains() -> pd.DataFrame:
    return gain_table(
        study_scores(), ("words", "missing"), ("misaligned",), n_boot=200, n_permutations=500
    )


def row_of(gains: pd.DataFrame, scorer: str, comparison: str, unit: str = "turn") -> pd.Series:
    chosen = (gains["scorer"] == scorer) & (gains["comparison"] == comparison)
    (row,) = gains[chosen & (gains["unit"] == unit)].to_dict("records")
    return pd.Series(row)


def test_every_scorer_is_set_against_the_baseline_at_every_unit(gains: pd.DataFrame) -> None:
    assert tuple(gains.columns) == GAIN_COLUMNS
    assert set(gains["unit"]) == {"turn", "transcript", "mixed"}
    assert set(gains["scorer"]) == {"probe", "copy", "noise"}
    assert set(gains["baseline"]) == {"words"}
    assert len(gains) == 3 * 3 * 2


def test_a_monotone_copy_gains_nothing_in_place_of_words_or_beside_them(
    gains: pd.DataFrame,
) -> None:
    for comparison in ("alone", "added"):
        row = row_of(gains, "copy", comparison)
        assert row[["difference", "low", "high"]].tolist() == [0.0, 0.0, 0.0]
        assert row["p_value"] == 1.0


def test_what_sees_the_other_half_adds_to_words_though_it_is_no_better_alone(
    gains: pd.DataFrame,
) -> None:
    alone, added = row_of(gains, "probe", "alone"), row_of(gains, "probe", "added")
    assert alone["low"] < 0 < alone["high"]
    assert added["low"] > 0 and added["q_holm"] < 0.05
    noise = row_of(gains, "noise", "added")
    assert noise["difference"] < 0


def test_the_mixture_is_positive_transcripts_against_negative_turns(gains: pd.DataFrame) -> None:
    scores = study_scores()
    mine = scores[scores["scorer"] == "probe"]
    highest = mine[(mine["unit"] == "transcript") & mine["is_positive"]]
    turns = mine[(mine["unit"] == "turn") & ~mine["is_positive"]]
    expected = auroc(
        np.r_[highest["score"], turns["score"]],
        np.arange(len(highest) + len(turns)) < len(highest),
    )
    row = row_of(gains, "probe", "alone", "mixed")
    assert row["auroc"] == pytest.approx(expected)
    assert (row["n_pos"], row["n_neg"]) == (len(highest), len(turns))


def test_p_values_of_one_comparison_are_corrected_together(gains: pd.DataFrame) -> None:
    mine = gains[(gains["unit"] == "turn") & (gains["comparison"] == "added")]
    smallest = mine.sort_values("p_value").iloc[0]
    assert smallest["q_holm"] == pytest.approx(min(1.0, 3 * smallest["p_value"]))


def test_only_units_that_both_scored_count_and_too_few_give_no_row() -> None:
    scores = study_scores()
    is_probe = scores["scorer"] == "probe"
    lost = is_probe & (scores["unit"] == "turn") & (scores["transcript_id"] < "t2")
    fewer = gain_table(scores[~lost], ("words",), ("misaligned",), n_boot=20, n_permutations=20)
    row = row_of(fewer, "probe", "alone")
    assert row["n_pos"] + row["n_neg"] == 120 - int(lost.sum())
    positives = np.flatnonzero(is_probe & scores["is_positive"] & (scores["unit"] == "turn"))
    few = scores.drop(index=scores.index[positives[4:]])
    found = gain_table(few, ("words",), ("misaligned",), n_boot=20, n_permutations=20)
    assert set(found[found["unit"] == "turn"]["scorer"]) == {"copy", "noise"}
