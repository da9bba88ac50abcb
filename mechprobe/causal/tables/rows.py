"""What all tables of a causal run share."""

from collections.abc import Mapping, Sequence

import pandas as pd

N_BOOT = 500
Row = dict[str, object]


def as_table(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> pd.DataFrame:
    """Rows as a table with its columns in order, also when there are none."""
    return pd.DataFrame([dict(row) for row in rows], columns=list(columns))
