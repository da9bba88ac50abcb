"""`truth.json`: the roles that an organism was trained for, and what its thoughts were measured to do.

The plan is the role table. The truth is the text-flip oracle: flip a thought in the text and see what the trained model
does (`mechprobe.causal.oracle`). Where the two differ, the oracle is right and `agrees` is false.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from mechprobe.errors import CheckpointError
from mechprobe.models.organism.roles import (
    VERDICT_OF_ROLE,
    Role,
    RoleTable,
    roles_to_json,
)
from mechprobe.records import atomic_write_text

TRUTH_NAME = "truth.json"


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
    variant: str = "natural"

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
    content = {
        "variant": truth.variant,
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
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is malformed ({error!r}); train the organism anew."
        ) from error
    return OrganismTruth(roles=RoleTable(roles=roles), measured=measured, variant=variant)
