"""Labelled transcripts and bag-of-words-matched pairs of the organism's world.

A pair flips one thought by swapping its frame with that of a later filler clause of the opposite attitude: both sides
have the same words and the same length, and only one indicator changes. The natural side is drawn from the natural
world, so that a thought meets its partners as often as the roles say; necessity is read on pairs whose natural side
holds the thought, sufficiency on those whose natural side does not.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count, islice

import numpy as np

from mechprobe.errors import ConfigError
from mechprobe.models.organism.combinations import out_of_held_out
from mechprobe.models.organism.roles import RoleTable
from mechprobe.models.organism.text import (
    Audit,
    audit_of,
    audit_outcome,
    behavior_outcome,
    clause_span,
    draw_audits,
    to_transcript,
    unrelated_audit,
    unrelated_outcome,
)
from mechprobe.models.organism.vocabulary import INDICATORS, NO
from mechprobe.models.organism.world import Scene, World
from mechprobe.transcripts.pairs import MatchedPair, Side
from mechprobe.transcripts.transcript import Transcript

MAX_DRAWS = 20_000


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetConfig:
    """How many transcripts and pairs to draw."""

    n_fit: int = 1200
    """Transcripts that directions, probes and SAEs are fit on."""
    n_select: int = 300
    """Transcripts that layers, sites and strengths are chosen on."""
    n_test: int = 600
    """Transcripts that figures are reported on."""
    pairs_fit: int = 12
    """Matched pairs for each indicator and natural side that word baselines may learn from."""
    pairs_select: int = 10
    """Matched pairs for each indicator and natural side, for the site sweep."""
    pairs_test: int = 40
    """Matched pairs for each indicator and natural side, for the verdicts."""
    seed: int = 0
    """Seed of all draws; it is independent of the organism's own seed."""
    hold_out_combinations: bool = False
    """Keep from the fit and select transcripts the indicator and frame combinations of `combinations.py`."""

    def __post_init__(self) -> None:
        for name in ("n_fit", "n_select", "n_test", "pairs_fit", "pairs_select", "pairs_test"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1.")


def draw_transcripts(roles: RoleTable, config: DatasetConfig) -> Iterator[Transcript]:
    """Draw the fit, select and test transcripts, each scene a group of its own."""
    sizes = {"fit": config.n_fit, "select": config.n_select, "test": config.n_test}
    for number, (split, size) in enumerate(sizes.items()):
        rng = np.random.default_rng([config.seed, number])
        world = World(roles=roles, frame_use="seen")
        for i in range(size):
            scene = world.scene(rng)
            if config.hold_out_combinations and split != "test":
                scene = out_of_held_out(scene, rng)
            yield to_transcript(
                scene, roles, draw_audits(rng, scene, 1), name=f"{split}-{i:05d}", split=split
            )


def draw_unseen_frames(roles: RoleTable, n: int, seed: int) -> Iterator[Transcript]:
    """Draw transcripts whose frames never occur in the fit split (out of distribution)."""
    rng = np.random.default_rng([seed, 9])
    world = World(roles=roles, frame_use="unseen")
    for i in range(n):
        scene = world.scene(rng)
        yield to_transcript(scene, roles, name=f"unseen-{i:05d}", split="test_unseen_frames")


def draw_pairs(roles: RoleTable, config: DatasetConfig) -> Iterator[MatchedPair]:
    """Draw the matched pairs of all indicators for the fit, select and test splits.

    Raises:
        ConfigError: the natural world never shows an indicator in the wanted attitude.
    """
    sizes = {
        "fit": config.pairs_fit,
        "select": config.pairs_select,
        "test": config.pairs_test,
    }
    for number, (split, size) in enumerate(sizes.items()):
        world = World(roles=roles, frame_use="seen")
        pool = ScenePool(world=world, rng=np.random.default_rng([config.seed, 100 + number]))
        for i, indicator in enumerate(INDICATORS):
            rng = np.random.default_rng([config.seed, 200 + number, i])
            for natural in ("positive", "negative"):
                found = islice(flippable(pool, indicator, natural), size)
                for k, (scene, group, swap) in enumerate(found):
                    yield make_pair(
                        scene,
                        swap,
                        roles,
                        rng,
                        indicator=indicator,
                        natural=natural,
                        name=f"{split}-{indicator}-{natural}-{k:03d}",
                        group=f"{split}-scene-{group:05d}",
                        split=split,
                    )


@dataclass(kw_only=True, slots=True)
class ScenePool:
    """Natural scenes, drawn once and shared by all indicators; it grows as it is walked."""

    world: World
    rng: np.random.Generator
    scenes: list[Scene] = field(default_factory=list[Scene])

    def __getitem__(self, index: int) -> Scene:
        while len(self.scenes) <= index:
            self.scenes.append(self.world.scene(self.rng))
        return self.scenes[index]


def flippable(
    pool: ScenePool, indicator: str, natural: Side
) -> Iterator[tuple[Scene, int, tuple[int, int]]]:
    """Walk the pool for scenes in which this indicator can be flipped: scene, its number, clauses to swap."""
    last_found = 0
    for number in count():
        scene = pool[number]
        swap = find_swap(scene, indicator, natural)
        if swap is not None:
            last_found = number
            yield scene, number, swap
        elif number - last_found > MAX_DRAWS:
            raise ConfigError(
                f"{MAX_DRAWS} natural scenes in a row have no {natural} {indicator} clause that can "
                "be flipped; check the role table."
            )


def find_swap(scene: Scene, indicator: str, natural: Side) -> tuple[int, int] | None:
    """Index of the indicator's clause, and of a later filler clause of the opposite attitude."""
    wanted = natural == "positive"
    for i, clause in enumerate(scene.clauses):
        if clause.indicator == indicator and clause.frame.endorses == wanted:
            for j in range(i + 1, len(scene.clauses)):
                other = scene.clauses[j]
                if not other.indicator and other.frame.endorses != wanted:
                    return i, j
    return None


def make_pair(
    scene: Scene,
    swap: tuple[int, int],
    roles: RoleTable,
    rng: np.random.Generator,
    *,
    indicator: str,
    natural: Side,
    name: str,
    group: str,
    split: str,
) -> MatchedPair:
    """The scene and its flip as a pair; both sides get the same two audit questions.

    The first asks about the indicator. The second asks about a thought that has nothing to do with it, so that there is
    an outcome which must not move; it is missing where every other thought is related to the indicator.
    """
    flipped = swap_frames(scene, *swap)
    positive, negative = (scene, flipped) if natural == "positive" else (flipped, scene)
    question = audit_of(rng, indicator, positive.held)
    unrelated = unrelated_audit(rng.spawn(1)[0], scene, roles, indicator)
    more = [unrelated] if unrelated else []
    outcomes = (behavior_outcome(), audit_outcome(), *([unrelated_outcome()] if unrelated else []))

    def write(side: Scene, audit: Audit, sign: str) -> Transcript:
        return to_transcript(
            side, roles, [audit, *more], name=name + sign, group=group, split=split
        )

    return MatchedPair(
        id=name,
        indicator=indicator,
        positive=write(positive, question, "+"),
        negative=write(negative, replace(question, answer=NO), "-"),
        span=clause_span(positive, swap[0]),
        negative_span=clause_span(negative, swap[0]),
        outcomes=outcomes,
        split=split,
        natural=natural,
        partners={other: other in scene.held for other in INDICATORS if other != indicator},
    )


def swap_frames(scene: Scene, i: int, j: int) -> Scene:
    """The same scene with the frames of two clauses exchanged: the same bag of words."""
    clauses = list(scene.clauses)
    clauses[i], clauses[j] = (
        replace(clauses[i], frame=clauses[j].frame),
        replace(clauses[j], frame=clauses[i].frame),
    )
    return replace(scene, clauses=tuple(clauses))
