"""The tables of free text: rates, and the texts that an edit changed most beside their unedited twins."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Float

from mechprobe.causal.writing.free_runs import (
    FreeRuns,
    FreeText,
    PlanRule,
    RateChange,
    action_rate,
    plan_rate,
)
from mechprobe.causal.writing.pushes import EditName
from mechprobe.causal.writing.text_figures import distinct_n, edit_distances, repetition
from mechprobe.models.subject import Subject

FREE_COLUMNS = (
    *("indicator", "direction", "where", "side", "operation", "strength", "amount"),
    *("control", "draw", "n", "n_readable", "unreadable", "unreadable_unedited"),
    *("rate", "low", "high", "rate_unedited", "difference", "difference_low", "difference_high"),
    *("anti_share", "plan_rate", "plan_rate_unedited", "plan_difference"),
    *("plan_difference_low", "plan_difference_high"),
    *("distinct_1", "distinct_1_unedited", "distinct_2", "distinct_2_unedited"),
    *("repetition", "repetition_unedited", "change", "effect", "mass"),
)
GENERATION_COLUMNS = (
    *("indicator", "direction", "operation", "strength", "control", "pair_id", "prompt_tail"),
    *("unedited_text", "edited_text", "unedited_action", "edited_action", "change"),
)
TAIL_TOKENS = 24
"""Last tokens of a prompt that a reader is shown."""
PlanRules = Callable[[str], PlanRule]
"""Indicator -> the rule that says whether a text holds its thought."""
Row = dict[str, object]


def free_rows(
    runs: FreeRuns, *, plan: PlanRules | None = None, indicators: Sequence[str] = ()
) -> Iterator[Row]:
    """A row (FREE_COLUMNS) for each edit.

    Args:
        plan: how to see that a thought is written; None leaves the plan's columns NaN.
        indicators: edits of no indicator (shared controls) get a row for each of these.
    """
    for condition, name in enumerate(runs.names):
        change = action_rate(runs, condition)
        for indicator in (name.indicator,) if name.indicator or not indicators else indicators:
            rule = plan(indicator) if plan is not None and indicator else None
            written = None if rule is None else plan_rate(runs, condition, rule)
            yield {"indicator": indicator} | _row(runs, condition, name, change, written)


def generation_rows(
    subject: Subject, runs: FreeRuns, *, n_most_changed: int | None = 5
) -> Iterator[Row]:
    """A row (GENERATION_COLUMNS) for the most changed texts of each edit, the most changed first.

    Args:
        n_most_changed: None for all texts.
    """
    for condition, name in enumerate(runs.names):
        change = change_scores(runs.unedited, runs.edited[condition])
        order = np.argsort(-change, kind="stable")[:n_most_changed]
        for text in order.tolist():
            prompt = runs.prompts[text // runs.n_samples]
            before, after = runs.unedited[text], runs.edited[condition][text]
            yield {
                "indicator": name.indicator,
                "direction": name.direction,
                "operation": name.operation,
                "strength": name.strength,
                "control": name.control,
                "pair_id": prompt.id,
                "prompt_tail": subject.tokenizer.decode(list(prompt.token_ids[-TAIL_TOKENS:])),
                "unedited_text": before.text,
                "edited_text": after.text,
                "unedited_action": before.action,
                "edited_action": after.action,
                "change": float(change[text]),
            }


def change_scores(
    unedited: Sequence[FreeText], edited: Sequence[FreeText]
) -> Float[np.ndarray, "text"]:
    """Token edit distance over the longer text's length, and 1 more where the action is another."""
    distance = edit_distances(
        [one.token_ids for one in unedited], [one.token_ids for one in edited]
    )
    is_other = [a.action != b.action for a, b in zip(unedited, edited, strict=True)]
    return distance + np.array(is_other, dtype=float)


def _row(
    runs: FreeRuns,
    condition: int,
    name: EditName,
    change: RateChange,
    written: RateChange | None,
) -> Row:
    before = [one.token_ids for one in runs.unedited]
    after = [one.token_ids for one in runs.edited[condition]]
    sides = {prompt.side or "" for prompt in runs.prompts}
    lost = np.mean([one.is_bad is None for one in runs.unedited])
    nan = float("nan")
    return {
        "direction": name.direction,
        "where": runs.where,
        "side": sides.pop() if len(sides) == 1 else "both",
        "operation": name.operation,
        "strength": name.strength,
        "amount": name.amount,
        "control": name.control,
        "draw": name.draw,
        "n": change.n,
        "n_readable": change.n_readable,
        "unreadable": 1 - change.n_readable / change.n,
        "unreadable_unedited": float(lost),
        "rate": change.edited.value,
        "low": change.edited.low,
        "high": change.edited.high,
        "rate_unedited": change.unedited.value,
        "difference": change.difference.value,
        "difference_low": change.difference.low,
        "difference_high": change.difference.high,
        "anti_share": change.anti_share,
        "plan_rate": nan if written is None else written.edited.value,
        "plan_rate_unedited": nan if written is None else written.unedited.value,
        "plan_difference": nan if written is None else written.difference.value,
        "plan_difference_low": nan if written is None else written.difference.low,
        "plan_difference_high": nan if written is None else written.difference.high,
        "distinct_1": distinct_n(after, 1),
        "distinct_1_unedited": distinct_n(before, 1),
        "distinct_2": distinct_n(after, 2),
        "distinct_2_unedited": distinct_n(before, 2),
        "repetition": repetition(after),
        "repetition_unedited": repetition(before),
        "change": float(change_scores(runs.unedited, runs.edited[condition]).mean()),
        "effect": nan,
        "mass": nan,
    }
