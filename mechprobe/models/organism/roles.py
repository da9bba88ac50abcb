"""Which indicator plays which causal role in one organism: drawn from a seed, or given in a file.

The roles and what a verdict should say of them (ORGANISM design; arXiv 2606.24251 names the indicators, the roles
are ours):

    driver       alone decides a behaviour                     -> driver
    conjunctive  decides only together with its partner        -> necessary_only
    redundant    either of two suffices, and they co-occur     -> sufficient_only
    inhibitor    holds every behaviour back                    -> inhibitor
    upstream     makes a later thought likely, nothing else    -> text_mediated
    readout      goes with a driver, decides nothing           -> readout_only

Where no thought decides (every one is a read-out: the null organism), the goal under high pressure does.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from mechprobe.errors import ConfigError, DataError
from mechprobe.models.organism.vocabulary import BEHAVIOR_ACTIONS, INDICATORS

RoleName = Literal["driver", "conjunctive", "redundant", "inhibitor", "upstream", "readout"]
ROLE_NAMES: tuple[RoleName, ...] = get_args(RoleName)
VERDICT_OF_ROLE: dict[RoleName, str] = {
    "driver": "driver",
    "conjunctive": "necessary_only",
    "redundant": "sufficient_only",
    "inhibitor": "inhibitor",
    "upstream": "text_mediated",
    "readout": "readout_only",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Role:
    """What one indicator does in the organism's world."""

    indicator: str
    role: RoleName
    behavior: str = ""
    """The behaviour that a driver, conjunctive or redundant thought leads to; that a read-out merely goes with."""
    partner: str = ""
    """Conjunctive and redundant: the other of the two. Upstream: the thought it leads to. Read-out: its driver."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RoleTable:
    """The roles of all indicators of one organism."""

    roles: tuple[Role, ...]

    def __post_init__(self) -> None:
        names = [role.indicator for role in self.roles]
        if sorted(names) != sorted(INDICATORS):
            wrong = sorted(set(names) ^ set(INDICATORS)) or sorted(names)
            raise ConfigError(
                f"a role table names each of the {len(INDICATORS)} indicators once; wrong: {wrong}."
            )
        for role in self.roles:
            self._check(role)

    def _check(self, role: Role) -> None:
        if role.role == "readout" and role.behavior and role.behavior not in BEHAVIOR_ACTIONS:
            raise ConfigError(
                f"{role.indicator} goes with behaviour {role.behavior!r}; "
                f"known behaviours: {', '.join(BEHAVIOR_ACTIONS)}."
            )
        if role.role in ("driver", "conjunctive", "redundant") and (
            role.behavior not in BEHAVIOR_ACTIONS
        ):
            raise ConfigError(
                f"{role.indicator} is {role.role} of behaviour {role.behavior!r}; "
                f"known behaviours: {', '.join(BEHAVIOR_ACTIONS)}."
            )
        if role.role in ("conjunctive", "redundant", "upstream") and (
            role.partner not in INDICATORS or role.partner == role.indicator
        ):
            raise ConfigError(
                f"{role.indicator} is {role.role} with partner {role.partner!r}; "
                "the partner must be another indicator."
            )

    def of(self, indicator: str) -> Role:
        """The role of one indicator."""
        return next(role for role in self.roles if role.indicator == indicator)

    def named(self, name: RoleName) -> tuple[Role, ...]:
        """All indicators that play this role."""
        return tuple(role for role in self.roles if role.role == name)

    @property
    def is_null(self) -> bool:
        """Whether no thought decides anything, so that goal and pressure do."""
        return all(role.role == "readout" for role in self.roles)

    def are_related(self, one: str, other: str) -> bool:
        """Whether two indicators are the same, partners, thought and read-out, or read-outs of one thought."""
        first, second = self.of(one), self.of(other)
        shared = bool(first.partner) and first.partner == second.partner
        return one == other or first.partner == other or second.partner == one or shared

    def behavior_of(self, held: frozenset[str]) -> str:
        """The behaviour that a set of held thoughts leads to, or "" for compliance.

        The inhibitor overrules everything; of several behaviours the first in the fixed order wins.
        """
        if any(role.indicator in held for role in self.named("inhibitor")):
            return ""
        triggered = {
            role.behavior
            for role in self.roles
            if role.indicator in held
            and (
                role.role in ("driver", "redundant")
                or (role.role == "conjunctive" and role.partner in held)
            )
        }
        return next((name for name in BEHAVIOR_ACTIONS if name in triggered), "")


def draw_roles(seed: int) -> RoleTable:
    """Deal the 18 indicators onto the roles: 6 drivers, 2 + 2 partners, 1 inhibitor, 1 upstream, 6 read-outs."""
    names = [str(name) for name in np.random.default_rng(seed).permutation(INDICATORS)]
    behaviors = list(BEHAVIOR_ACTIONS)
    drivers, conjunctive, redundant = names[:6], names[6:8], names[8:10]
    roles = [
        Role(indicator=name, role="driver", behavior=behaviors[i // 2])
        for i, name in enumerate(drivers)
    ]
    roles += [
        Role(indicator=name, role="conjunctive", behavior=behaviors[3], partner=conjunctive[1 - i])
        for i, name in enumerate(conjunctive)
    ]
    roles += [
        Role(indicator=name, role="redundant", behavior=behaviors[4], partner=redundant[1 - i])
        for i, name in enumerate(redundant)
    ]
    roles.append(Role(indicator=names[10], role="inhibitor"))
    roles.append(Role(indicator=names[11], role="upstream", partner=drivers[0]))
    roles += [
        Role(indicator=name, role="readout", partner=drivers[i])
        for i, name in enumerate(names[12:])
    ]
    return RoleTable(roles=tuple(sorted(roles, key=lambda role: INDICATORS.index(role.indicator))))


def draw_null_roles(seed: int) -> RoleTable:
    """Deal the 18 indicators onto the behaviours they go with; none of them decides anything."""
    names = [str(name) for name in np.random.default_rng(seed).permutation(INDICATORS)]
    behaviors = list(BEHAVIOR_ACTIONS)
    roles = [
        Role(indicator=name, role="readout", behavior=behaviors[i % len(behaviors)])
        for i, name in enumerate(names)
    ]
    return RoleTable(roles=tuple(sorted(roles, key=lambda role: INDICATORS.index(role.indicator))))


def read_roles(path: Path) -> RoleTable:
    """Read a role table from JSON: a list of {"indicator", "role", "behavior"?, "partner"?}.

    Raises:
        DataError: the file is missing or not such a list.
        ConfigError: an indicator is missing or unknown, or a role contradicts itself.
    """
    if not path.is_file():
        raise DataError(f"role file {path} does not exist.")
    try:
        rows = json.loads(path.read_text())
        unknown = {row["role"] for row in rows} - set(ROLE_NAMES)
        if not unknown:
            return RoleTable(roles=tuple(Role(**row) for row in rows))
    except (json.JSONDecodeError, TypeError, KeyError) as error:
        raise DataError(
            f"{path} is not a role table ({error}); wanted a JSON list of "
            '{"indicator": ..., "role": ..., "behavior": ..., "partner": ...}.'
        ) from error
    raise ConfigError(f"{path} has roles {sorted(unknown)}; known roles: {', '.join(ROLE_NAMES)}.")


def roles_to_json(table: RoleTable) -> list[Mapping[str, str]]:
    """The role table as `read_roles` reads it."""
    return [
        {
            "indicator": role.indicator,
            "role": role.role,
            "behavior": role.behavior,
            "partner": role.partner,
        }
        for role in table.roles
    ]
