"""Columns of the token table that follow from the stored rows themselves: norms, sinks and spans."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int
from torch import Tensor

SINK_RATIO = 10.0
"""A token whose norm is so many times the median of its conversation is a sink. Massive activations exceed the median
a thousand times in single dimensions (arXiv 2402.17762, section 2), which makes norms tens to hundreds of times as large."""
SINK_ROWS = 8
"""Fewer stored rows of a conversation have no median to speak of, and no sink."""
NORM_PREFIX = "norm."
_TEXT_SECTIONS = ("reasoning", "answer", "tool_call")


def norm_column(hook_name: str) -> str:
    """The column with the norm of each row at a hook point."""
    return f"{NORM_PREFIX}{hook_name}"


def with_stored_columns(
    tokens: pd.DataFrame, norms: Mapping[str, Float64[Tensor, "tok"]]
) -> pd.DataFrame:
    """The token table with `span`, `is_sink` and the norm at each hook point.

    `span` counts the thoughts, answers and tool calls of a conversation from 0; scaffold and headers have -1.
    `is_sink` marks tokens whose norm at any hook point exceeds SINK_RATIO times the median of the stored rows of their
    conversation, so that it does not depend on how the store is cut into shards.
    """
    columns = {norm_column(name): norm.float().numpy() for name, norm in norms.items()}
    conversation = _column(tokens, "conversation")
    added: dict[str, Any] = {"is_sink": _sinks(conversation, columns)}
    if {"message", "section", "position", "char_start"} <= set(tokens):
        added["span"] = _spans(tokens, conversation)
    return tokens.assign(**added, **columns)


def _sinks(
    conversation: Int[np.ndarray, "tok"], norms: Mapping[str, np.ndarray]
) -> Bool[np.ndarray, "tok"]:
    is_sink = np.zeros(len(conversation), dtype=bool)
    cuts = np.flatnonzero(np.diff(conversation)) + 1
    for rows in np.split(np.arange(len(conversation)), cuts):
        if len(rows) >= SINK_ROWS:
            for values in norms.values():
                is_sink[rows] |= values[rows] > SINK_RATIO * np.median(values[rows])
    return is_sink


def _spans(tokens: pd.DataFrame, conversation: Int[np.ndarray, "tok"]) -> Int[np.ndarray, "tok"]:
    """A new span begins where message or section change, and where a second tool call of a message begins."""
    sections: Any = pd.Index(_TEXT_SECTIONS).get_indexer(pd.Index(tokens["section"]))
    message = _column(tokens, "message")
    rows = np.flatnonzero(sections >= 0)
    spans = np.full(len(conversation), -1, dtype=np.int32)
    if not len(rows):
        return spans
    owner = np.stack([conversation[rows], message[rows], sections[rows]])
    begins = np.ones(len(rows), dtype=bool)
    begins[1:] = (np.diff(owner) != 0).any(0)
    is_call = sections[rows] == _TEXT_SECTIONS.index("tool_call")
    # Calls are apart by the template's own text, which is other tokens in between.
    apart = np.diff(_column(tokens, "position")[rows], prepend=-2) > 1
    begins |= is_call & apart
    number = np.cumsum(begins) - 1
    is_first = np.ones(len(rows), dtype=bool)
    is_first[1:] = np.diff(owner[0]) != 0
    spans[rows] = number - number[is_first][np.cumsum(is_first) - 1]
    return spans


def _column(tokens: pd.DataFrame, name: str) -> Int[np.ndarray, "tok"]:
    column: Any = tokens[name]
    return np.asarray(column, dtype=np.int64)
