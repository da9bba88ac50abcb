"""What each kind of organism adds to a natural one: its further training, its site and its figures."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from mechprobe.models.organism.continuing import NULL_TRAINING, train_null
from mechprobe.models.organism.flips import ClauseSite
from mechprobe.models.organism.obfuscated import ObfuscationConfig, train_obfuscated
from mechprobe.models.organism.planted import PlantConfig, train_planted
from mechprobe.models.organism.planted_figures import measure_planted
from mechprobe.models.organism.roles import RoleTable
from mechprobe.models.organism.truth import Variant
from mechprobe.study.organism_figures import probe_auroc

ELSEWHERE = ClauseSite(layer=1, position="after_span")
"""A second site, at which an obfuscated organism may still show its thoughts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Continued:
    """What came of the further training."""

    site: ClauseSite | None = None
    directions: Float[np.ndarray, "indicator d"] | None = None
    figures: Mapping[str, float] = field(default_factory=dict[str, float])
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])


def continue_as(variant: Variant, model: Any, roles: RoleTable, seed: int) -> Continued:
    """Train a natural organism's model further, in place, until it is of the wanted kind.

    Raises:
        ConfigError: the roles do not fit the kind.
    """
    if variant == "null":
        config = replace(NULL_TRAINING, seed=seed)
        train_null(model, roles, config)
        return Continued(settings={"continued": asdict(config)})
    if variant == "planted":
        return _plant(model, roles, seed)
    if variant == "obfuscated":
        return _obfuscate(model, roles, seed)
    return Continued()


def _plant(model: Any, roles: RoleTable, seed: int) -> Continued:
    config = PlantConfig()
    config = replace(config, training=replace(config.training, seed=seed))
    directions = train_planted(model, roles, config)
    return Continued(
        site=config.site,
        directions=directions.numpy(),
        figures=asdict(measure_planted(model, roles, directions, config)),
        settings={"continued": asdict(config)},
    )


def _obfuscate(model: Any, roles: RoleTable, seed: int) -> Continued:
    config = ObfuscationConfig()
    config = replace(config, training=replace(config.training, seed=seed))
    before = probe_auroc(model, roles, config.site, seed=seed, name="auroc_before")
    train_obfuscated(model, roles, config)
    after = probe_auroc(model, roles, config.site, seed=seed, name="auroc_after")
    other = probe_auroc(model, roles, ELSEWHERE, seed=seed, name="auroc_elsewhere")
    return Continued(
        site=config.site,
        figures={**before, **after, **other},
        settings={"continued": asdict(config), "elsewhere": asdict(ELSEWHERE)},
    )
