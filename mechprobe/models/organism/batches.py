"""Scenes as training sequences: token ids, the weight of each token's loss, and padded batches of similar length."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechprobe.models.organism.text import Audit
from mechprobe.models.organism.tokenizer import (
    BOS,
    END,
    PAD,
    ROLE_TOKENS,
    THINK_END,
    THINK_START,
    vocabulary,
)
from mechprobe.models.organism.world import Scene

THOUGHT_WEIGHT = 0.3
ANSWER_WEIGHT = 4.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One training sequence: token ids, and the weight of the loss of predicting each."""

    token_ids: Int[np.ndarray, "tok"]
    weights: Float[np.ndarray, "tok"]


def encode(scene: Scene, action: str, audits: tuple[Audit, ...]) -> Example:
    """Token ids as the chat template would render them (tests compare), with the weights of the loss."""
    return encode_turns([scene], [action], audits)


def encode_turns(
    scenes: Sequence[Scene], actions: Sequence[str], audits: tuple[Audit, ...]
) -> Example:
    """A conversation of several tasks under the first scene's goal; the audits ask about the last one's thoughts."""
    first = [BOS, ROLE_TOKENS["system"], *scenes[0].system_text.split(), END]
    pieces = [(first, 0.0)]
    for scene, action in zip(scenes, actions, strict=True):
        pieces += [
            (_asked(scene.user_text), 0.0),
            ([THINK_START], 0.0),
            ([*scene.reasoning.split(), THINK_END], THOUGHT_WEIGHT),
            ([action], ANSWER_WEIGHT),
            ([END], THOUGHT_WEIGHT),
        ]
    for audit in audits:
        pieces += [
            (_asked(audit.question), 0.0),
            ([audit.answer], ANSWER_WEIGHT),
            ([END], THOUGHT_WEIGHT),
        ]
    ids = vocabulary_ids()
    return Example(
        token_ids=np.array([ids[word] for words, _ in pieces for word in words], dtype=np.int64),
        weights=np.repeat(
            np.array([weight for _, weight in pieces], dtype=np.float32),
            [len(words) for words, _ in pieces],
        ),
    )


def _asked(text: str) -> list[str]:
    """A user message, and the header of what the assistant says to it."""
    return [ROLE_TOKENS["user"], *text.split(), END, ROLE_TOKENS["assistant"]]


_IDS = vocabulary(2)


def vocabulary_ids() -> dict[str, int]:
    """Both vocabularies, built once; the ids of the first are the same without the second."""
    return _IDS


def length_batches(
    examples: list[Example], batch_size: int, rng: np.random.Generator
) -> Iterator[list[Example]]:
    """Batches of examples of similar length, for ever, shuffled anew each epoch."""
    lengths = np.array([len(example.token_ids) for example in examples])
    while True:
        order = np.argsort(lengths + 6 * rng.random(len(examples)), kind="stable")
        for start in rng.permutation(len(examples) // batch_size):
            chosen = order[start * batch_size : (start + 1) * batch_size]
            yield [examples[i] for i in chosen]


def pad_batch(
    batch: list[Example],
) -> tuple[Int[Tensor, "case pos"], Float[Tensor, "case pos"]]:
    """Pad on the right; padding has weight 0 and stands behind every real token."""
    width = max(len(example.token_ids) for example in batch)
    ids = np.full((len(batch), width), _IDS[PAD], dtype=np.int64)
    weights = np.zeros((len(batch), width), dtype=np.float32)
    for row, example in enumerate(batch):
        ids[row, : len(example.token_ids)] = example.token_ids
        weights[row, : len(example.token_ids)] = example.weights
    return torch.from_numpy(ids), torch.from_numpy(weights)
