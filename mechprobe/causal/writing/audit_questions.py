"""What a model still knows under an edit: its accuracy on questions whose answers stand in the transcripts.

The organism's audit questions ask whether single thoughts were held; those about other thoughts than the edited one
should be answered as before.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechprobe.causal.cases import render_pairs
from mechprobe.causal.effects import BATCH_TOKENS, grid_batches
from mechprobe.causal.outcomes import AnswerTokens, read_outcome
from mechprobe.causal.writing.pushes import PushTable
from mechprobe.errors import DataError
from mechprobe.models.batches import TokenBatch
from mechprobe.models.rendering import ROLES
from mechprobe.models.subject import Subject
from mechprobe.transcripts.pairs import MatchedPair


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AuditQuestions:
    """Questions with the tokens that are edited before each, and their right answers."""

    token_ids: tuple[tuple[int, ...], ...]
    """Up to where the answer is read."""
    positions: Int[Tensor, "case site"]
    """The assistant's tokens; -1 fills up."""
    answers: AnswerTokens
    is_yes: Bool[np.ndarray, "case"]
    """Whether the right answer is one of the outcome's bad ones."""
    indicators: tuple[str, ...]
    """What each question asks about."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AuditAnswers:
    """How the questions are answered."""

    is_right: Bool[np.ndarray, "condition case"]
    mass: Float[np.ndarray, "condition case"]
    """Probability on the outcome's answers."""
    indicators: tuple[str, ...]

    def accuracy(self, condition: int, *, without: str = "") -> float:
        """Share that is right, of the questions about other indicators than one; NaN if there are none."""
        kept = np.array([name != without for name in self.indicators], dtype=bool)
        return float(self.is_right[condition, kept].mean()) if kept.any() else float("nan")


def audit_questions(
    subject: Subject, pairs: Sequence[MatchedPair], *, outcome: str = "audit", n: int = 48
) -> AuditQuestions:
    """The questions of the natural sides of up to `n` pairs, spread over indicators and sides.

    Raises:
        DataError: no pair has such an outcome whose answer in the text is one of its answers.
    """
    chosen = _spread([p for p in pairs if any(o.name == outcome for o in p.outcomes)], n)
    token_ids: list[tuple[int, ...]] = []
    assistant: list[list[int]] = []
    is_yes: list[bool] = []
    kept: list[int] = []
    rendered = render_pairs(subject, chosen)
    for index, (pair, one) in enumerate(zip(chosen, rendered, strict=True)):
        side = one.sides[pair.natural]
        at = side.reads[outcome].at
        answer = int(side.token_ids[at + 1])
        known = one.outcomes[outcome]
        if answer not in known.bad and answer not in known.good:
            continue
        rendering = subject.render(pair.positive if pair.natural == "positive" else pair.negative)
        found = np.flatnonzero(rendering.role[: at + 1] == ROLES.index("assistant"))
        token_ids.append(tuple(side.token_ids[: at + 1].tolist()))
        assistant.append(found.tolist())
        is_yes.append(answer in known.bad)
        kept.append(index)
    if not kept:
        raise DataError(
            f"none of {len(pairs)} pairs has an outcome {outcome!r} whose answer stands in its text, so there is no "
            "question to ask; give pairs with audit questions."
        )
    width = max(len(row) for row in assistant)
    return AuditQuestions(
        token_ids=tuple(token_ids),
        positions=torch.tensor([[*row, *[-1] * (width - len(row))] for row in assistant]),
        answers=AnswerTokens.of([rendered[i].outcomes[outcome] for i in kept]),
        is_yes=np.array(is_yes),
        indicators=tuple(rendered[i].indicator for i in kept),
    )


def ask(
    subject: Subject,
    questions: AuditQuestions,
    pushes: PushTable | None = None,
    *,
    batch_tokens: int = BATCH_TOKENS,
) -> AuditAnswers:
    """Answer every question under each push at all of the assistant's tokens, or unedited (one condition)."""
    n_conditions = 1 if pushes is None else len(pushes.amounts)
    shape = n_conditions, len(questions.token_ids)
    lengths = np.array([len(ids) for ids in questions.token_ids])
    is_right, mass = np.zeros(shape, dtype=bool), np.full(shape, np.nan)
    for condition, case in grid_batches(lengths, n_conditions, batch_tokens):
        rows = torch.from_numpy(case)
        edits = (
            []
            if pushes is None
            else [pushes.at(questions.positions[rows], torch.from_numpy(condition))]
        )
        batch = TokenBatch.of([questions.token_ids[i] for i in case], subject.pad_id)
        logits = subject.run(batch, edits=edits, positions=torch.from_numpy(lengths[case] - 1))
        found, share = read_outcome(logits, questions.answers.pick(rows))
        is_right[condition, case] = (found > 0).cpu().numpy() == questions.is_yes[case]
        mass[condition, case] = share.cpu().numpy()
    return AuditAnswers(is_right=is_right, mass=mass, indicators=questions.indicators)


def _spread(pairs: Sequence[MatchedPair], n: int) -> list[MatchedPair]:
    """Up to `n` pairs, one of each indicator and natural side in turn."""
    groups: dict[tuple[str, str], list[MatchedPair]] = {}
    for pair in pairs:
        groups.setdefault((pair.indicator, pair.natural), []).append(pair)
    longest = max((len(group) for group in groups.values()), default=0)
    mixed = [g[rank] for rank in range(longest) for g in groups.values() if rank < len(g)]
    return mixed[:n]
