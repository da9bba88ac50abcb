"""Batches of scenes beside their flips: what training on interchanges and against probes reads.

A flip exchanges the frames of two clauses of opposite attitude, so both runs have the same words, the same length and
their clauses at the same positions; which thoughts are held, the action and the audit answers may differ.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechprobe.errors import ConfigError
from mechprobe.models.organism.batches import (
    ANSWER_WEIGHT,
    Example,
    encode,
    pad_batch,
    vocabulary_ids,
)
from mechprobe.models.organism.datasets import swap_frames
from mechprobe.models.organism.roles import RoleTable
from mechprobe.models.organism.text import Audit, draw_audits
from mechprobe.models.organism.vocabulary import CLAUSE_END, INDICATORS, NO, YES
from mechprobe.models.organism.world import Clause, Scene, World

ClausePosition = Literal["span_last", "after_span"]
BROKEN_SHARE = 0.35
N_AUDITS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class ClauseSite:
    """Where the clauses of a thought are read: one token a clause, after one block."""

    layer: int
    """Block whose output is meant, counted from 0."""
    position: ClausePosition
    """The last word of the clause, or the mark behind it."""

    def __post_init__(self) -> None:
        if self.position not in get_args(ClausePosition):
            raise ConfigError(
                f"clause position {self.position!r} is not one of {get_args(ClausePosition)}."
            )

    @property
    def hook_name(self) -> str:
        """The hook point's canonical name."""
        return f"blocks.{self.layer}.hook_out"


@dataclass(frozen=True, kw_only=True, slots=True)
class FlipBatch:
    """Scenes in the first half of the rows, their flips in the same order in the second."""

    token_ids: Int[Tensor, "case pos"]
    weights: Float[Tensor, "case pos"]
    """Weight of the loss of predicting each token; thoughts of the flips have none, since nobody thinks like that."""
    at_site: Bool[Tensor, "case pos"]
    """One token a clause."""
    held: Float[Tensor, "clause indicator"]
    """1 where a clause endorses an indicator, clauses in row order."""
    mentioned: Bool[Tensor, "clause indicator"]
    """Where a clause names an indicator, endorsed or not."""

    @property
    def n_scenes(self) -> int:
        """Scenes, not counting their flips."""
        return len(self.token_ids) // 2


def flip_batches(
    roles: RoleTable, site: ClauseSite, n_scenes: int, rng: np.random.Generator
) -> Iterator[FlipBatch]:
    """Draw batches for ever, a part of their scenes with independent clauses."""
    world = World(roles=roles)
    while True:
        drawn = [_draw(world, rng) for _ in range(n_scenes)]
        scenes = [scene for scene, _, _ in drawn] + [flip for _, flip, _ in drawn]
        audits = [audit for _, _, audit in drawn] * 2
        examples = [
            _encode(scene, asked, roles) for scene, asked in zip(scenes, audits, strict=True)
        ]
        yield _batch(examples, scenes, site)


def _draw(world: World, rng: np.random.Generator) -> tuple[Scene, Scene, tuple[Audit, ...]]:
    while True:
        kind = "broken" if rng.random() < BROKEN_SHARE else "natural"
        scene = world.scene(rng, kind)
        swaps = [
            (i, j)
            for i, one in enumerate(scene.clauses)
            for j, other in enumerate(scene.clauses)
            if i < j
            and one.frame.endorses != other.frame.endorses
            and (one.indicator or other.indicator)
        ]
        if swaps:
            flipped = swap_frames(scene, *swaps[int(rng.integers(len(swaps)))])
            return scene, flipped, draw_audits(rng, scene, N_AUDITS)


def _encode(scene: Scene, audits: tuple[Audit, ...], roles: RoleTable) -> Example:
    answered = tuple(
        replace(audit, answer=YES if audit.indicator in scene.held else NO) for audit in audits
    )
    return encode(scene, scene.action(roles), answered)


def _batch(examples: list[Example], scenes: list[Scene], site: ClauseSite) -> FlipBatch:
    token_ids, weights = pad_batch(examples)
    flipped = torch.arange(len(weights))[:, None] >= len(weights) // 2
    weights = weights.masked_fill(flipped & (weights < ANSWER_WEIGHT), 0.0)
    at_site = token_ids == vocabulary_ids()[CLAUSE_END]
    if site.position == "span_last":
        at_site = at_site.roll(-1, dims=1)
    clauses = [clause for scene in scenes for clause in scene.clauses]
    mentioned = torch.tensor([_is_of(clause) for clause in clauses])
    endorses = torch.tensor([[clause.frame.endorses] for clause in clauses])
    return FlipBatch(
        token_ids=token_ids,
        weights=weights,
        at_site=at_site,
        held=(mentioned & endorses).float(),
        mentioned=mentioned,
    )


def _is_of(clause: Clause) -> list[bool]:
    return [clause.indicator == name for name in INDICATORS]
