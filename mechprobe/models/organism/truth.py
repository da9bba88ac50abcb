"""`truth.json`: the roles that an organism was trained for, and what its thoughts were measured to do.

The plan is the role table. The truth is the text-flip oracle: flip a thought in the text and see what the trained model
does (`mechprobe.causal.oracle`). Where the two differ, the oracle is right and `agrees` is false.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from mechprobe.errors import CheckpointError
from mechprobe.models.organism.roles import (
    VERDICT_OF_ROLE,
    Role,
    RoleTable,
    roles_to_json,
)
from mechprobe.models.organism.vocabulary import INDICATORS
from mechprobe.records import atomic_write_text

Variant = Literal["natural", "planted", "null", "obfuscated"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
TRUTH_NAME = "truth.json"
DIRECTIONS_NAME = "planted.safetensors"


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredThought:
    """What flipping one thought in the text does, in natural gaps of the behaviour's logit difference."""

    indicator: str
    necessity: float | None
    """Taking it away where it is held and the run misbehaves; None without such runs."""
    release: float | None
    """Taking it away where it is held and the run behaves."""
    sufficiency: float | None
    """Putting it in where the run behaves."""
    inhibition: float | None
    """Putting it in where the run misbehaves; positive = the run behaves better."""
    resampled: float | None
    """Change of the misbehaviour rate when everything after the thought is written anew."""
    n: int
    """Pairs measured."""
    verdict: str
    """The verdict that these numbers call for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OrganismTruth:
    """Plan and measurement of one organism."""

    roles: RoleTable
    measured: tuple[MeasuredThought, ...]
    variant: Variant = "natural"
    hook_name: str = ""
    """Planted: where the directions stand. Obfuscated: where the probe was evaded."""
    position: str = ""
    """The token of the span that is meant there: "span_last" or "after_span"."""
    figures: Mapping[str, float] = field(default_factory=dict[str, float])
    """What was measured of the planting or of the evasion, on scenes that training did not draw."""

    def verdicts(self) -> dict[str, str]:
        """Indicator -> the right verdict, by measurement."""
        return {found.indicator: found.verdict for found in self.measured}

    def role_names(self) -> dict[str, str]:
        """Indicator -> planned role."""
        return {role.indicator: role.role for role in self.roles.roles}

    def disagreements(self) -> list[str]:
        """Indicators whose measured effect is not what their role plans."""
        planned = {role.indicator: VERDICT_OF_ROLE[role.role] for role in self.roles.roles}
        return [
            found.indicator for found in self.measured if found.verdict != planned[found.indicator]
        ]


def write_truth(folder: Path, truth: OrganismTruth) -> Path:
    """Write `truth.json` beside the checkpoint."""
    site = {
        "hook_name": truth.hook_name,
        "position": truth.position,
        "figures": {name: round(value, 4) for name, value in truth.figures.items()},
    }
    site = site if truth.hook_name else {}
    content = {
        "variant": truth.variant,
        **site,
        "roles": roles_to_json(truth.roles),
        "measured": [asdict(found) for found in truth.measured],
        "disagreements": truth.disagreements(),
    }
    path = folder / TRUTH_NAME
    atomic_write_text(path, json.dumps(content, indent=2) + "\n")
    return path


def read_truth(folder: Path) -> OrganismTruth:
    """Read the truth of an organism.

    Raises:
        CheckpointError: the folder has none, or it is malformed.
    """
    path = folder / TRUTH_NAME
    if not path.is_file():
        raise CheckpointError(
            f"{folder} has no {TRUTH_NAME}, so it is no organism; make one with `mechprobe organism train`."
        )
    try:
        content = json.loads(path.read_text())
        roles = tuple(Role(**row) for row in content["roles"])
        measured = tuple(MeasuredThought(**row) for row in content["measured"])
        variant = content["variant"]
        if variant not in VARIANTS:
            raise KeyError(variant)
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is malformed ({error!r}); train the organism anew."
        ) from error
    return OrganismTruth(
        roles=RoleTable(roles=roles),
        measured=measured,
        variant=variant,
        hook_name=content.get("hook_name", ""),
        position=content.get("position", ""),
        figures=content.get("figures", {}),
    )


def write_directions(folder: Path, directions: Float[np.ndarray, "indicator d"]) -> Path:
    """Write the planted directions, one row an indicator in the order of `INDICATORS`."""
    from safetensors.numpy import save_file

    save_file({"directions": directions}, folder / DIRECTIONS_NAME)
    return folder / DIRECTIONS_NAME


def read_directions(folder: Path) -> dict[str, Float[np.ndarray, "d"]]:
    """Indicator -> its planted unit direction at the truth's hook point.

    Raises:
        CheckpointError: the organism has no planted directions.
    """
    from safetensors.numpy import load_file

    path = folder / DIRECTIONS_NAME
    if not path.is_file():
        raise CheckpointError(
            f"{folder} has no {DIRECTIONS_NAME}; only organisms of the planted variant have known directions."
        )
    rows = load_file(path)["directions"]
    return dict(zip(INDICATORS, rows, strict=True))
