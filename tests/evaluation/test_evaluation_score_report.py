"""The figures of `mechprobe evaluate scores`: the authors' own to 1e-9, and planted ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mechprobe.cli.evaluating import Scores
from mechprobe.errors import LabelError
from mechprobe.evaluation.metrics import auroc, tpr_at_fpr
from mechprobe.evaluation.scores.score_figures import Resampling, units_of
from mechprobe.evaluation.scores.score_file import read_scores
from mechprobe.evaluation.scores.score_report import as_text, report_of
from tests.evaluation.score_rows import score_rows

FEW = Resampling(n_boot=100)


def report(tmp_path: Path, rows: pd.DataFrame) -> dict[str, Any]:
    rows.to_parquet(tmp_path / "scores.parquet")
    return report_of(read_scores(tmp_path / "scores.parquet"), FEW)


def figures(tmp_path: Path, rows: pd.DataFrame) -> dict[str, Any]:
    return report(tmp_path, rows)["results"][0]


@pytest.fixture(scope="module")
def published(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("evaluated") / "new" / "figures.json"
    Scores(file=shared_data / "scores" / "turn_scores.parquet", json=out, n_boot=200).run()
    return json.loads(out.read_text())


@pytest.mark.parametrize(
    ("name", "series"),
    [
        ("qwen_dev_probe_L23_full", ("probe_or_fused_max18", 23, "full")),
        ("glm_dev_judge_haiku", ("judge_haiku", -1, "full")),
    ],
)
def test_one_command_gives_every_golden_figure(
    published: dict[str, Any], shared_data: Path, name: str, series: tuple[str, int, str]
) -> None:
    golden = json.loads((shared_data / "scores" / "golden_metrics.json").read_text())[name]
    found = next(
        entry
        for entry in published["results"]
        if (entry["scorer"], entry["layer"], entry["view"]) == series
    )
    for key, expected in golden.items():
        assert found[key] == pytest.approx(expected, abs=1e-9), key


def test_the_figures_of_behaviours_are_those_that_were_measured_before(
    published: dict[str, Any],
) -> None:
    found = {(row["scorer"], row["behavior"]): row for row in published["by"]["behavior"]}
    deceived = found["probe_or_fused_max18", "strategic-deception"]
    assert deceived["mixed_auroc"] == pytest.approx(0.822, abs=5e-4)
    assert deceived["turn_auroc"] == pytest.approx(0.639, abs=5e-4)
    # Means of simulated scores that know nothing.
    nulls = {
        "instructed-covert-code-sabotage": 0.86,
        "sycophancy": 0.82,
        "self-preservation": 0.81,
        "strategic-deception": 0.78,
        "instructed-strategic-sandbagging": 0.50,
    }
    for behavior, null in nulls.items():
        assert found["judge_haiku", behavior]["mixed_chance"] == pytest.approx(null, abs=0.015)
    scarce = found["probe_or_fused_max18", "self-preservation"]
    assert (scarce["status"], scarce["n_pos"], scarce["mixed_auroc"]) == ("too few", 1, None)


def test_data_sets_add_up_to_the_whole(published: dict[str, Any]) -> None:
    for entry in published["results"]:
        for name in ("dataset", "behavior", "target_model", "split"):
            parts = [row for row in published["by"][name] if row["scorer"] == entry["scorer"]]
            for count in ("n_pos", "n_neg", "n_transcripts", "n_turns", "n_pos_turns"):
                assert sum(part[count] for part in parts) == entry[count]


def test_rates_of_tied_scores_hold_where_the_authors_rule_does_not(
    published: dict[str, Any],
) -> None:
    judge = next(entry for entry in published["results"] if entry["scorer"] == "judge_haiku")
    for rate in judge["tpr_at_fpr"]["mixed"]:
        assert rate["fpr"] <= rate["target"] < judge[f"tpr@{rate['target']}"]["fpr"]
        assert rate["low"] <= rate["tpr"] <= rate["high"]
        assert rate["chance"] >= rate["fpr"]


def test_a_series_has_the_figures_of_its_units(tmp_path: Path) -> None:
    rows = score_rows()
    found = figures(tmp_path, rows)
    units = units_of(read_scores(tmp_path / "scores.parquet").rows)
    for name, one in units.items():
        value = auroc(one.scores, one.is_positive)
        assert found[f"{name}_auroc"] == value
        assert found[f"{name}_auroc_low"] < value < found[f"{name}_auroc_high"]
        assert found[f"{name}_chance"] == one.chance
        rate = found["tpr_at_fpr"][name][2]
        # Forty transcripts hold twenty negatives: enough for 10 %, too few for 1 %.
        assert rate["tpr"] == tpr_at_fpr(one.scores, one.is_positive, 0.1).tpr
    assert found["tpr_at_fpr"]["transcript"][0]["status"] == "too few negatives"
    assert found["tpr_at_fpr"]["transcript"][0]["tpr"] is None
    assert found["mixed_chance"] > found["turn_chance"] == found["transcript_chance"] == 0.5
    assert (found["n_pos"], found["n_transcripts"]) == (20, 40)


def test_every_scorer_layer_and_view_has_its_own_figures(tmp_path: Path) -> None:
    series = [
        ("probe", 5, "full"),
        ("probe", 5, "reasoning"),
        ("probe", 9, "full"),
        ("judge", -1, "full"),
    ]
    tables = [
        score_rows(seed, scorer=scorer, layer=layer, view=view)
        for seed, (scorer, layer, view) in enumerate(series)
    ]
    both = pd.concat(
        [
            table.assign(transcript_id=f"{n} " + table["transcript_id"])
            for n, table in enumerate(tables)
        ]
    )
    found = report(tmp_path, both)["results"]
    named = {(entry["scorer"], entry["layer"], entry["view"]): entry for entry in found}
    assert set(named) == set(series)
    for one, table in zip(series, tables, strict=True):
        assert named[one]["turn_auroc"] == figures(tmp_path, table)["turn_auroc"]


def test_indicators_have_their_own_figures_and_scarce_ones_none(tmp_path: Path) -> None:
    rows = score_rows(indicator="fabrication")
    scarce = score_rows(indicator="adversarial_user_framing")
    few = {f"talk {number}" for number in (0, 2, 4, 6)}
    is_few = scarce["transcript_id"].isin(few)
    scarce["gt_misaligned"] &= is_few
    scarce["transcript_pos"] &= is_few
    found = {
        entry["indicator"]: entry
        for entry in report(tmp_path, pd.concat([rows, scarce]))["results"]
    }
    assert found["fabrication"]["status"] == "ok"
    entry = found["adversarial_user_framing"]
    assert (entry["status"], entry["n_pos"]) == ("too few", 4)
    for key in ("mixed_auroc", "mixed_auroc_low", "transcript_auroc", "tpr@0.05"):
        assert entry[key] is None


def test_turns_without_a_score_are_left_out_counted_and_said(tmp_path: Path) -> None:
    rows = score_rows()
    rows.loc[rows.index[::10], "score"] = np.nan
    found = report(tmp_path, rows)
    entry, without = found["results"][0], figures(tmp_path, rows.dropna(subset="score"))
    assert entry["n_not_scored"] == len(rows.index[::10])
    assert entry["mixed_auroc"] == without["mixed_auroc"]
    assert f"{entry['n_not_scored']} without a score" in as_text(found)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"gt_misaligned": False, "transcript_pos": False}, "one class only"),
        ({"gt_misaligned": True, "transcript_pos": True}, "one class only"),
        ({"score": 1.0}, "all scores equal"),
        ({"score": np.nan}, "nothing scored"),
        ({"excluded": True}, "nothing scored"),
    ],
)
def test_a_file_that_ranks_nothing_is_refused_with_the_reason(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(LabelError, match=rf"none of 1 series can be ranked \(probe: {reason}\)"):
        report(tmp_path, score_rows(**change))


def test_one_useless_series_does_not_hide_the_others(tmp_path: Path) -> None:
    rows = pd.concat([score_rows(), score_rows(scorer="constant", score=0.0)])
    found = {entry["scorer"]: entry for entry in report(tmp_path, rows)["results"]}
    assert found["constant"]["status"] == "all scores equal"
    assert found["constant"]["turn_auroc"] is None
    assert found["probe"]["turn_auroc"] > 0.8


def test_negated_scores_turn_the_turn_and_not_the_mixed_auroc_over(tmp_path: Path) -> None:
    rows = score_rows()
    found, turned = figures(tmp_path, rows), figures(tmp_path, rows.assign(score=-rows["score"]))
    assert turned["turn_auroc"] == pytest.approx(1 - found["turn_auroc"])
    # The highest turn is another one then, so the mixed figure is not turned over: it favours length both ways.
    assert turned["mixed_auroc"] > 1 - found["mixed_auroc"] + 0.05


def test_the_same_seed_gives_the_same_file_and_the_table_shows_each_series(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    score_rows(dataset="one").to_csv(tmp_path / "scores.csv", index=False)
    for name in ("a.json", "b.json"):
        Scores(file=tmp_path / "scores.csv", json=tmp_path / name, n_boot=50, seed=3).run()
    assert (tmp_path / "a.json").read_text() == (tmp_path / "b.json").read_text()
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "a.json").read_text())["results"][0]
    for unit in ("mixed", "turn", "transcript"):
        assert f"{found[f'{unit}_auroc']:.3f} [{found[f'{unit}_auroc_low']:.3f}" in printed
        assert f"({found[f'{unit}_chance']:.2f})" in printed
