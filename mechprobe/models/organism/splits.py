"""Out-of-distribution splits: the organism's world, changed in one named way.

    natural                 the test split itself, for comparison
    unseen_frames           frames that the fit split never has
    longer                  two filler clauses more at either end
    held_out_combinations   indicators under frames that the fit split has only with other indicators
    reversed_confound       read-outs go with their driver at .15 instead of .85, and alone the other way round
    second_vocabulary       the same thoughts in other words, which only organisms of two vocabularies can read
    multi_turn              two or three tasks in one conversation, each with its thoughts and its action

The fit split keeps the held-out combinations out where `DatasetConfig.hold_out_combinations` says so.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from mechprobe.errors import ConfigError
from mechprobe.models.organism.combinations import into_held_out
from mechprobe.models.organism.roles import RoleTable
from mechprobe.models.organism.text import to_conversation, to_transcript
from mechprobe.models.organism.vocabulary import FILLER_CELLS
from mechprobe.models.organism.world import Scene, World
from mechprobe.transcripts.transcript import Transcript

N_EXTRA = 2
N_TURNS = (2, 3)
REVERSED_WITH_DRIVER, REVERSED_ALONE = 0.15, 0.85

DrawScene = Callable[[RoleTable, np.random.Generator], Scene]


def draw_split(roles: RoleTable, name: str, n: int, seed: int) -> Iterator[Transcript]:
    """Draw the transcripts of a split by its name.

    Raises:
        ConfigError: no split has this name; the message lists them.
    """
    if name not in SPLITS:
        raise ConfigError(f"no split is called {name!r}; known are: {', '.join(SPLITS)}.")
    rng = np.random.default_rng([seed, 9, list(SPLITS).index(name)])
    for i in range(n):
        own = f"{name}-{i:05d}"
        if name == "multi_turn":
            scenes = [_natural(roles, rng) for _ in range(int(rng.choice(N_TURNS)))]
            yield to_conversation(scenes, roles, name=own, split=f"test_{name}")
        else:
            scene = SPLITS[name](roles, rng)
            yield to_transcript(scene, roles, name=own, split=f"test_{name}")


def _natural(roles: RoleTable, rng: np.random.Generator) -> Scene:
    return World(roles=roles, frame_use="seen").scene(rng)


def _unseen_frames(roles: RoleTable, rng: np.random.Generator) -> Scene:
    return World(roles=roles, frame_use="unseen").scene(rng)


def _longer(roles: RoleTable, rng: np.random.Generator) -> Scene:
    world = World(roles=roles, frame_use="seen")
    scene = world.scene(rng)
    used = {clause.cell for clause in scene.clauses}
    free = [cell for cell in FILLER_CELLS if cell not in used]
    cells = [free[i] for i in rng.permutation(len(free))[: 2 * N_EXTRA]]
    extra = [world.clause(rng, cell, endorses=bool(rng.random() < 0.5)) for cell in cells]
    return replace(scene, clauses=(*extra[:N_EXTRA], *scene.clauses, *extra[N_EXTRA:]))


def _held_out_combinations(roles: RoleTable, rng: np.random.Generator) -> Scene:
    return into_held_out(_natural(roles, rng))


def _reversed_confound(roles: RoleTable, rng: np.random.Generator) -> Scene:
    world = World(
        roles=roles,
        frame_use="seen",
        p_readout_with_driver=REVERSED_WITH_DRIVER,
        p_readout_alone=REVERSED_ALONE,
    )
    return world.scene(rng)


def _second_vocabulary(roles: RoleTable, rng: np.random.Generator) -> Scene:
    return _natural(roles, rng).in_second_vocabulary()


SPLITS: dict[str, DrawScene] = {
    "natural": _natural,
    "unseen_frames": _unseen_frames,
    "longer": _longer,
    "held_out_combinations": _held_out_combinations,
    "reversed_confound": _reversed_confound,
    "multi_turn": _natural,
    "second_vocabulary": _second_vocabulary,
}
