"""What an edit does to text that has nothing to do with the indicator: the next token's distribution and its loss.

Arditi et al. (arXiv 2406.11717, section C) drop a direction that costs more than 0.1 nat on harmless text.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechprobe.causal.writing.pushes import PushTable
from mechprobe.errors import DataError, ModelError
from mechprobe.models.batches import TokenBatch
from mechprobe.models.rendering import ROLES, SECTIONS, Rendering
from mechprobe.models.subject import Subject
from mechprobe.transcripts.transcript import Transcript

ASSISTANT = ROLES.index("assistant")
SCAFFOLD, HEADER = SECTIONS.index("scaffold"), SECTIONS.index("header")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class NeutralText:
    """Transcripts without any held indicator, and the model's own predictions on them."""

    transcripts: tuple[Transcript, ...]
    batch: TokenBatch
    positions: Int[Tensor, "case site"]
    """The assistant's tokens, which are edited; -1 fills up."""
    read_at: Int[Tensor, "row 2"]
    """Case and token before each that the assistant wrote itself; predictions are compared there. What it predicts of
    the user's words and of the template's marks was never trained, and would drown the rest."""
    next_ids: Int[Tensor, "row"]
    """The token that stands after each."""
    log_probs: Float[Tensor, "row vocab"]

    @property
    def cross_entropy(self) -> float:
        """Mean loss of the text that stands there, nats a token."""
        return float(_loss(self.log_probs, self.next_ids))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class NeutralChange:
    """What each push does to neutral text."""

    kl: Float[np.ndarray, "condition"]
    """Mean KL from the unedited to the edited predictions, nats a token."""
    cross_entropy: Float[np.ndarray, "condition"]
    """Edited minus unedited mean loss of the text that stands there, nats a token."""


def neutral_text(subject: Subject, transcripts: Iterable[Transcript], n: int) -> NeutralText | None:
    """Take the first `n` transcripts that hold no indicator; None if there are none.

    Raises:
        ModelError: the model's own predictions are not numbers.
    """
    kept: list[Transcript] = []
    ids: list[list[int]] = []
    tokens: list[list[int]] = []
    read_at: list[tuple[int, int]] = []
    for transcript in transcripts:
        if len(ids) == n:
            break
        if any(span.present for span in transcript.spans):
            continue
        rendering = subject.render(transcript)
        is_assistant = rendering.role == ASSISTANT
        before = np.flatnonzero(_is_written(rendering)[1:]).tolist()
        if before:
            read_at += [(len(ids), position) for position in before]
            kept.append(transcript)
            ids.append(rendering.token_ids.tolist())
            tokens.append(np.flatnonzero(is_assistant).tolist())
    if not ids:
        return None
    width = max(len(row) for row in tokens)
    batch = TokenBatch.of(ids, subject.pad_id)
    where = torch.tensor(read_at)
    log_probs = _at(subject.run(batch), where).log_softmax(-1)
    if bool(log_probs.isnan().any()):
        raise ModelError(
            f"{subject.name} predicts NaN on neutral text without any edit; load it as float32."
        )
    return NeutralText(
        transcripts=tuple(kept),
        batch=batch,
        positions=torch.tensor([[*row, *[-1] * (width - len(row))] for row in tokens]),
        read_at=where,
        next_ids=batch.token_ids[where[:, 0], where[:, 1] + 1],
        log_probs=log_probs,
    )


def needed(neutral: NeutralText | None) -> NeutralText:
    """The neutral text.

    Raises:
        DataError: there is none.
    """
    if neutral is None:
        raise DataError(
            "no transcript is without a held indicator, so there is no neutral text to measure damage on; give some "
            "transcripts whose spans are all absent or that have none."
        )
    return neutral


def neutral_change(subject: Subject, neutral: NeutralText, pushes: PushTable) -> NeutralChange:
    """What each push at all of the assistant's tokens does to the tokens that the assistant chooses.

    Each is a pass of the shape of the unedited one, so that a push by nothing is exactly 0.
    """
    n_cases = len(neutral.positions)
    kl: list[float] = []
    change: list[float] = []
    unedited = neutral.cross_entropy
    for condition in range(len(pushes.amounts)):
        edit = pushes.at(neutral.positions, torch.full((n_cases,), condition))
        logits = subject.run(neutral.batch, edits=[edit])
        edited = _at(logits, neutral.read_at).log_softmax(-1)
        kl.append(float((neutral.log_probs.exp() * (neutral.log_probs - edited)).sum(-1).mean()))
        change.append(float(_loss(edited, neutral.next_ids)) - unedited)
    return NeutralChange(kl=np.array(kl), cross_entropy=np.array(change))


def neutral_kl(
    subject: Subject,
    neutral: NeutralText,
    hook_name: str,
    direction: Float[Tensor, "d"],
    amounts: Sequence[float],
) -> Float[np.ndarray, "amount"]:
    """Mean KL (nats a token) from the unedited to the steered predictions, for each amount added everywhere."""
    steps = torch.tensor([float(amount) for amount in amounts])
    pushes = PushTable.steering(hook_name, direction.expand(len(steps), -1), steps)
    return neutral_change(subject, neutral, pushes).kl


def _is_written(rendering: Rendering) -> Bool[np.ndarray, "tok"]:
    """The tokens that an assistant writes itself: from the first of its message's text to the message's end."""
    found = np.zeros(len(rendering.token_ids), dtype=bool)
    is_text = (rendering.section != SCAFFOLD) & (rendering.section != HEADER)
    for message in np.unique(rendering.message[rendering.role == ASSISTANT]).tolist():
        is_own = rendering.message == message
        found |= is_own & (np.cumsum(is_own & is_text) > 0)
    return found


def _at(
    logits: Float[Tensor, "case pos vocab"], read_at: Int[Tensor, "row 2"]
) -> Float[Tensor, "row vocab"]:
    return logits[read_at[:, 0], read_at[:, 1]].float()


def _loss(log_probs: Float[Tensor, "row vocab"], next_ids: Int[Tensor, "row"]) -> Tensor:
    return -log_probs.gather(1, next_ids.to(log_probs.device)[:, None]).mean()
