"""Effects, verdicts, maps and the self test, shaped from small tables worked out by hand."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mechprobe.errors import DataError
from mechprobe.reports.causes import quality_rows, rate_words, self_test, site_maps
from mechprobe.reports.effects import effect_rows, summarise_control
from mechprobe.reports.matrix import effect_matrices
from mechprobe.reports.tables import read_tables
from mechprobe.reports.verdicts import VerdictView, verdict_views


def effect(indicator: str, control: str, value: float, **more: object) -> dict[str, object]:
    row = {
        "indicator": indicator,
        "direction": "diff_of_means" if control == "none" else control.split(":")[0],
        "operation": "N1",
        "outcome": "behavior",
        "stratum": "all",
        "strength": float("nan"),
        "control": control,
        "draw": 0,
        "n": 10,
        "effect": value,
        "low": value - 0.1,
        "high": value + 0.1,
    }
    return row | more


EFFECTS = pd.DataFrame(
    [
        effect("a", "none", 0.8),
        *[effect("a", "random", value) for value in np.linspace(-0.1, 0.1, 21)],
        effect("a", "shuffled", 0.3),
        effect("a", "random", 9.0, operation="S1"),
        effect("a", "random", 9.0, stratum="necessity"),
        effect("a", "random", 9.0, strength=2.0),
        effect("a", "other:b", 0.1),
        effect("b", "none", -0.6),
        effect("b", "other:a", 0.2),
        effect("b", "other:unknown", 5.0),
    ]
)


def test_controls_are_those_of_the_same_operation_runs_and_strength():
    row = effect_rows(EFFECTS, "a")[0]
    random = row.control("random")
    assert random is not None
    assert random.n_draws == 21
    assert random.mean == pytest.approx(0.0)
    assert (random.low, random.high) == pytest.approx((-0.09, 0.09))
    assert row.control("shuffled").mean == pytest.approx(0.3)  # pyright: ignore[reportOptionalMemberAccess]
    assert row.control("other").n_draws == 1  # pyright: ignore[reportOptionalMemberAccess]
    assert row.control("fragility") is None


def test_a_control_is_summarised_by_size_not_by_sign():
    control = summarise_control("random", np.array([-1.0] * 50 + [1.0] * 50))
    assert control.mean == 0.0
    assert control.largest_usual == 1.0


def test_a_control_without_numbers_stays_unknown():
    assert math.isnan(summarise_control("random", np.array([np.nan])).mean)


def test_effect_matrix_has_own_effects_on_its_diagonal():
    (matrix,) = effect_matrices(EFFECTS, ["a", "b"])
    assert matrix.effect.tolist() == [[0.8, 0.1], [0.2, -0.6]]
    assert matrix.specificity == pytest.approx(0.1 - 0.15)


def test_no_matrix_without_other_directions():
    assert effect_matrices(EFFECTS[EFFECTS["control"] == "none"], ["a", "b"]) == []


def views(folder: Path, indicator: str) -> list[VerdictView]:
    causal = read_tables(folder).causal
    assert causal is not None
    return verdict_views(causal.verdicts, effect_rows(causal.effects, indicator), indicator)


def test_verdict_stands_beside_the_control_of_its_own_runs(full_run: Path):
    (view,) = views(full_run, "fabrication")
    assert view.word.slug == "driver"
    assert view.is_right is True
    control = view.necessity.control
    assert control is not None
    assert control.n_draws == 20
    assert control.largest_usual < view.necessity.effect.low


def test_an_inhibitor_is_shown_by_its_mirror_image(full_run: Path):
    (view,) = views(full_run, "error_calibration")
    assert view.word.slug == "inhibitor"
    assert view.necessity.effect.value == pytest.approx(-0.72, abs=0.15)
    assert view.sufficiency.effect.value == pytest.approx(-0.83, abs=0.15)
    assert view.necessity.effect.low < view.necessity.effect.value < view.necessity.effect.high


def test_several_directions_of_an_indicator_are_all_shown_main_first(small_run: Path):
    verdicts = pd.read_parquet(small_run / "verdicts.parquet")
    sae = verdicts.assign(direction="sae_feature", verdict="undetermined")
    main = verdicts[verdicts["indicator"] != "strategic_omission"]
    later = verdicts[verdicts["indicator"] == "strategic_omission"]
    pd.concat([main, sae, later]).to_parquet(small_run / "verdicts.parquet")
    directions = [view.direction for view in views(small_run, "strategic_omission")]
    assert directions == ["diff_of_means", "sae_feature"]


def sites(*rows: tuple[str, int, str, str, float]) -> pd.DataFrame:
    columns = ["hook_name", "layer", "position", "indicator", "effect"]
    return pd.DataFrame(rows, columns=columns)


def test_site_map_is_the_mean_over_indicators_with_layers_in_order():
    table = sites(
        ("blocks.10.hook_out", 10, "decision", "a", 0.2),
        ("blocks.2.hook_out", 2, "decision", "a", 0.4),
        ("blocks.2.hook_out", 2, "decision", "b", 0.8),
        ("blocks.2.hook_out", 2, "span_last", "b", math.nan),
    )
    (found,) = site_maps(table)
    assert list(found.effect.index) == ["blocks.2.hook_out", "blocks.10.hook_out"]
    assert list(found.effect.columns) == ["span_last", "decision"]
    assert found.best_effect == pytest.approx(0.6)
    assert (found.best_hook, found.n_indicators) == ("blocks.2.hook_out", 2)
    assert math.isnan(found.effect.loc["blocks.2.hook_out", "span_last"])


def test_site_map_takes_the_sweeps_own_mean_where_it_has_one():
    table = sites(
        ("blocks.0.hook_out", 0, "decision", "a", 0.2),
        ("blocks.0.hook_out", 0, "decision", "all", 0.9),
    )
    assert site_maps(table)[0].best_effect == pytest.approx(0.9)
    assert site_maps(table)[0].n_indicators == 1
    assert site_maps(table, "a")[0].best_effect == pytest.approx(0.2)
    assert site_maps(table, "nobody") == []


def test_self_test_marks_what_is_right():
    found = self_test(
        {
            "confusion": {
                "readout_only": {"readout_only": 5, "driver": 1},
                "driver": {"driver": 6},
            },
            "right": 11,
            "of": 12,
            "false_driver_random": "2/100",
            "false_driver_shuffled": [0, 20],
        }
    )
    assert found.verdicts == ("driver", "readout_only")
    assert list(found.confusion) == ["Driver", "Read-out only"]
    assert [(cell.n, cell.is_right) for cell in found.confusion["Read-out only"]] == [
        (1, False),
        (5, True),
    ]
    assert (found.false_driver_random, found.false_driver_shuffled) == ("2 of 100", "0 of 20")


def test_an_incomplete_self_test_is_an_error():
    with pytest.raises(DataError, match=r"selftest\.json lacks right, of"):
        self_test({"confusion": {}, "false_driver_random": 0, "false_driver_shuffled": 0})


def test_rates_are_said_in_words():
    assert rate_words({"n": 1, "of": 20}) == "1 of 20"
    assert rate_words(0.05) == "5.0 %"


def test_sae_quality_splits_subsets():
    table = pd.DataFrame(
        {
            "hook_name": ["h", "h"],
            "subset": ["all", "role:assistant"],
            "n_tokens": [10, 5],
            "l0": [8.0, 8.0],
            "explained_variance": [0.9, 0.8],
        }
    )
    rows = quality_rows(table)
    assert [(row.kind, row.subset) for row in rows] == [("All tokens", ""), ("Role", "Assistant")]
    assert math.isnan(rows[0].dead_share)
