"""Halves of the data agree on what is planted, and on nothing where labels were dealt."""

import numpy as np
import pytest

from mechprobe.baselines.stability import STABILITY_COLUMNS, StabilityConfig, feature_stability
from mechprobe.errors import ConfigError, ShapeError
from mechprobe.probes.estimators import find_estimator
from mechprobe.probes.rows import LabelledRows

LOGISTIC = find_estimator("dense_logistic")


def planted(n: int = 400, width: int = 60) -> LabelledRows:
    """Five columns tell the first indicator, none the second; the third has one positive."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, width)).astype(np.float32)
    labels = np.zeros((n, 3), dtype=np.int8)
    labels[:, 0] = X[:, :5].sum(axis=1) > 0
    labels[:, 1] = rng.random(n) < 0.5
    labels[0, 2] = 1
    return LabelledRows(X=X, labels=labels, indicators=("told", "untold", "rare"))


def test_planted_features_are_found_in_every_half_and_dealt_labels_find_others() -> None:
    rows = planted()
    config = StabilityConfig(k=5, n_draws=4)
    table = feature_stability(LOGISTIC, rows, np.arange(400) // 4, config).set_index("indicator")
    assert table.loc["told", "overlap"] == 1.0
    for indicator, column in (("told", "shuffled"), ("untold", "shuffled"), ("untold", "overlap")):
        # Halves share half of their rows, so that chance alone is a little exceeded.
        assert table.loc[indicator, column] < 0.35
    assert table.loc["told", "chance"] == pytest.approx(0.046, abs=0.01)


def test_an_indicator_that_few_halves_can_fit_has_no_overlap() -> None:
    table = feature_stability(
        LOGISTIC, planted(), np.arange(400), StabilityConfig(k=3, n_draws=2, seed=1)
    ).set_index("indicator")
    assert tuple(table.reset_index().columns) == STABILITY_COLUMNS
    if table.loc["rare", "n_draws"] < 2:
        assert np.isnan(table.loc["rare", "overlap"])
    assert table.loc["told", "n_draws"] == 2


def test_the_same_seed_gives_the_same_table() -> None:
    rows, groups = planted(200), np.arange(200)
    config = StabilityConfig(k=4, n_draws=2, seed=3)
    first, again = (feature_stability(LOGISTIC, rows, groups, config) for _ in range(2))
    assert first.equals(again)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="n_draws 1"):
        StabilityConfig(n_draws=1)
    with pytest.raises(ConfigError, match="k is 0"):
        StabilityConfig(k=0)
    with pytest.raises(ShapeError, match="3 groups for 400 rows"):
        feature_stability(LOGISTIC, planted(), np.arange(3))
    with pytest.raises(ConfigError, match="no exact SHAP"):
        feature_stability(find_estimator("dense_mlp"), planted(60), np.arange(60))
