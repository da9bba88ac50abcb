import numpy as np
import pytest

from mechprobe.errors import ShapeError
from mechprobe.evaluation.metrics import auroc
from mechprobe.evaluation.spans.span_units import Spans, span_units


def spans_of(first: list[int], last: list[int], is_positive: list[bool]) -> Spans:
    return Spans(
        first_row=np.array(first, dtype=np.int64),
        last_row=np.array(last, dtype=np.int64),
        is_positive=np.array(is_positive, dtype=bool),
        transcript=np.arange(len(first)),
    )


def test_a_span_is_one_unit_with_the_mean_or_the_highest_of_its_tokens() -> None:
    scores = np.array([1.0, 2.0, 6.0, -1.0, 5.0])
    spans = spans_of([0, 4, 2], [2, 4, 3], [True, False, False])
    mean, highest = (span_units(scores, spans, how) for how in ("mean", "max"))
    assert mean.scores.tolist() == [3.0, 5.0, 2.5]
    assert highest.scores.tolist() == [6.0, 5.0, 6.0]
    assert mean.is_positive.tolist() == [True, False, False]
    assert mean.chance == 0.5
    # Three tokens against one, and against two: 3/4 and 3/5.
    assert highest.chance == pytest.approx((3 / 4 + 3 / 5) / 2)


def test_long_spans_rank_high_by_chance_alone_if_their_highest_token_counts() -> None:
    rng = np.random.default_rng(0)
    lengths = np.r_[rng.integers(5, 30, size=60), rng.integers(1, 10, size=80)]
    ends = np.cumsum(lengths)
    spans = Spans(
        first_row=ends - lengths,
        last_row=ends - 1,
        is_positive=np.arange(140) < 60,
        transcript=np.arange(140),
    )
    drawn: dict[str, list[float]] = {"max": [], "mean": []}
    for _ in range(300):
        tokens = rng.normal(size=ends[-1])
        for how, found in drawn.items():
            units = span_units(tokens, spans, how)  # type: ignore[arg-type]
            found.append(auroc(units.scores, units.is_positive))
    chance = span_units(rng.normal(size=ends[-1]), spans, "max").chance
    assert chance > 0.7
    assert np.mean(drawn["max"]) == pytest.approx(chance, abs=0.01)
    assert np.mean(drawn["mean"]) == pytest.approx(0.5, abs=0.01)


def test_overlapping_and_unordered_spans_are_scored_each_by_itself() -> None:
    rng = np.random.default_rng(1)
    first = rng.integers(0, 90, size=50)
    last = first + rng.integers(0, 10, size=50)
    spans = spans_of(first.tolist(), last.tolist(), (np.arange(50) < 20).tolist())
    tokens = rng.normal(size=100)
    expected = [tokens[a : b + 1].mean() for a, b in zip(first, last, strict=True)]
    np.testing.assert_allclose(span_units(tokens, spans).scores, expected, atol=1e-12)


def test_no_spans_are_no_units_and_broken_ones_are_refused() -> None:
    nothing = span_units(np.arange(3.0), spans_of([], [], []), "max")
    assert len(nothing.scores) == 0 and np.isnan(nothing.chance)
    with pytest.raises(ShapeError, match="1 spans end before they start"):
        spans_of([2], [1], [True])
    with pytest.raises(ShapeError, match="ends at token 3 of 3"):
        span_units(np.arange(3.0), spans_of([1], [3], [True]))
