"""What edits do to everything that has nothing to do with the indicator, each beside the unedited model.

Four kinds of damage: the predictions on neutral text (KL) and their loss on it (cross-entropy), the variety of text
that is written freely on from neutral prompts, and the accuracy on questions about other thoughts.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mechprobe.causal.checks.controls import random_directions
from mechprobe.causal.writing.audit_questions import AuditAnswers, AuditQuestions, ask
from mechprobe.causal.writing.free_prompts import prompts_of_transcripts
from mechprobe.causal.writing.free_runs import FreeText, Writing, run_free
from mechprobe.causal.writing.neutral import NeutralText, needed, neutral_change
from mechprobe.causal.writing.pushes import Push, PushTable
from mechprobe.causal.writing.text_figures import distinct_n, repetition
from mechprobe.models.subject import Subject

DAMAGE_COLUMNS = (
    *("indicator", "direction", "hook_name", "operation", "strength", "amount"),
    *("control", "draw", "n"),
    *("kl", "ce_change", "ce_unedited"),
    *("distinct_1", "distinct_1_unedited", "distinct_2", "distinct_2_unedited"),
    *("repetition", "repetition_unedited", "n_tokens", "n_tokens_unedited"),
    *("accuracy", "accuracy_unedited", "n_questions"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class TextVariety:
    """How varied freely written texts are."""

    distinct_1: float
    distinct_2: float
    repetition: float
    n_tokens: float
    """Mean length."""

    @classmethod
    def of(cls, texts: Sequence[FreeText]) -> "TextVariety":
        """Of all texts of one kind together; NaN where none was written."""
        ids = [text.token_ids for text in texts]
        return cls(
            distinct_1=distinct_n(ids, 1),
            distinct_2=distinct_n(ids, 2),
            repetition=repetition(ids),
            n_tokens=float(np.mean([len(one) for one in ids])) if ids else float("nan"),
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Damage:
    """What one push does, and what the unedited model does."""

    push: Push
    hook_name: str
    kl: float
    """Nats a token."""
    ce_change: float
    """Nats a token."""
    ce_unedited: float
    variety: TextVariety
    variety_unedited: TextVariety
    accuracy: float
    """On questions about other indicators; NaN without questions."""
    accuracy_unedited: float
    n_questions: int
    n_texts: int


def measure_damage(
    subject: Subject,
    neutral: NeutralText | None,
    pushes: Sequence[Push],
    hook_name: str,
    *,
    questions: AuditQuestions | None = None,
    writing: Writing | None = None,
    progress: Callable[[int], object] | None = None,
) -> list[Damage]:
    """Measure each push at all of the assistant's tokens; in free text at those of the message being written.

    Args:
        questions: None leaves accuracy out.
        writing: how texts are written on from the neutral transcripts' prompts; None writes none.
        progress: told the number of texts after each batch.

    Raises:
        DataError: there is no neutral text.
        HookError, ShapeError: there is no such hook point, or a push is not as wide.
    """
    text = needed(neutral)
    table = PushTable.of(hook_name, pushes)
    change = neutral_change(subject, text, table)
    unedited, edited = _written(subject, text, pushes, hook_name, writing, progress)
    clean = None if questions is None else ask(subject, questions)
    answers = None if questions is None else ask(subject, questions, table)
    return [
        Damage(
            push=push,
            hook_name=hook_name,
            kl=float(change.kl[i]),
            ce_change=float(change.cross_entropy[i]),
            ce_unedited=text.cross_entropy,
            variety=edited[i],
            variety_unedited=unedited,
            accuracy=_accuracy(answers, i, push),
            accuracy_unedited=_accuracy(clean, 0, push),
            n_questions=0
            if questions is None
            else sum(name != push.indicator for name in questions.indicators),
            n_texts=len(text.transcripts),
        )
        for i, push in enumerate(pushes)
    ]


def random_twins(push: Push, n: int, *, seed: int) -> list[Push]:
    """The same push along random directions, at the same amount: the control of its length."""
    drawn = random_directions(n, len(push.vector), seed=seed)
    return [
        Push(
            indicator=push.indicator,
            direction="random",
            operation=push.operation,
            strength=push.strength,
            control="random",
            draw=draw,
            vector=vector,
            amount=push.amount,
        )
        for draw, vector in enumerate(torch.unbind(drawn))
    ]


def damage_rows(found: Sequence[Damage]) -> Iterator[dict[str, object]]:
    """A row (DAMAGE_COLUMNS) for each push."""
    for one in found:
        push = one.push
        yield {
            "indicator": push.indicator,
            "direction": push.direction,
            "hook_name": one.hook_name,
            "operation": push.operation,
            "strength": push.strength,
            "amount": push.amount,
            "control": push.control,
            "draw": push.draw,
            "n": one.n_texts,
            "kl": one.kl,
            "ce_change": one.ce_change,
            "ce_unedited": one.ce_unedited,
            "distinct_1": one.variety.distinct_1,
            "distinct_1_unedited": one.variety_unedited.distinct_1,
            "distinct_2": one.variety.distinct_2,
            "distinct_2_unedited": one.variety_unedited.distinct_2,
            "repetition": one.variety.repetition,
            "repetition_unedited": one.variety_unedited.repetition,
            "n_tokens": one.variety.n_tokens,
            "n_tokens_unedited": one.variety_unedited.n_tokens,
            "accuracy": one.accuracy,
            "accuracy_unedited": one.accuracy_unedited,
            "n_questions": one.n_questions,
        }


def _written(
    subject: Subject,
    neutral: NeutralText,
    pushes: Sequence[Push],
    hook_name: str,
    writing: Writing | None,
    progress: Callable[[int], object] | None,
) -> tuple[TextVariety, list[TextVariety]]:
    if writing is None:
        nothing = TextVariety.of([])
        return nothing, [nothing] * len(pushes)
    prompts = prompts_of_transcripts(subject, neutral.transcripts, len(neutral.transcripts))
    runs = run_free(subject, prompts, pushes, hook_name, writing, progress=progress)
    return TextVariety.of(runs.unedited), [TextVariety.of(texts) for texts in runs.edited]


def _accuracy(answers: AuditAnswers | None, condition: int, push: Push) -> float:
    return float("nan") if answers is None else answers.accuracy(condition, without=push.indicator)
