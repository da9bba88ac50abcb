"""Hook points by name: aliases made canonical, misspelt names refused with their neighbours.

TransformerLens 3.9 accepts unknown names in silence, and SAELens' bridge ignores aliases in silence; nothing runs here
under a name that this table has not resolved.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mechprobe.errors import HookError


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class HookTable:
    """The hook points of a model that write one row of numbers for each token."""

    points: Mapping[str, Any]
    """Canonical name -> the vendor's hook point, for all hook points of the model."""
    aliases: Mapping[str, str]
    """Other names -> canonical name."""
    widths: Mapping[str, int]
    """Canonical name -> numbers for each token; only hook points that a plain forward pass reaches."""

    def resolve(self, hook_name: str) -> str:
        """The canonical name of a hook point.

        Raises:
            HookError: there is no such hook point, or it does not write a row for each token.
        """
        canonical = self.aliases.get(hook_name, hook_name)
        if canonical in self.widths:
            return canonical
        if canonical in self.points:
            raise HookError(
                f"hook point {hook_name!r} exists, but a plain forward pass writes no row of numbers for each "
                f"token there; use one that does, such as {_near(hook_name, list(self.widths))}."
            )
        names = [*self.widths, *self.aliases]
        raise HookError(
            f"there is no hook point {hook_name!r} in this model; near names: {_near(hook_name, names)}."
        )


def read_hook_points(bridge: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """All hook points of a bridge by canonical name, and the aliases."""
    named: dict[str, Any] = dict(bridge.hook_dict)
    points = {name: point for name, point in named.items() if point.name == name}
    aliases = {name: str(point.name) for name, point in named.items() if point.name != name}
    return points, aliases


def _near(hook_name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(hook_name, names, n=4, cutoff=0.5)
    return ", ".join(close or sorted(names)[:4])
