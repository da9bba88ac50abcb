"""Free writing under an edit: the most changed texts beside the unedited ones, and the damage done to other text."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup, escape

from mechprobe.reports.effects import NO_CONTROL
from mechprobe.reports.estimates import to_float, to_text
from mechprobe.reports.rows import column_text, distinct, records, rows_at, rows_where

MOST_CHANGED = 5
DAMAGE_FIGURES = ("kl", "ce", "ce_change", "distinct_2", "repetition", "accuracy", "audit_accuracy")
"""Columns of `damage.parquet` that are shown, each where the table has it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangedText:
    """A text as the model writes it, and as it writes it under an edit, with the words that differ marked."""

    direction: str
    operation: str
    strength: float
    pair_id: str
    prompt_tail: str
    unedited: Markup
    edited: Markup
    unedited_action: str
    edited_action: str
    change: float


@dataclass(frozen=True, kw_only=True, slots=True)
class DamageRow:
    """What a push along a direction, or along random ones, does to text that has nothing to do with it."""

    direction: str
    operation: str
    control: str
    strength: float
    n: float
    n_draws: int
    figures: dict[str, float]
    """Column -> value, or the mean over the draws of a control."""
    unedited: dict[str, float]
    """Column -> the same without any push, where it was measured."""


def changed_texts(generations: pd.DataFrame | None, indicator: str) -> list[ChangedText]:
    """The most changed texts under edits of the indicator's own directions, the most changed first.

    Texts that still end in an answer come before those that the edit broke: a broken text is changed most, and shows
    least.
    """
    if generations is None:
        return []
    mine = rows_where(generations, indicator=indicator, control=NO_CONTROL)
    mine = mine.assign(broken=[not to_text(action) for action in mine["edited_action"]])
    mine = mine.sort_values(by=["broken", "change"], ascending=[True, False], kind="stable")
    return [_changed_text(row) for row in records(mine.head(MOST_CHANGED))]


def _changed_text(row: Mapping[str, Any]) -> ChangedText:
    before, after = marked_words(to_text(row["unedited_text"]), to_text(row["edited_text"]))
    return ChangedText(
        direction=to_text(row["direction"]),
        operation=to_text(row["operation"]),
        strength=to_float(row["strength"]),
        pair_id=to_text(row["pair_id"]),
        prompt_tail=to_text(row["prompt_tail"]),
        unedited=before,
        edited=after,
        unedited_action=to_text(row["unedited_action"]),
        edited_action=to_text(row["edited_action"]),
        change=to_float(row["change"]),
    )


def marked_words(before: str, after: str) -> tuple[Markup, Markup]:
    """Both texts with the words that only one of them has marked."""
    words = _words(before), _words(after)
    same = difflib.SequenceMatcher(a=words[0], b=words[1], autojunk=False).get_opcodes()
    old = [(words[0][i:j], kind != "equal") for kind, i, j, _, _ in same]
    new = [(words[1][i:j], kind != "equal") for kind, _, _, i, j in same]
    return _marked(old, "del"), _marked(new, "ins")


def _words(text: str) -> list[str]:
    """Words and the space between them, so that joined they are the text."""
    return re.findall(r"\s+|\w+|[^\w\s]", text)


def _marked(pieces: Sequence[tuple[list[str], bool]], tag: str) -> Markup:
    parts = [
        Markup("<{0}>{1}</{0}>").format(Markup(tag), escape(text)) if differs else escape(text)
        for words, differs in pieces
        if (text := "".join(words))
    ]
    return Markup("").join(parts)


def damage_rows(damage: pd.DataFrame | None, indicator: str) -> list[DamageRow]:
    """The indicator's pushes, then its controls and those that all share, each with its draws averaged.

    Empty where nothing was pushed for the indicator itself.
    """
    if damage is None or indicator not in column_text(damage, "indicator"):
        return []
    own = rows_where(damage, indicator=indicator)
    shared = rows_where(damage, indicator="")
    if "hook_name" in damage.columns:
        here = np.isin(column_text(shared, "hook_name"), distinct(own, "hook_name"))
        shared = rows_at(shared, here)
    groups: dict[_Push, list[dict[str, Any]]] = {}
    for row in [*records(own), *records(shared)]:
        groups.setdefault(_push(row), []).append(row)
    order = sorted(groups, key=lambda push: push[0] != NO_CONTROL)
    return [_damage_row(groups[push]) for push in order]


_Push = tuple[str, str, str, str]


def _push(row: Mapping[str, Any]) -> _Push:
    """What the draws of one control have in common: control, direction, operation and strength."""
    strength = f"{to_float(row['strength']):.6g}"
    return to_text(row["control"]), to_text(row["direction"]), _operation(row), strength


def _operation(row: Mapping[str, Any]) -> str:
    return to_text(row.get("operation"))


def _damage_row(draws: Sequence[Mapping[str, Any]]) -> DamageRow:
    first = draws[0]
    known = [name for name in DAMAGE_FIGURES if name in first]
    before = [name for name in known if f"{name}_unedited" in first]
    return DamageRow(
        direction=to_text(first["direction"]),
        operation=_operation(first),
        control=to_text(first["control"]),
        strength=to_float(first["strength"]),
        n=_mean(draws, "n"),
        n_draws=len(draws),
        figures={name: _mean(draws, name) for name in known},
        unedited={name: _mean(draws, f"{name}_unedited") for name in before},
    )


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    return float(np.mean([to_float(row[name]) for row in rows]))
