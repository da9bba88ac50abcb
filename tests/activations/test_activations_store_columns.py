"""Norms, sinks, spans and moments that a store adds are those of its rows, however it is cut into shards."""

import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mechprobe.activations.moments import acts_statistics
from mechprobe.activations.token_columns import with_stored_columns
from tests.activations.stores import write_store

HOOK, OTHER = "blocks.0.hook_out", "blocks.1.hook_out"
SIZES = (9, 12, 1, 30, 8)


def numbers(n_rows: int, width: int, seed: int = 0) -> torch.Tensor:
    """Columns with means up to a million times their spread, and a constant one."""
    generator = torch.Generator().manual_seed(seed)
    acts = torch.randn(n_rows, width, generator=generator)
    acts += torch.logspace(-3, 6, width)
    acts[:, 0] = 7.25
    return acts


@settings(max_examples=12, deadline=None)
@given(cuts=st.sets(st.integers(1, len(SIZES) - 1)), dtype=st.sampled_from(["float32", "bfloat16"]))
def test_mean_and_variance_are_those_of_all_rows_in_float64(cuts: set[int], dtype: str):
    acts = {HOOK: numbers(sum(SIZES), 5), OTHER: numbers(sum(SIZES), 3, seed=1)}
    with tempfile.TemporaryDirectory() as name:
        store = write_store(Path(name) / "s", acts, SIZES, sorted(cuts), dtype)
        for hook_name, tensor in acts.items():
            wanted = tensor.to(getattr(torch, dtype)).double()
            found = store.moments(hook_name)
            assert found.count == len(wanted)
            assert torch.allclose(found.mean, wanted.mean(0), rtol=1e-15, atol=0)
            assert torch.allclose(found.variance, wanted.var(0, correction=0), rtol=1e-9, atol=0)
        assert store.moments(HOOK).variance[0] == 0


def test_moments_do_not_depend_on_the_size_of_a_block():
    acts = numbers(20000, 40)
    found = acts_statistics(acts).moments
    wanted = acts.double()
    assert torch.allclose(found.mean, wanted.mean(0), rtol=1e-14)
    assert torch.allclose(found.m2, (wanted - wanted.mean(0)).square().sum(0), rtol=1e-8)
    assert acts_statistics(acts[:0]).moments.count == 0


def test_norms_stand_in_the_token_table(tmp_path: Path):
    acts = {HOOK: torch.tensor([[3.0, 4.0], [0.0, 0.0], [5.0, 12.0]])}
    store = write_store(tmp_path / "s", acts, (2, 1))
    assert list(store.tokens[f"norm.{HOOK}"]) == [5.0, 0.0, 13.0]


def test_a_sink_is_ten_times_the_median_of_its_conversation(tmp_path: Path):
    acts = torch.ones(20, 1)
    acts[0], acts[5], acts[17] = 10.5, 9.5, 1000.0
    store = write_store(tmp_path / "s", {HOOK: acts}, (8, 9, 3), cuts=(1,))
    # Row 5 is below ten medians; row 17 stands in a conversation that is too short to have a median.
    assert list(np.flatnonzero(store.tokens["is_sink"])) == [0]


def test_spans_count_thoughts_answers_and_tool_calls():
    rows = [
        (0, -1, "scaffold", 0),
        (0, 1, "reasoning", 1),
        (0, 1, "scaffold", 2),
        (0, 1, "reasoning", 3),
        (0, 1, "answer", 4),
        (0, 1, "tool_call", 6),
        (0, 1, "tool_call", 7),
        (0, 1, "scaffold", 8),
        (0, 1, "tool_call", 9),
        (0, 2, "answer", 11),
        (1, 0, "answer", 0),
    ]
    tokens = pd.DataFrame(rows, columns=["conversation", "message", "section", "position"])
    found = with_stored_columns(tokens.assign(char_start=0), {})
    # A thought with scaffold inside is one thought; calls with the template's text between them are two.
    assert list(found["span"]) == [-1, 0, -1, 0, 1, 2, 2, -1, 3, 4, 0]


def test_stores_without_tokens_have_moments_of_nothing(tmp_path: Path):
    store = write_store(tmp_path / "s", {HOOK: torch.zeros(0, 4)}, (0, 0), cuts=(1,))
    assert store.moments(HOOK).count == 0
    assert store.moments(HOOK).variance.tolist() == [0.0] * 4


def test_a_norm_beyond_float32_is_no_broken_model(tmp_path: Path):
    acts = torch.full((2, 4), 3e38)
    store = write_store(tmp_path / "s", {HOOK: acts}, (2,))
    assert torch.equal(store.acts(HOOK), acts)


def test_versions_are_in_the_record_and_no_setting(tmp_path: Path):
    store = write_store(tmp_path / "s", {HOOK: torch.zeros(1, 4)}, (1,))
    assert store.record["packages"]["torch"] == version("torch")
    assert "packages" not in store.config
