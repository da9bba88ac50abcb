"""Turn a trained organism into another kind: more steps of the same training, with what the kind asks for.

A null organism is a natural one that goes on in a world where goal and pressure decide: the questions about thoughts
stay, so that every thought is still represented, and no thought decides anything.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mechprobe.errors import ConfigError
from mechprobe.models.organism.batches import length_batches, pad_batch
from mechprobe.models.organism.roles import RoleTable
from mechprobe.models.organism.training import (
    OrganismConfig,
    draw_examples,
    optimise,
    vocabularies_of,
    weighted_loss,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ContinuedTraining:
    """The steps that make a variant out of a natural organism."""

    n_steps: int
    """Optimiser steps."""
    batch_size: int = 64
    """Rows a step; a scene beside its flip takes two."""
    lr: float = 1.5e-3
    """Peak learning rate, after 100 steps of warm-up, cosine to a twentieth."""
    seed: int = 0
    """Seed of the scenes."""

    def __post_init__(self) -> None:
        if self.n_steps < 1 or self.batch_size < 2:
            raise ConfigError(
                f"n_steps is {self.n_steps} and batch_size {self.batch_size}; at least 1 and 2 are needed."
            )


NULL_TRAINING = ContinuedTraining(n_steps=600, lr=2e-3)


def load_weights(folder: Path) -> Any:
    """An organism's model in single precision, to be trained further."""
    from transformers import LlamaForCausalLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    return LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)


def train_null(model: Any, roles: RoleTable, config: ContinuedTraining) -> None:
    """Go on in a world where no thought decides.

    Raises:
        ConfigError: some thought of the role table decides something.
    """
    if not roles.is_null:
        raise ConfigError(
            "the role table of a null organism has only read-outs; give them `role: readout`, with the "
            "behaviour that they merely go with."
        )
    rng = np.random.default_rng([config.seed, 11])
    scenes = OrganismConfig(
        n_scenes=min(60_000, 64 * config.n_steps),
        seed=config.seed,
        vocabularies=vocabularies_of(model),
    )
    batches = length_batches(draw_examples(roles, scenes, rng), config.batch_size, rng)
    run_steps(model, lambda: weighted_loss(model, *pad_batch(next(batches))), config, "train null")


def run_steps(
    model: Any, next_loss: Callable[[], Tensor], config: ContinuedTraining, task: str
) -> None:
    """Take the configured steps."""
    optimise(model, next_loss, n_steps=config.n_steps, lr=config.lr, task=task)
