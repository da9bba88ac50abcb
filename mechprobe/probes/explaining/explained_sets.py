"""All probes of a scorer explained: the features that drive each indicator, and whether they make sense."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Int8

from mechprobe.errors import ShapeError
from mechprobe.probes.explaining.driving_features import (
    CHECK_COLUMNS,
    FEATURE_COLUMNS,
    driving_features,
)
from mechprobe.probes.matrix import Matrix
from mechprobe.probes.probe_set import ProbeSet

_KEYS = ("scorer", "hook_name", "indicator")
EXPLANATION_COLUMNS = (*_KEYS, *FEATURE_COLUMNS)
EXPLANATION_CHECK_COLUMNS = (*_KEYS, *CHECK_COLUMNS)


def explain_set(
    probes: ProbeSet,
    X: Matrix,
    labels: Int8[np.ndarray, "tok indicator"],
    *,
    names: Sequence[str] | None = None,
    background: Matrix | None = None,
    k: int = 20,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Explain every probe of a set on the same rows.

    Args:
        X: rows to explain, best those of the test split: thousands are enough.
        labels: of the set's indicators, in its order.
        names: of the columns, for instance what each SAE feature fires on; None: their numbers.
        background: rows that say what is usual, such as those that were fitted on; None: X.
        k: features listed for each indicator.

    Returns:
        The driving features (EXPLANATION_COLUMNS) and the checks (EXPLANATION_CHECK_COLUMNS), as `DrivingFeatures`
        has them.

    Raises:
        ConfigError: the probes have no exact SHAP values.
        ShapeError: the rows, labels or names do not fit the probes.
    """
    if labels.shape[1] != len(probes.indicators):
        raise ShapeError(
            f"{labels.shape[1]} columns of labels for the {len(probes.indicators)} indicators of scorer "
            f"{probes.scorer!r}; give one for each, in its order."
        )
    tables: list[pd.DataFrame] = []
    checks: list[dict[str, object]] = []
    for at, (indicator, probe) in enumerate(zip(probes.indicators, probes.probes, strict=True)):
        found = driving_features(probe, X, labels[:, at], names=names, background=background, k=k)
        keys = dict(zip(_KEYS, (probes.scorer, probes.hook_name, indicator), strict=True))
        tables.append(found.table.assign(**keys))
        checks.append({**keys, **found.checks})
    table = pd.DataFrame(
        pd.concat(tables, ignore_index=True) if tables else None, columns=list(EXPLANATION_COLUMNS)
    )
    return table, pd.DataFrame(checks, columns=list(EXPLANATION_CHECK_COLUMNS))
