"""Parts of the model on a world whose parts are known: block 0 does nothing, attention 1 gathers, MLP 1 decides."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mechprobe.causal.cases import render_pairs
from mechprobe.causal.places.parts import PART_COLUMNS, part_hooks, part_map
from mechprobe.causal.places.patch_shares import cluster_tests
from mechprobe.causal.places.site_map import site_sweep
from mechprobe.models.subject import Subject
from tests.models.tiny import save_tiny


@pytest.fixture(scope="module")
def rendered(planted):
    pairs = [pair for pair in planted.pairs if pair.split == "select"]
    return render_pairs(planted.subject, pairs)


@pytest.fixture(scope="module")
def parts(planted, rendered) -> pd.DataFrame:
    return part_map(planted.subject, rendered, positions=("span_last", "decision"), n_boot=100)


def cell(table: pd.DataFrame, indicator: str, part: str, layer: int, position: str) -> pd.Series:
    keys = {"indicator": indicator, "part": part, "layer": layer, "position": position}
    (row,) = [row for _, row in table.iterrows() if all(row[k] == v for k, v in keys.items())]
    return row


def test_the_stream_carries_the_thought_and_the_gathering_layer_brings_it(parts):
    assert tuple(parts.columns) == PART_COLUMNS
    assert cell(parts, "lie", "residual", 0, "span_last").effect == pytest.approx(1, abs=1e-3)
    assert cell(parts, "lie", "attention", 1, "decision").effect == pytest.approx(1, abs=0.05)
    assert cell(parts, "lie", "mlp", 1, "decision").effect > 0.9
    for part in ("attention", "mlp"):
        for position in ("span_last", "decision"):
            assert cell(parts, "lie", part, 0, position).effect == 0
    assert cell(parts, "lie", "attention", 1, "span_last").effect == 0


def test_only_runs_that_the_text_changes_count(parts):
    boast = parts[parts["indicator"] == "boast"]
    assert set(boast["n"]) == {0}
    assert boast[["effect", "low", "high", "p_value", "q_bh"]].isna().all(axis=None)


def test_the_stream_is_what_the_site_sweep_finds(planted, rendered, parts):
    names = part_hooks(planted.subject)["residual"]
    sweep = site_sweep(
        planted.subject, rendered, names, positions=("span_last", "decision"), n_boot=100
    )
    keys = ["hook_name", "position", "outcome", "indicator"]
    both = parts[parts["part"] == "residual"].merge(sweep, on=keys, suffixes=("", "_sweep"))
    assert len(both) == len(sweep)
    own = both[both["indicator"] != "all"]
    for name in ("n", "effect", "low", "high"):
        np.testing.assert_allclose(own[name], own[f"{name}_sweep"], atol=1e-6)
    np.testing.assert_allclose(both["effect"], both["effect_sweep"], atol=1e-6)


def test_each_hook_point_stands_once_in_its_part_and_layer(parts):
    assert set(parts["layer"]) == {0, 1}
    assert not parts.duplicated(["part", "layer", "position", "outcome", "indicator"]).any()
    tested = parts[parts["p_value"].notna()]
    assert (tested["q_bh"] >= tested["p_value"] - 1e-12).all()


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gemma3", "gpt2"])
def test_parts_have_the_same_names_in_every_architecture(kind: str, tmp_path: Path):
    subject = Subject.load(save_tiny(kind, tmp_path / kind))
    found = part_hooks(subject)
    assert {part: len(names) for part, names in found.items()} == {
        "residual": 2,
        "attention": 2,
        "mlp": 2,
    }
    # Where a norm follows the layer, what is added to the stream is the norm's output.
    added = "ln1_post.hook_out" if kind == "gemma3" else "attn.hook_out"
    assert found["attention"][0] == f"blocks.0.{added}"
    assert all(subject.width(name) == 32 for names in found.values() for name in names)


def test_pairs_whose_text_changes_nothing_give_an_empty_map_with_its_columns(planted, rendered):
    idle = [pair for pair in rendered if pair.indicator == "boast"]
    found = part_map(planted.subject, idle)
    assert tuple(found.columns) == PART_COLUMNS
    assert found.empty


def test_sign_flips_are_two_sided_exact_and_of_whole_transcripts():
    values = np.array([[1.0, -1.0, 1.0]] * 8)
    values[::2, 2] = -1.0
    towards, away, mixed = cluster_tests(values, [f"t{i // 2}" for i in range(8)])
    # Four transcripts: of 16 patterns the two extreme ones.
    assert towards["p_value"] == away["p_value"] == 2 / 16
    assert (towards["effect"], towards["low"], away["high"]) == (1.0, 1.0, -1.0)
    assert mixed["p_value"] == 1.0


def test_weights_give_the_mean_of_means_and_one_transcript_gives_no_test():
    weights = np.array([0.5, 0.5, 1.0])
    (found,) = cluster_tests(np.array([[0.0], [1.0], [1.0]]), ["a", "b", "c"], weights=weights)
    assert found["effect"] == pytest.approx(0.75)
    (single,) = cluster_tests(np.array([[1.0]]), ["a"])
    assert single["effect"] == 1.0
    assert np.isnan([single["low"], single["high"], single["p_value"]]).all()
    (broken,) = cluster_tests(np.array([[np.nan], [1.0]]), ["a", "b"])
    assert np.isnan(list(broken.values())).all()
