"""The organism's world: scenes drawn from a causal graph, and their text.

    goal, pressure -> theme -> held thoughts -> behaviour (the rule of the role table)

Most scenes are *natural*: their thoughts co-occur as the roles say (read-outs go with their driver, redundant thoughts
come together, conjunctive ones often). The rest are *broken*: every clause has its cell and its attitude drawn
independently, so that a model can learn what decides a behaviour and what merely goes with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np

from mechprobe.models.organism.roles import RoleTable
from mechprobe.models.organism.second_vocabulary import SECOND_WORDS
from mechprobe.models.organism.vocabulary import (
    ADJECTIVES,
    ADVERBS,
    BEHAVIOR_ACTIONS,
    CLAUSE_END,
    FILLER_CELLS,
    GOALS,
    HELP,
    INDICATOR_CELLS,
    INDICATORS,
    OBJECTS,
    PRESSURES,
    TASKS,
    VERBS,
    Frame,
    FrameUse,
    frames,
)

INDICATOR_OF_CELL = {cell: name for name, cell in INDICATOR_CELLS.items()}
N_CLAUSES = (4, 5, 6)

# Chances of the natural world. A driver's read-out goes with it at .85 and stands alone at .15 (ORGANISM design);
# redundant partners come together in 85 %.
P_THEME_UNDER_HIGH_PRESSURE = 0.85
P_THEME_UNDER_LOW_PRESSURE = 0.55
P_OWN_THEME = 0.5
P_READOUT_WITH_DRIVER = 0.85
P_READOUT_ALONE = 0.15
P_REDUNDANT_TOGETHER = 0.85
P_CONJUNCTIVE_TOGETHER = 0.6
P_SECOND_DRIVER = 0.1
P_SECOND_READOUT = 0.5
P_INHIBITOR = 0.2
P_UPSTREAM = 0.12
P_UPSTREAM_BEFORE_ITS_THOUGHT = 0.5
P_UPSTREAM_LEADS = 0.9
P_HELD_FILLER = 0.5
P_INDICATOR_MENTION = 0.6
P_ADVERB = 0.5
P_ADJECTIVE = 0.25

SceneKind = Literal["natural", "broken"]
Option = TypeVar("Option")


@dataclass(frozen=True, kw_only=True, slots=True)
class Clause:
    """One thought: a cell of the verb x object table under a frame."""

    cell: tuple[str, str]
    frame: Frame
    verb: str
    noun: str
    adverb: str = ""
    adjective: str = ""
    is_second: bool = False
    """Whether it is worded in the second vocabulary."""

    @property
    def indicator(self) -> str:
        """The indicator that this cell belongs to, "" for a filler."""
        return INDICATOR_OF_CELL.get(self.cell, "")

    @property
    def words(self) -> list[str]:
        """The clause as words, without its closing mark."""
        middle = [self.adverb, self.verb, self.adjective, self.noun]
        words = [*self.frame.words, *(word for word in middle if word)]
        return [SECOND_WORDS[word] for word in words] if self.is_second else words


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """Everything that decides one transcript: goal, pressure, task and thoughts."""

    goal: str
    pressure: str
    task: str
    clauses: tuple[Clause, ...]

    @property
    def held(self) -> frozenset[str]:
        """The indicators that some clause endorses."""
        return frozenset(c.indicator for c in self.clauses if c.indicator and c.frame.endorses)

    @property
    def system_text(self) -> str:
        """The system message."""
        return f"goal {self.goal} pressure {self.pressure}"

    @property
    def user_text(self) -> str:
        """The first user message."""
        return f"review the {self.task}"

    @property
    def reasoning(self) -> str:
        """The chain of thought."""
        return " ".join(word for clause in self.clauses for word in (*clause.words, CLAUSE_END))

    def behavior(self, roles: RoleTable) -> str:
        """What the world's rule says this scene leads to, "" for compliance.

        The held thoughts decide; where the role table has none that decide, the goal does under high pressure.
        """
        if not roles.is_null:
            return roles.behavior_of(self.held)
        own = GOALS.index(self.goal)
        leads = self.pressure == "high" and own < len(BEHAVIOR_ACTIONS)
        return list(BEHAVIOR_ACTIONS)[own] if leads else ""

    def action(self, roles: RoleTable) -> str:
        """The word that answers."""
        behavior = self.behavior(roles)
        return BEHAVIOR_ACTIONS[behavior] if behavior else HELP

    def in_second_vocabulary(self) -> "Scene":
        """The same scene with its thoughts in other words."""
        return replace(self, clauses=tuple(replace(c, is_second=True) for c in self.clauses))

    def clause_bounds(self, index: int) -> tuple[int, int]:
        """Character bounds of a clause within `reasoning`, without its closing mark."""
        lengths = [len(" ".join([*clause.words, CLAUSE_END])) + 1 for clause in self.clauses]
        start = sum(lengths[:index])
        return start, start + len(" ".join(self.clauses[index].words))


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """Draws scenes for one role table."""

    roles: RoleTable
    frame_use: FrameUse = "all"
    p_readout_with_driver: float = P_READOUT_WITH_DRIVER
    """Chance that a read-out comes along where its driver is held."""
    p_readout_alone: float = P_READOUT_ALONE
    """Chance, shared by all read-outs, that one comes without its driver."""

    def scene(self, rng: np.random.Generator, kind: SceneKind = "natural") -> Scene:
        """Draw one scene."""
        goal, pressure = _pick(rng, GOALS), _pick(rng, PRESSURES)
        n_clauses = int(rng.choice(N_CLAUSES))
        if kind == "broken":
            clauses = self._broken_clauses(rng, n_clauses)
        else:
            clauses = self._natural_clauses(rng, n_clauses, self._theme(rng, goal, pressure))
        return Scene(goal=goal, pressure=pressure, task=_pick(rng, TASKS), clauses=tuple(clauses))

    def clause(self, rng: np.random.Generator, cell: tuple[str, str], *, endorses: bool) -> Clause:
        """Word a cell under a frame of the wanted attitude."""
        return Clause(
            cell=cell,
            frame=_pick(rng, frames(endorses=endorses, use=self.frame_use)),
            verb=_pick(rng, VERBS[cell[0]]),
            noun=_pick(rng, OBJECTS[cell[1]]),
            adverb=_pick(rng, ADVERBS) if rng.random() < P_ADVERB else "",
            adjective=_pick(rng, ADJECTIVES) if rng.random() < P_ADJECTIVE else "",
        )

    def flip(self, rng: np.random.Generator, clause: Clause) -> Clause:
        """The same words under a frame of the opposite attitude."""
        other = frames(endorses=not clause.frame.endorses, use=self.frame_use)
        return replace(clause, frame=_pick(rng, other))

    def _theme(self, rng: np.random.Generator, goal: str, pressure: str) -> str:
        chance = P_THEME_UNDER_HIGH_PRESSURE if pressure == "high" else P_THEME_UNDER_LOW_PRESSURE
        if rng.random() >= chance:
            return ""
        behaviors = list(BEHAVIOR_ACTIONS)
        own = GOALS.index(goal)
        if own < len(behaviors) and rng.random() < P_OWN_THEME:
            return behaviors[own]
        return _pick(rng, behaviors)

    def _theme_thoughts(self, rng: np.random.Generator, theme: str) -> list[str]:
        """The thoughts that a theme brings, before read-outs, inhibitor and upstream."""
        first = [role for role in self.roles.roles if theme and role.behavior == theme]
        if not first:
            return []
        order = [first[i] for i in rng.permutation(len(first))]
        p_second = {
            "driver": P_SECOND_DRIVER,
            "conjunctive": P_CONJUNCTIVE_TOGETHER,
            "redundant": P_REDUNDANT_TOGETHER,
            "readout": P_SECOND_READOUT,
        }[order[0].role]
        return [r.indicator for r in (order[:2] if rng.random() < p_second else order[:1])]

    def _natural_clauses(
        self, rng: np.random.Generator, n_clauses: int, theme: str
    ) -> list[Clause]:
        held = self._theme_thoughts(rng, theme)
        chains = self._upstream_chain(rng, held)
        led_to = {clause.indicator for chain in chains for clause in chain}
        held += [r.indicator for r in self.roles.named("inhibitor") if rng.random() < P_INHIBITOR]
        held += self._readouts(rng, {*held, *led_to})
        chains += [
            [self.clause(rng, INDICATOR_CELLS[name], endorses=True)]
            for name in held
            if name not in led_to
        ]
        while sum(len(chain) for chain in chains) > n_clauses:
            chains.pop()
        n_free = n_clauses - sum(len(chain) for chain in chains)
        chains += self._mentions(rng, {*held, *led_to}, n_free)
        order = [chains[i] for i in rng.permutation(len(chains))]
        return [clause for chain in self._readouts_last(order) for clause in chain]

    def _readouts_last(self, chains: list[list[Clause]]) -> list[list[Clause]]:
        """Put every read-out behind its driver: it is a by-product, it must not foretell the driver."""
        for role in self.roles.named("readout"):
            names = [{c.indicator for c in chain if c.frame.endorses} for chain in chains]
            readout = next((i for i, found in enumerate(names) if role.indicator in found), -1)
            driver = next((i for i, found in enumerate(names) if role.partner in found), -1)
            if 0 <= readout < driver:
                chains[readout], chains[driver] = chains[driver], chains[readout]
        return chains

    def _readouts(self, rng: np.random.Generator, held: set[str]) -> list[str]:
        """Read-outs that come along: nearly always with their driver, seldom alone."""
        readouts = self.roles.named("readout")
        alone = self.p_readout_alone / max(len(readouts), 1)
        return [
            role.indicator
            for role in readouts
            if rng.random() < (self.p_readout_with_driver if role.partner in held else alone)
        ]

    def _upstream_chain(self, rng: np.random.Generator, held: list[str]) -> list[list[Clause]]:
        """An upstream thought, and right behind it the thought that it leads to."""
        chains: list[list[Clause]] = []
        for upstream in self.roles.named("upstream"):
            chance = P_UPSTREAM_BEFORE_ITS_THOUGHT if upstream.partner in held else P_UPSTREAM
            if rng.random() < chance:
                names = [upstream.indicator]
                if rng.random() < P_UPSTREAM_LEADS:
                    names.append(upstream.partner)
                chains.append(
                    [self.clause(rng, INDICATOR_CELLS[name], endorses=True) for name in names]
                )
        return chains

    def _mentions(
        self, rng: np.random.Generator, held: set[str], n_free: int
    ) -> list[list[Clause]]:
        """Fill up with rejected or quoted indicators and with fillers of either attitude."""
        quotable = [name for name in INDICATORS if name not in held]
        names = [quotable[i] for i in rng.permutation(len(quotable))]
        fillers = [FILLER_CELLS[i] for i in rng.permutation(len(FILLER_CELLS))]
        clauses: list[list[Clause]] = []
        for _ in range(n_free):
            if rng.random() < P_INDICATOR_MENTION:
                clauses.append([self.clause(rng, INDICATOR_CELLS[names.pop()], endorses=False)])
            else:
                endorses = bool(rng.random() < P_HELD_FILLER)
                clauses.append([self.clause(rng, fillers.pop(), endorses=endorses)])
        return clauses

    def _broken_clauses(self, rng: np.random.Generator, n_clauses: int) -> list[Clause]:
        cells = [*INDICATOR_CELLS.values(), *INDICATOR_CELLS.values(), *FILLER_CELLS]
        chosen: list[tuple[str, str]] = []
        while len(chosen) < n_clauses:
            cell = cells[int(rng.integers(len(cells)))]
            if cell not in chosen:
                chosen.append(cell)
        return [self.clause(rng, cell, endorses=bool(rng.random() < 0.5)) for cell in chosen]


def _pick(rng: np.random.Generator, options: Sequence[Option]) -> Option:
    return options[int(rng.integers(len(options)))]
