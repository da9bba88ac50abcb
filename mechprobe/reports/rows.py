"""Choosing rows of a table, with types that the checker can follow."""

from typing import Any, cast

import numpy as np
import pandas as pd


def rows_where(table: pd.DataFrame, **values: object) -> pd.DataFrame:
    """The rows whose columns have exactly these values."""
    keep = np.ones(len(table), dtype=bool)
    for column, value in values.items():
        keep &= np.asarray(table[column] == value, dtype=bool)
    return rows_at(table, keep)


def rows_at(table: pd.DataFrame, keep: np.ndarray) -> pd.DataFrame:
    """The rows at which a boolean mask is true."""
    return cast("pd.DataFrame", table.loc[keep])


def column_text(table: pd.DataFrame, column: str) -> list[str]:
    """A column as texts, empty where the cell is."""
    cells = cast("list[Any]", table[column].tolist())
    return ["" if cell is None or cell != cell else str(cell) for cell in cells]


def column_floats(table: pd.DataFrame, column: str) -> np.ndarray:
    """A column as float64; NaN throughout where the table lacks it."""
    if column not in table.columns:
        return np.full(len(table), np.nan)
    return np.asarray(table[column], dtype=np.float64)


def distinct(table: pd.DataFrame, column: str) -> list[str]:
    """The different texts of a column, in the order of their first appearance."""
    return list(dict.fromkeys(text for text in column_text(table, column)))


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as dictionaries."""
    return cast("list[dict[str, Any]]", table.to_dict("records"))
