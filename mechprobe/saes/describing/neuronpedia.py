"""Features in the JSON that SAEDashboard writes and Neuronpedia reads, one batch of features a file.

Fields after SAEDashboard's `neuronpedia_dashboard.py` (github.com/jbloomAus/SAEDashboard). What this project does not
compute (correlated neurons, alignment with a neuron basis) is an empty list there, as SAEDashboard leaves it by default.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from torch import Tensor

from mechprobe.errors import ConfigError
from mechprobe.records import atomic_write_text
from mechprobe.saes.describing.descriptions import FeatureDescription
from mechprobe.saes.describing.directions import LogitLens
from mechprobe.saes.examples import FeatureExample

_DIGITS = 3
_EMPTY = (
    "neuron_alignment_indices",
    "neuron_alignment_values",
    "neuron_alignment_l1",
    "correlated_neurons_indices",
    "correlated_neurons_l1",
    "correlated_neurons_pearson",
    "correlated_features_indices",
    "correlated_features_l1",
    "correlated_features_pearson",
    "decoder_weights_dist",
)
TOP_BIN = (-1.0, -1.0)
"""What stands for the lower edge and the share of the strongest examples, which are no band."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DashboardSource:
    """What a batch says of where it comes from."""

    model_id: str
    layer: int
    sae_set: str
    dataset: str
    n_prompts_total: int
    """Conversations that were searched for examples."""
    n_tokens_in_prompt: int
    """Tokens on either side and the example's own, at most."""


def write_dashboards(
    folder: Path,
    descriptions: Iterable[FeatureDescription],
    source: DashboardSource,
    word_of: Callable[[Sequence[int]], Sequence[str]],
    *,
    lens: LogitLens | None = None,
    batch_size: int = 128,
) -> list[Path]:
    """Write `batch-0.json`, `batch-1.json`, ... and return their paths; features that are never active are left out.

    Raises:
        ConfigError: a batch would hold no feature.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}; give at least 1.")
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    held: list[dict[str, Any]] = []
    for description in descriptions:
        if description.n_active:
            held.append(dashboard_feature(description, source, word_of, lens))
        if len(held) == batch_size:
            paths.append(_write(folder, len(paths), held, source))
            held = []
    return [*paths, _write(folder, len(paths), held, source)] if held else paths


def dashboard_feature(
    one: FeatureDescription,
    source: DashboardSource,
    word_of: Callable[[Sequence[int]], Sequence[str]],
    lens: LogitLens | None = None,
) -> dict[str, Any]:
    """One feature under SAEDashboard's names; bars are given by their middles."""
    edges = np.linspace(0, one.largest or 1.0, len(one.bars) + 1)
    found: dict[str, Any] = {
        "feature_index": one.feature,
        **{name: [] for name in _EMPTY},
        **_logits(one.feature, lens, word_of),
        "frac_nonzero": one.density,
        "freq_hist_data_bar_values": _rounded((edges[:-1] + edges[1:]) / 2),
        "freq_hist_data_bar_heights": one.bars.tolist(),
        "n_prompts_total": source.n_prompts_total,
        "n_tokens_in_prompt": source.n_tokens_in_prompt,
        "dataset": source.dataset,
    }
    low, contains = TOP_BIN
    activations = [
        _activation(example, low, round(one.largest, _DIGITS), contains, word_of)
        for example in one.top
    ]
    for band in reversed(one.bands):
        bounds = round(band.low, _DIGITS), round(band.high, _DIGITS), round(band.share, _DIGITS)
        activations += [_activation(example, *bounds, word_of) for example in band.examples]
    return {**found, "activations": activations}


def _logits(
    feature: int, lens: LogitLens | None, word_of: Callable[[Sequence[int]], Sequence[str]]
) -> dict[str, Any]:
    names = ("neg_str", "neg_values", "pos_str", "pos_values")
    names += ("logits_hist_data_bar_heights", "logits_hist_data_bar_values")
    if lens is None:
        return {name: [] for name in names}
    heights = lens.histogram[feature].numpy()
    edges = np.linspace(
        float(lens.bottom[feature, 0]), float(lens.top[feature, 0]), len(heights) + 1
    )
    values = (
        _words(lens.bottom_ids[feature], word_of),
        _rounded(lens.bottom[feature].numpy()),
        _words(lens.top_ids[feature], word_of),
        _rounded(lens.top[feature].numpy()),
        _rounded(heights),
        _rounded((edges[:-1] + edges[1:]) / 2),
    )
    return dict(zip(names, values, strict=True))


def _activation(
    example: FeatureExample,
    low: float,
    high: float,
    contains: float,
    word_of: Callable[[Sequence[int]], Sequence[str]],
) -> dict[str, Any]:
    return {
        "bin_min": low,
        "bin_max": high,
        "bin_contains": contains,
        "tokens": list(word_of(example.token_ids)),
        "values": _rounded(np.array(example.acts)),
    }


def _words(
    ids: Int[Tensor, "shown"], word_of: Callable[[Sequence[int]], Sequence[str]]
) -> list[str]:
    return list(word_of(ids.tolist()))


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), _DIGITS) for value in values]


def _write(folder: Path, number: int, held: list[dict[str, Any]], source: DashboardSource) -> Path:
    batch = {
        "model_id": source.model_id,
        "layer": source.layer,
        "sae_set": source.sae_set,
        "features": held,
    }
    path = folder / f"batch-{number}.json"
    atomic_write_text(path, json.dumps(batch, ensure_ascii=False, allow_nan=False) + "\n")
    return path
