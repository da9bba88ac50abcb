"""Probes fitted on a store block by block are those fitted on its rows in memory."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.made_acts import made_acts, made_tokens
from mechprobe.activations.store import ActivationStore
from mechprobe.activations.writing import StoreWriter
from mechprobe.errors import HookError, LabelError, ShapeError
from mechprobe.probes.kinds.directions import fit_difference_of_means, fit_lda, fit_ridge
from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.rows import LabelledRows
from mechprobe.probes.solving import streaming
from mechprobe.probes.solving.logistic import fit_logistic
from mechprobe.probes.solving.streamed_moments import (
    difference_of_means_of,
    lda_of,
    ridge_of,
    streamed_moments,
)
from mechprobe.probes.solving.streaming import StoredRows, fit_streamed_logistic
from mechprobe.probes.weights import ClassWeight

HOOKS = {"blocks.0.hook_out": 6, "blocks.1.hook_out": 5}
N = 1024


@pytest.fixture
def store(tmp_path: Path) -> ActivationStore:
    """One column lies far from zero, one is constant."""
    tokens = made_tokens(N)
    n_conversations = int(tokens["conversation"].iloc[-1]) + 1
    writer = StoreWriter.start(
        tmp_path / "store", hooks=HOOKS, dtype="float32", config={}, n_conversations=n_conversations
    )
    acts = {name: made_acts(N, width) for name, width in HOOKS.items()}
    acts["blocks.1.hook_out"] = acts["blocks.1.hook_out"].flip(0)
    acts["blocks.0.hook_out"][:, 4] = 300 + 20 * acts["blocks.0.hook_out"][:, 4]
    acts["blocks.0.hook_out"][:, 5] = 2.5
    names = [f"t{index}" for index in range(n_conversations)]
    writer.write(0, acts, tokens, first_conversation=0, transcript_ids=names)
    return ActivationStore.open(tmp_path / "store")


@pytest.fixture
def rows(store: ActivationStore, monkeypatch: pytest.MonkeyPatch) -> StoredRows:
    """Both hook points side by side, some rows, small blocks."""
    monkeypatch.setattr(streaming, "block_rows", lambda _: 100)
    rng = np.random.default_rng(0)
    chosen = np.sort(rng.choice(N, 700, replace=False))
    signal = store.acts("blocks.0.hook_out", chosen).numpy()[:, :2]
    labels = (signal + rng.logistic(size=(700, 2)) > 0.7).astype(np.int8)
    labels[rng.random(labels.shape) < 0.1] = -1
    return StoredRows(
        store=store, hook_names=tuple(HOOKS), rows=chosen, labels=labels, indicators=("a", "b")
    )


def in_memory(rows: StoredRows) -> LabelledRows:
    X = torch.cat([rows.store.acts(name, rows.rows) for name in rows.hook_names], dim=1).numpy()
    return LabelledRows(X=X, labels=rows.labels, indicators=rows.indicators)


def assert_same(
    found: list[tuple[LinearProbe, ...]], expected: list[tuple[LinearProbe, ...]], X: np.ndarray
) -> None:
    assert len(found) == len(expected)
    for ones, others in zip(found, expected, strict=True):
        for one, other in zip(ones, others, strict=True):
            assert (one.kind, one.settings) == (other.kind, other.settings)
            spread = float(other.score(X).std())
            np.testing.assert_allclose(one.score(X), other.score(X), atol=1e-3 * spread)


@pytest.mark.parametrize("standardise", [True, False])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_streamed_logistic_probes_are_those_in_memory(
    rows: StoredRows, standardise: bool, class_weight: ClassWeight
) -> None:
    weight = np.random.default_rng(1).uniform(0.5, 2, size=700)
    whole = in_memory(rows)
    if not standardise:
        # Unscaled columns of very different size converge slowly in any solver; leave out the far one.
        rows = StoredRows(
            store=rows.store,
            hook_names=("blocks.1.hook_out",),
            rows=rows.rows,
            labels=rows.labels,
            indicators=rows.indicators,
        )
        whole = in_memory(rows)
    options: dict[str, Any] = {
        "standardise": standardise,
        "class_weight": class_weight,
        "sample_weight": weight,
    }
    found = fit_streamed_logistic(rows, (100.0, 1.0), **options)
    expected = fit_logistic(whole, (100.0, 1.0), **options)
    assert_same(found, expected, np.asarray(whole.X))


def test_closed_form_probes_from_sums_are_those_in_memory(rows: StoredRows) -> None:
    moments, whole = streamed_moments(rows), in_memory(rows)
    X = np.asarray(whole.X)
    assert_same(ridge_of(moments, (7.0, 0.1)), fit_ridge(whole, (7.0, 0.1)), X)
    assert_same(lda_of(moments, (0.5, 0.01)), fit_lda(whole, (0.5, 0.01)), X)
    assert_same(difference_of_means_of(moments), fit_difference_of_means(whole), X)


def test_the_order_of_rows_and_the_size_of_blocks_do_not_matter(
    rows: StoredRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fit_streamed_logistic(rows)
    order = np.random.default_rng(2).permutation(700)
    moved = StoredRows(
        store=rows.store,
        hook_names=rows.hook_names,
        rows=rows.rows[order],
        labels=rows.labels[order],
        indicators=rows.indicators,
    )
    monkeypatch.setattr(streaming, "block_rows", lambda _: 257)
    assert_same(fit_streamed_logistic(moved), first, np.asarray(in_memory(rows).X))


def test_a_pass_that_was_cut_off_leaves_nothing_behind(rows: StoredRows) -> None:
    before = fit_streamed_logistic(rows)
    blocks = rows.blocks(50)
    next(blocks)
    blocks.close()
    after = fit_streamed_logistic(rows)
    for ones, others in zip(before, after, strict=True):
        for one, other in zip(ones, others, strict=True):
            assert np.array_equal(one.weight, other.weight) and one.bias == other.bias


def test_rows_that_do_not_fit_are_refused(rows: StoredRows) -> None:
    def changed(**fields: Any) -> StoredRows:
        kept: dict[str, Any] = {
            name: getattr(rows, name) for name in StoredRows.__dataclass_fields__
        }
        return StoredRows(**{**kept, **fields})

    with pytest.raises(HookError, match=r"holds no activations of 'blocks\.9'"):
        changed(hook_names=("blocks.9",))
    with pytest.raises(ShapeError, match="labels of shape"):
        changed(indicators=("a",))
    with pytest.raises(ShapeError, match="were asked for"):
        changed(rows=rows.rows + N)
    with pytest.raises(LabelError, match="indicator 'a' has 0 positive"):
        changed(labels=np.zeros_like(rows.labels))


def test_the_cpu_by_name_is_the_default_to_the_last_bit(rows: StoredRows) -> None:
    pairs = [
        (fit_streamed_logistic(rows), fit_streamed_logistic(rows, device="cpu")),
        (
            lda_of(streamed_moments(rows), (0.5,)),
            lda_of(streamed_moments(rows, device="cpu"), (0.5,)),
        ),
    ]
    for found, named in pairs:
        for one, other in zip(found[0], named[0], strict=True):
            assert np.array_equal(one.weight, other.weight) and one.bias == other.bias
    with pytest.raises(RuntimeError, match="nowhere"):
        fit_streamed_logistic(rows, device="nowhere")
