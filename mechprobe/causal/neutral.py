"""What steering does to text that has nothing to do with the indicator: mean KL of the next-token distribution.

Arditi et al. (arXiv 2406.11717, section C) drop a direction that costs more than 0.1 nat on harmless text.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.causal.interventions import add_direction
from mechprobe.models.batches import TokenBatch
from mechprobe.models.rendering import ROLES
from mechprobe.models.subject import Subject
from mechprobe.transcripts.transcript import Transcript

ASSISTANT = ROLES.index("assistant")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class NeutralText:
    """Transcripts without any held indicator, and the model's own predictions on them."""

    batch: TokenBatch
    positions: Int[Tensor, "case site"]
    """The assistant's tokens, which are steered and compared; -1 fills up."""
    log_probs: Float[Tensor, "row vocab"]


def neutral_text(subject: Subject, transcripts: Iterable[Transcript], n: int) -> NeutralText | None:
    """Take the first `n` transcripts that hold no indicator; None if there are none."""
    ids: list[list[int]] = []
    tokens: list[list[int]] = []
    for transcript in transcripts:
        if len(ids) == n:
            break
        if any(span.present for span in transcript.spans):
            continue
        rendering = subject.render(transcript)
        assistant = np.flatnonzero(rendering.role == ASSISTANT).tolist()
        if assistant:
            ids.append(rendering.token_ids.tolist())
            tokens.append(assistant)
    if not ids:
        return None
    width = max(len(row) for row in tokens)
    positions = torch.tensor([[*row, *[-1] * (width - len(row))] for row in tokens])
    batch = TokenBatch.of(ids, subject.pad_id)
    logits = subject.run(batch)
    return NeutralText(
        batch=batch, positions=positions, log_probs=_at(logits, positions).log_softmax(-1)
    )


def neutral_kl(
    subject: Subject,
    neutral: NeutralText,
    hook_name: str,
    direction: Float[Tensor, "d"],
    amounts: Sequence[float],
) -> Float[np.ndarray, "amount"]:
    """Mean KL (nats a token) from the unedited to the steered predictions, for each amount added everywhere."""
    n_cases = len(neutral.positions)
    directions = direction.expand(n_cases, -1)
    found: list[float] = []
    for amount in amounts:
        pushes = torch.full(neutral.positions.shape, float(amount))
        edit = add_direction(hook_name, neutral.positions, directions, pushes)
        logits = subject.run(neutral.batch, edits=[edit])
        steered = _at(logits, neutral.positions).log_softmax(-1)
        kl = (neutral.log_probs.exp() * (neutral.log_probs - steered)).sum(-1)
        found.append(float(kl.mean()))
    return np.array(found)


def _at(
    logits: Float[Tensor, "case pos vocab"], positions: Int[Tensor, "case site"]
) -> Float[Tensor, "row vocab"]:
    case, slot = torch.nonzero(positions >= 0, as_tuple=True)
    return logits[case, positions[case, slot]].float()
