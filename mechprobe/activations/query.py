"""Rows of a store by what their tokens are: role, section, indicator, split."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from mechprobe.activations.rows import span_tokens
from mechprobe.errors import ConfigError, DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenQuery:
    """Which tokens are meant; all conditions that are given must hold.

    Raises:
        ConfigError: an empty tuple selects nothing, or `is_present` is given without indicators.
    """

    roles: tuple[str, ...] | None = None
    """Roles of the message."""
    sections: tuple[str, ...] | None = None
    """Sections that the token stands in: scaffold, header, reasoning, answer, tool_call."""
    indicators: tuple[str, ...] | None = None
    """Tokens in labelled spans of any of these indicators."""
    is_present: bool | None = None
    """With indicators: True for spans that show them, False for hard negatives, None for both."""
    splits: tuple[str, ...] | None = None
    """Splits of the transcript."""
    transcript_ids: tuple[str, ...] | None = None
    """Transcripts by name."""
    turns: tuple[int, ...] | None = None
    """Turns of the conversation."""
    is_sink: bool | None = None
    """False leaves attention sinks out, True keeps nothing else."""

    def __post_init__(self) -> None:
        for name in ("roles", "sections", "indicators", "splits", "transcript_ids", "turns"):
            if getattr(self, name) == ():
                raise ConfigError(
                    f"{name} is empty and selects no token; name one, or None for all."
                )
        if self.is_present is not None and self.indicators is None:
            raise ConfigError("is_present speaks of labelled spans; name indicators too.")

    def rows(
        self,
        tokens: pd.DataFrame,
        *,
        spans: pd.DataFrame | None = None,
        split_of: Mapping[str, str] | None = None,
    ) -> Int[np.ndarray, "row"]:
        """The rows that are meant, ascending.

        Args:
            tokens: the store's token table.
            spans: as `rows.span_table` makes them; needed for indicators.
            split_of: transcript id -> split; needed for splits.

        Raises:
            ConfigError: spans or splits are needed and not given, or a value stands nowhere in the table.
            DataError: the token table lacks a column.
        """
        kept = np.ones(len(tokens), dtype=bool)
        for column, wanted in (
            ("role", self.roles),
            ("section", self.sections),
            ("transcript_id", self.transcript_ids),
            ("turn", self.turns),
        ):
            if wanted is not None:
                kept &= _is_among(_column(tokens, column), wanted)
        if self.is_sink is not None:
            kept &= np.asarray(_column(tokens, "is_sink")) == self.is_sink
        if self.splits is not None:
            if split_of is None:
                raise ConfigError(f"splits {self.splits} are asked for; give split_of.")
            kept &= _is_among(_column(tokens, "transcript_id").map(dict(split_of)), self.splits)
        if self.indicators is not None:
            if spans is None:
                raise ConfigError(f"indicators {self.indicators} are asked for; give spans.")
            kept &= self._in_spans(len(tokens), spans)
        return np.flatnonzero(kept)

    def _in_spans(self, n_rows: int, spans: pd.DataFrame) -> Bool[np.ndarray, "row"]:
        is_meant = _is_among(_column(spans, "indicator"), self.indicators or ())
        if self.is_present is not None:
            is_meant &= np.asarray(_column(spans, "present"), dtype=bool) == self.is_present
        chosen: Any = spans[is_meant]
        inside = np.zeros(n_rows, dtype=bool)
        inside[np.asarray(span_tokens(chosen)["row"], dtype=np.int64)] = True
        return inside


def _is_among(column: Any, wanted: tuple[Any, ...]) -> Bool[np.ndarray, "row"]:
    if unknown := [value for value in wanted if not (column == value).any()]:
        known = sorted(str(value) for value in column.dropna().unique())
        raise ConfigError(
            f"{column.name} has no {unknown[0]!r} in this store; it has {', '.join(known[:12])}."
        )
    return np.array(column.isin(wanted), dtype=bool)


def _column(table: pd.DataFrame, name: str) -> Any:
    if name not in table:
        raise DataError(
            f"the table has no column {name!r} to select by; it has {', '.join(table)}."
        )
    return table[name]
