"""Free writing under an edit: the most changed texts beside the unedited ones, and the damage done to other text."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup, escape

from mechprobe.reports.effects import NO_CONTROL
from mechprobe.reports.estimates import to_float, to_text
from mechprobe.reports.rows import column_floats, distinct, records, rows_at, rows_where

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
    control: str
    strength: float
    n: float
    n_draws: int
    figures: dict[str, float]
    """Column -> value, or the mean over the draws of a control."""
    unedited: dict[str, float]
    """Column -> the same without any push, where it was measured."""


def changed_texts(generations: pd.DataFrame | None, indicator: str) -> list[ChangedText]:
    """The most changed texts under edits of the indicator's own directions, the most changed first."""
    if generations is None:
        return []
    mine = rows_where(generations, indicator=indicator, control=NO_CONTROL)
    mine = mine.sort_values(by="change", ascending=False, kind="stable")
    return [_changed_text(row) for row in records(mine.head(MOST_CHANGED))]


def _changed_text(row: dict[str, object]) -> ChangedText:
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
    """The indicator's pushes by strength, each followed by its controls with their draws averaged."""
    if damage is None:
        return []
    mine = rows_where(damage, indicator=indicator)
    strengths = sorted(set(column_floats(mine, "strength").tolist()))
    controls = sorted(distinct(mine, "control"), key=lambda name: (name != NO_CONTROL, name))
    rows: list[DamageRow] = []
    for strength in strengths:
        at = rows_at(mine, column_floats(mine, "strength") == strength)
        for control in controls:
            drawn = rows_where(at, control=control)
            names = distinct(drawn, "direction") if control == NO_CONTROL else [""]
            rows += [_damage_row(drawn, name, control, strength) for name in names if len(drawn)]
    return rows


def _damage_row(rows: pd.DataFrame, direction: str, control: str, strength: float) -> DamageRow:
    rows = rows_where(rows, direction=direction) if direction else rows
    known = [name for name in DAMAGE_FIGURES if name in rows.columns]
    before = [name for name in known if f"{name}_unedited" in rows.columns]
    return DamageRow(
        direction=direction,
        control=control,
        strength=strength,
        n=float(column_floats(rows, "n").mean()),
        n_draws=len(rows),
        figures={name: float(column_floats(rows, name).mean()) for name in known},
        unedited={name: float(column_floats(rows, f"{name}_unedited").mean()) for name in before},
    )
