import math

import pandas as pd
import pytest

from mechprobe.reports.rates import equal_damage_rows, rate_rows, remains_rows

NAN = float("nan")


def rate(control: str, amount: float, value: float, **more: object) -> dict[str, object]:
    return {
        "indicator": "fabrication",
        "control": control,
        "where": "writing",
        "side": "",
        "operation": "steer",
        "strength": amount,
        "amount": amount,
        "rate": value,
        "low": value - 0.1,
        "high": value + 0.1,
        "rate_unedited": 0.4,
        "plan_difference": 0.3,
        "plan_difference_low": 0.1,
        "plan_difference_high": 0.5,
        "unreadable": 0.0,
        "n": 48,
        **more,
    }


def test_an_edit_stands_beside_the_mean_of_the_random_ones_of_its_kind_and_sign():
    table = pd.DataFrame(
        [
            rate("none", 2.0, 0.9),
            rate("random", 1.0, 0.5),
            rate("random", 3.0, 0.3),
            rate("random", -1.0, 0.0),
            rate("random", 1.0, 0.0, where="span_last"),
            rate("none", 2.0, 0.1, indicator="another"),
        ]
    )
    (row,) = rate_rows(table, "fabrication")
    assert (row.unedited, row.edited.value, row.random) == (0.4, 0.9, pytest.approx(0.4))
    assert (row.plan.low, row.plan.high) == (0.1, 0.5)
    alone = rate_rows(table, "another")
    assert len(alone) == 1 and math.isnan(alone[0].random)
    assert rate_rows(None, "fabrication") == [] and rate_rows(table, "nobody") == []


def test_equal_damage_shows_the_largest_random_effect():
    rows = [
        {"control": "none", "direction": "diff_of_means", "effect": 0.6, "p_random": 0.05},
        {"control": "random", "direction": "random", "effect": 0.1, "p_random": NAN},
        {"control": "random", "direction": "random", "effect": 0.2, "p_random": NAN},
    ]
    common = {"indicator": "i", "target_kl": 0.1, "low": 0.5, "high": 0.7, "is_reached": False}
    (row,) = equal_damage_rows(pd.DataFrame([common | one for one in rows]), "i")
    assert (row.largest_random, row.n_random, row.p_random, row.is_reached) == (0.2, 2, 0.05, False)
    assert equal_damage_rows(None, "i") == []


def test_what_remains_stands_beside_what_shuffled_labels_reach():
    row = {"indicator": "i", "removal": "leace", "reader": "linear", "auroc": 0.52}
    bounds = {"low": 0.4, "high": 0.6, "chance_low": 0.39, "chance_high": 0.61}
    (found,) = remains_rows(pd.DataFrame([row | bounds]), "i")
    assert (found.removal, found.auroc.value, found.chance.high) == ("leace", 0.52, 0.61)
    assert remains_rows(pd.DataFrame([row | bounds]), "nobody") == []
