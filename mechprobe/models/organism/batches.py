"""Scenes as training sequences: token ids, the weight of each token's loss, and padded batches of similar length."""

from collections.abc import Iterator
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
    system, user, assistant = (ROLE_TOKENS[role] for role in ("system", "user", "assistant"))
    prompt = [BOS, system, *scene.system_text.split(), END, user, *scene.user_text.split(), END]
    thought = [*scene.reasoning.split(), THINK_END]
    words = [*prompt, assistant, THINK_START, *thought, action, END]
    weights = [0.0] * (len(prompt) + 2) + [THOUGHT_WEIGHT] * len(thought)
    weights += [ANSWER_WEIGHT, THOUGHT_WEIGHT]
    for audit in audits:
        question = [user, *audit.question.split(), END, assistant]
        words += [*question, audit.answer, END]
        weights += [0.0] * len(question) + [ANSWER_WEIGHT, THOUGHT_WEIGHT]
    ids = vocabulary_ids()
    return Example(
        token_ids=np.array([ids[word] for word in words], dtype=np.int64),
        weights=np.array(weights, dtype=np.float32),
    )


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
