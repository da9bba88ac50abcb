"""Train on one domain, test on another: cells by hand, honest folds, and what is called too few."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest

from mechprobe.evaluation.bootstrap import cluster_draws, pair_auroc, resampled_aurocs
from mechprobe.evaluation.folds import Fold
from mechprobe.evaluation.transfers.domains import (
    Domains,
    fold_of_conversation,
)
from mechprobe.evaluation.transfers.generalisation import (
    ALL_OTHERS,
    GENERALISATION_COLUMNS,
    Cell,
    Items,
    Scorer,
    generalisation_table,
    generalise,
)
from mechprobe.evaluation.transfers.transfer import TRANSFER_COLUMNS, transfer_table
from mechprobe.evaluation.units import Units, joined
from tests.evaluation.two_domains import two_domains


def one_item_each(is_positive: np.ndarray) -> Items:
    """An item for each conversation, with one column of labels."""

    def units_of(at: int, scores: np.ndarray, used: np.ndarray) -> Mapping[str, Units]:
        del at
        return {
            "turn": Units(
                scores=scores[used],
                is_positive=is_positive[used],
                clusters=np.flatnonzero(used),
            )
        }

    return Items(
        conversation=np.arange(len(is_positive)), columns=("misaligned",), units_of=units_of
    )


def only_tested(values: np.ndarray, fold: Fold) -> np.ndarray:
    return np.where(fold.test, values, np.nan)[:, None]


def cell_of(
    table: pd.DataFrame, trained_on: str, tested_on: str, scorer: str = "fixed"
) -> pd.Series:
    chosen = (table["trained_on"] == trained_on) & (table["tested_on"] == tested_on)
    (row,) = table[chosen & (table["scorer"] == scorer)].to_dict("records")
    return pd.Series(row)


LEFT, RIGHT = [9.0] * 6 + [0.0] * 6, [1.0, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 3]


HALVES = np.tile([True] * 6 + [False] * 6, 2)


def test_a_domain_that_was_left_out_has_the_auroc_of_its_units() -> None:
    # 6 positives score 1 to 6; of the 6 negatives on the right two stand above all of them, one ties with 3.
    table = matrix_of(np.array([*LEFT, *RIGHT]))
    assert tuple(table.columns) == GENERALISATION_COLUMNS
    assert len(table) == 4 + 2
    row = cell_of(table, ALL_OTHERS, "right")
    # 3 zeros lose to all 6, the tied one to 3 and a half, the two above to none: 21.5 of 36.
    assert row["auroc"] == pytest.approx((18 + 3.5) / 36)
    assert row["low"] <= row["auroc"] <= row["high"]
    assert (row["chance"], row["n_pos"], row["n_neg"], row["n_clusters"]) == (0.5, 6, 6, 12)
    assert row["hook_name"] == "blocks.0.hook_out"
    assert cell_of(table, ALL_OTHERS, "left")["auroc"] == 1.0


def test_a_cell_of_several_fits_compares_what_one_of_them_has_scored() -> None:
    values = np.array([*LEFT, *RIGHT])
    fold = fold_of_conversation(two_domains(12), 3)
    wins = [
        (values[first] > values[second]) + 0.5 * (values[first] == values[second])
        for first in range(12, 18)
        for second in range(18, 24)
        if fold[first] == fold[second]
    ]
    table = matrix_of(values)
    for trained_on in ("left", "right"):
        assert cell_of(table, trained_on, "right")["auroc"] == pytest.approx(np.mean(wins))


def test_the_scale_of_a_fold_makes_no_difference() -> None:
    rng = np.random.default_rng(4)
    values = HALVES + rng.normal(size=24)
    pd.testing.assert_frame_equal(matrix_of(values, scaled=True), matrix_of(values))


def test_a_resample_is_the_auroc_of_the_units_it_took() -> None:
    rng = np.random.default_rng(6)
    parts = [
        Units(
            scores=rng.normal(size=12).round(1),
            is_positive=np.arange(12) % 3 == 0,
            clusters=np.arange(12) // 2 + 6 * number,
        )
        for number in range(2)
    ]
    whole = joined(parts)
    counts = cluster_draws(12, 40, 0)
    found = resampled_aurocs(whole, whole.clusters, counts)
    for draw, value in zip(counts, found, strict=True):
        taken = [
            Units(
                scores=np.repeat(part.scores, times),
                is_positive=np.repeat(part.is_positive, times),
                clusters=np.repeat(part.clusters, times),
            )
            for part in parts
            for times in [draw[part.clusters].astype(int)]
        ]
        assert value == pytest.approx(pair_auroc(joined(taken)), nan_ok=True)


def matrix_of(values: np.ndarray, *, scaled: bool = False) -> pd.DataFrame:
    """The table of a scorer with fixed scores; scaled: each fold's on a scale of its own."""
    number = iter(range(100))

    def score(fold: Fold) -> dict[Scorer, np.ndarray]:
        at = next(number) if scaled else 0
        own = only_tested(10.0**at * values + 50.0 * at, fold)
        return {("fixed", "blocks.0.hook_out"): own}

    cells = generalise(two_domains(12), one_item_each(HALVES), score, n_folds=3)
    return generalisation_table(cells, "model", n_boot=50)


