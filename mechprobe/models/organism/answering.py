"""How many actions of given transcripts a model gets right: teacher-forced, the thoughts and earlier turns as written."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from mechprobe.errors import DataError
from mechprobe.models.batches import TokenBatch
from mechprobe.models.organism.batches import vocabulary_ids
from mechprobe.models.organism.vocabulary import ACTIONS, HELP
from mechprobe.models.rendering import SECTIONS
from mechprobe.models.subject import Subject
from mechprobe.transcripts.transcript import Transcript

BATCH_SIZE = 64


def action_accuracy(subject: Subject, transcripts: Sequence[Transcript]) -> dict[int, float]:
    """Turn -> share of its actions that the model would have chosen.

    Raises:
        DataError: no transcript has an action.
    """
    cases = [case for transcript in transcripts for case in _cases(subject, transcript)]
    if not cases:
        raise DataError("no transcript has a turn with thoughts and an action; draw some first.")
    right: dict[int, list[bool]] = {}
    for start in range(0, len(cases), BATCH_SIZE):
        part = cases[start : start + BATCH_SIZE]
        batch = TokenBatch.of([ids for _, ids, _ in part], subject.pad_id)
        positions = torch.tensor([len(ids) - 1 for _, ids, _ in part])
        chosen = subject.run(batch, positions=positions).argmax(-1).tolist()
        for (turn, _, wanted), found in zip(part, chosen, strict=True):
            right.setdefault(turn, []).append(found == wanted)
    return {turn: float(np.mean(found)) for turn, found in sorted(right.items())}


def _cases(subject: Subject, transcript: Transcript) -> Iterator[tuple[int, list[int], int]]:
    """Turn, tokens before its action, and the action's token."""
    rendering = subject.render(transcript)
    actions = {vocabulary_ids()[word] for word in (*ACTIONS, HELP)}
    for at in np.flatnonzero(rendering.section == SECTIONS.index("answer")):
        if int(rendering.token_ids[at]) in actions:
            yield (
                int(rendering.turn[at]),
                rendering.token_ids[:at].tolist(),
                int(rendering.token_ids[at]),
            )
