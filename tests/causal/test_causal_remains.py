import pytest
import torch
from torch import Tensor

from mechprobe.causal.checks.remains import (
    MAX_DIRECTIONS,
    Remains,
    readable_after_removal,
    remains_rows,
)
from mechprobe.causal.directions import SpanActs
from mechprobe.causal.places.sites import Site
from mechprobe.errors import DataError, ShapeError

N, WIDTH = 400, 8


def noise(seed: int = 0) -> Tensor:
    return torch.randn(N, WIDTH, generator=torch.Generator().manual_seed(seed))


def labels() -> Tensor:
    return torch.arange(N) % 2 == 0


def spans_of(acts: Tensor, is_present: Tensor | None = None) -> SpanActs:
    return SpanActs(
        site=Site(hook_name="blocks.0.hook_out", position="span_last"),
        acts=acts,
        indicator=("hide",) * len(acts),
        is_present=labels()[: len(acts)] if is_present is None else is_present,
    )


def along(axes: list[int], is_present: Tensor | None = None, size: float = 4.0) -> SpanActs:
    """The concept is written along some axes, each with its own noise."""
    sign = torch.where(labels() if is_present is None else is_present, 1.0, -1.0)
    acts = noise()
    acts[:, axes] += size / 2 * sign[:, None]
    return spans_of(acts, is_present)


def read(spans: SpanActs, axis: int = 0, **options: object) -> Remains:
    return readable_after_removal(spans, "hide", torch.eye(WIDTH)[axis], n_boot=200, **options)  # type: ignore[arg-type]


def test_a_concept_in_one_dimension_is_gone_with_it() -> None:
    found = read(along([0]))
    assert found.before.linear.value > 0.95
    assert found.after[0].linear.low < 0.5 < found.after[0].linear.high
    assert found.after[0].quadratic.low < 0.5
    assert found.dims_to_chance == 1
    assert not found.lives_in_more and not found.is_hidden_from_linear


def test_a_direction_that_knows_the_held_out_half_reads_below_chance_and_one_that_does_not_at_chance() -> (
    None
):
    found: dict[str, list[float]] = {"all": [], "half": []}
    for seed in range(4):
        acts = noise(seed)
        acts[:, 0] += 2 * torch.where(labels(), 1.0, -1.0)
        everything = acts[labels()].mean(0) - acts[~labels()].mean(0)
        for name, direction in (("all", everything), ("half", None)):
            one = readable_after_removal(
                spans_of(acts), "hide", direction, erasers={}, n_boot=10, seed=seed
            )
            found[name].append(one.after[0].linear.value)
    assert sum(found["all"]) / 4 < 0.46
    assert 0.46 < sum(found["half"]) / 4 < 0.54


def test_a_concept_in_two_dimensions_outlives_one_of_them() -> None:
    found = read(along([0, 1]))
    assert found.after[0].linear.low > 0.9
    assert found.lives_in_more
    assert found.dims_to_chance in (2, 3), "the fresh probe finds the second, up to its noise"


def test_a_concept_in_more_dimensions_than_are_tried_says_so() -> None:
    # The removal of something else never helps: each fresh probe finds a mixture of all axes at once.
    found = read(along([0, 1], size=60.0), axis=5)
    assert found.after[0].linear.value == pytest.approx(1)
    assert len(found.after) == MAX_DIRECTIONS
    assert found.lives_in_more


def test_a_concept_written_otherwise_in_each_context_is_seen_by_the_quadratic_reader_only() -> None:
    context = torch.where(torch.arange(N) % 4 < 2, 1.0, -1.0)
    sign = torch.where(labels(), 1.0, -1.0)
    acts = noise()
    acts[:, 0] += 4 * sign
    acts[:, 1] += 4 * context * sign
    acts[:, 2] += 4 * context
    found = read(spans_of(acts))
    assert found.after[0].linear.low < 0.5
    assert found.after[0].quadratic.low > 0.9
    assert found.is_hidden_from_linear and not found.lives_in_more


def test_an_eraser_is_fitted_on_one_half_and_read_on_the_other() -> None:
    seen: list[int] = []

    def fit(acts: Tensor, is_present: Tensor) -> object:
        seen.append(len(acts))
        assert len(is_present) == len(acts)
        return torch.zeros_like

    found = read(along([0, 1]), erasers={"everything": fit})
    assert seen == [N // 2]
    assert found.erased[0].removal == "everything"
    assert found.erased[0].linear.value == pytest.approx(0.5)


def test_leace_leaves_nothing_to_a_linear_reader_whatever_the_dimensions() -> None:
    found = read(along([0, 1]))
    [erased] = found.erased
    assert erased.removal == "leace"
    # Where nothing is left all scores are equal, and the interval shrinks to a half.
    assert erased.linear.low <= 0.5 and erased.linear.value < 0.6
    assert found.after[0].linear.low > 0.9


def test_spans_of_one_transcript_stand_on_one_side() -> None:
    # Only the transcript tells the label: with whole transcripts held out there is nothing to learn.
    transcript = torch.arange(N) // 10
    generator = torch.Generator().manual_seed(3)
    drawn = torch.randn(N // 10, WIDTH, generator=generator)
    acts = 5 * drawn[transcript] + 0.01 * noise()
    spans = spans_of(acts, transcript % 2 == 0)
    groups = [str(int(t)) for t in transcript]
    apart, together = read(spans, groups=groups), read(spans)
    assert apart.before.quadratic.value < 0.8
    assert together.before.quadratic.value > 0.95


def test_rows_hold_every_removal_with_both_readers_beside_chance() -> None:
    found = read(along([0]))
    rows = remains_rows(found)
    assert [row["removal"] for row in rows[::2]] == [
        "none",
        "1 direction",
        "2 directions",
        "3 directions",
        "4 directions",
        "leace",
    ]
    assert {row["reader"] for row in rows} == {"linear", "quadratic"}
    assert found.n_pos + found.n_neg == N // 2
    assert 0.4 < found.chance_low < 0.45 and 0.55 < found.chance_high < 0.6


def test_bad_input_is_one_clear_error() -> None:
    spans = along([0])
    with pytest.raises(DataError, match=r"held-out|fitted"):
        read(spans_of(spans.acts[:20], torch.arange(20) < 3))
    with pytest.raises(DataError, match="come from 1 transcripts"):
        read(spans, groups=["a"] * N)
    with pytest.raises(ShapeError, match="3 groups were given for 400 spans"):
        read(spans, groups=["a", "b", "c"])
    with pytest.raises(ShapeError, match="has 3 numbers"):
        readable_after_removal(spans, "hide", torch.ones(3))
    with pytest.raises(ShapeError, match="length must be above 0"):
        readable_after_removal(spans, "hide", torch.zeros(WIDTH))