@pytest.mark.parametrize("shared", [False, True])
def test_a_scorer_that_remembers_its_scenarios_is_at_chance_in_every_cell(shared: bool) -> None:
    domains = two_domains(24, shared=shared)
    is_positive = np.tile(np.repeat([True, False], 2), 12)

    def remember(fold: Fold) -> dict[Scorer, np.ndarray]:
        """1 for a scenario that was positive in fitting or choosing, -1 for a negative one, 0 for a new one."""
        seen = fold.fit | fold.select
        bad, good = (
            np.isin(domains.group, domains.group[seen & side])
            for side in (is_positive, ~is_positive)
        )
        return {("memory", ""): only_tested(bad.astype(float) - good, fold)}

    cells = generalise(domains, one_item_each(is_positive), remember, n_folds=4)
    table = generalisation_table(cells, "model", n_boot=20)
    assert (table["auroc"] == 0.5).all()
    assert table["n_pos"].eq(12).all() and table["n_neg"].eq(12).all()


def test_a_scorer_that_leaks_would_not_be_at_chance() -> None:
    # The control of the test above: with folds over conversations instead of scenarios, memory wins.
    domains = two_domains(24)
    is_positive = np.tile(np.repeat([True, False], 2), 12)
    alone = Domains(
        key="model",
        names=domains.names,
        of_conversation=domains.of_conversation,
        group=np.arange(48),
    )

    def remember(fold: Fold) -> dict[Scorer, np.ndarray]:
        seen = fold.fit | fold.select
        bad, good = (
            np.isin(domains.group, domains.group[seen & side])
            for side in (is_positive, ~is_positive)
        )
        return {("memory", ""): only_tested(bad.astype(float) - good, fold)}

    table = generalisation_table(
        generalise(alone, one_item_each(is_positive), remember, n_folds=4), "model", n_boot=20
    )
    assert cell_of(table, "left", "left", "memory")["auroc"] > 0.7


@pytest.mark.parametrize(("n_pos", "is_too_few"), [(4, True), (5, False)])
def test_a_cell_of_fewer_than_five_positives_has_no_number(n_pos: int, is_too_few: bool) -> None:
    is_positive = np.r_[np.arange(20) < 10, np.arange(20) < n_pos]
    values = np.random.default_rng(0).normal(size=40)
    cells = generalise(
        two_domains(20),
        one_item_each(is_positive),
        lambda fold: {("fixed", ""): only_tested(values, fold)},
        n_folds=3,
    )
    row = cell_of(generalisation_table(cells, "model", n_boot=20), "left", "right")
    assert row["too_few"] == is_too_few
    assert np.isnan([row["auroc"], row["low"], row["high"]]).all() == is_too_few
    assert row["n_pos"] == n_pos
    summary = transfer_table(cells, "model", (), n_boot=20).set_index("cells")
    assert summary.loc["across", "n_cells"] == (1 if is_too_few else 2)


def test_equal_scorers_differ_by_nothing_and_means_are_those_of_the_cells() -> None:
    rng = np.random.default_rng(5)
    is_positive = rng.random(60) < 0.5
    strong, weak = is_positive + rng.normal(size=60), 0.3 * is_positive + rng.normal(size=60)

    def score(fold: Fold) -> dict[Scorer, np.ndarray]:
        return {
            ("probe", "blocks.0.hook_out"): only_tested(strong, fold),
            ("copy", ""): only_tested(strong, fold),
            ("words", ""): only_tested(weak, fold),
        }

    cells = generalise(two_domains(30), one_item_each(is_positive), score, n_folds=3)
    table = generalisation_table(cells, "model", n_boot=200)
    summary = transfer_table(cells, "model", ("words", "copy"), n_boot=200)
    assert tuple(summary.columns) == TRANSFER_COLUMNS
    probe = summary[(summary["scorer"] == "probe") & (summary["cells"] == "across")].set_index(
        "baseline"
    )
    across = [cell_of(table, "left", "right", "probe"), cell_of(table, "right", "left", "probe")]
    assert probe["auroc"].to_numpy() == pytest.approx(np.mean([row["auroc"] for row in across]))
    same = probe.loc["copy", ["difference", "difference_low", "difference_high"]]
    assert same.tolist() == [0.0, 0.0, 0.0]
    words = [cell_of(table, "left", "right", "words"), cell_of(table, "right", "left", "words")]
    gain = np.mean([a["auroc"] - b["auroc"] for a, b in zip(across, words, strict=True)])
    assert probe.loc["words", "difference"] == pytest.approx(gain)
    assert probe.loc["words", "difference_low"] < gain < probe.loc["words", "difference_high"]
    # Two independent domains: the mean is known better than either of its cells.
    widths = [row["high"] - row["low"] for row in across]
    assert probe["high"].iloc[0] - probe["low"].iloc[0] < min(widths)


def test_cells_of_one_domain_share_their_draws_and_other_domains_do_not() -> None:
    units = Units(
        scores=np.array([3.0, 1, 2, 0, 5, 4] * 3),
        is_positive=np.array([True, False] * 9),
        clusters=np.arange(18),
    )

    def cells(first: str, second: str) -> list[Cell]:
        return [
            Cell(
                trained_on=trained,
                tested_on=tested,
                scorer=("probe", ""),
                indicator="x",
                unit="turn",
                units=units,
            )
            for trained, tested in (("c", first), ("d", second))
        ]

    widths = {
        name: transfer_table(cells(*name), "model", (), n_boot=400).iloc[0]
        for name in (("a", "a"), ("a", "b"))
    }
    same, other = (float(row["high"] - row["low"]) for row in widths.values())
    assert other < 0.85 * same
