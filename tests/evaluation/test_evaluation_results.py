import numpy as np
import pytest

from mechprobe.evaluation.differences import difference_of, holm
from mechprobe.evaluation.results import COMPARISON_COLUMNS, Collector
from mechprobe.evaluation.units import Units
from tests.evaluation.planted_turns import clustered_units, with_scores


def words_for(units: Units, rng: np.random.Generator) -> Units:
    return with_scores(units, units.scores + 3 * rng.normal(size=len(units.scores)))


def test_differences_come_with_p_values_that_are_adjusted_over_indicators() -> None:
    rng = np.random.default_rng(0)
    collector = Collector(n_boot=50, seed=2)
    of_indicator: dict[str, tuple[Units, Units]] = {}
    for indicator, gap in (
        ("fabrication", 2.0),
        ("strategic_omission", 0.3),
        ("error_calibration", 1.0),
    ):
        units = clustered_units(rng, 40, gap=gap)
        of_indicator[indicator] = units, words_for(units, rng)
        for scorer, one in zip(("dense_logistic", "length"), of_indicator[indicator], strict=True):
            collector.add(one, indicator=indicator, scorer=scorer, unit="turn")
    few = Units(scores=np.arange(9.0), is_positive=np.arange(9) > 4, clusters=np.arange(9))
    for scorer in ("dense_logistic", "length"):
        collector.add(few, indicator="adversarial_user_framing", scorer=scorer, unit="turn")
    table = collector.compare([("dense_logistic", "length")]).set_index("indicator")
    assert set(table.index) == set(of_indicator)
    for indicator, pair in of_indicator.items():
        expected = difference_of(*pair, n_boot=50, n_permutations=2000, seed=2)
        row = table.loc[indicator]
        assert (row["difference"], row["p_value"]) == (expected.value, expected.p_value)
    assert table["p_holm"].tolist() == pytest.approx(holm(table["p_value"].tolist()))
    assert (table["p_holm"] >= table["p_value"]).all()


def test_without_pairs_the_table_keeps_its_columns() -> None:
    collector = Collector(n_boot=10)
    units = clustered_units(np.random.default_rng(1), 20)
    collector.add(units, indicator="fabrication", scorer="length", unit="turn")
    assert tuple(collector.compare([("dense_logistic", "length")]).columns) == COMPARISON_COLUMNS
