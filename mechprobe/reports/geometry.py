"""How the directions of a study's probes lie to each other, from `geometry.json`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mechprobe.reports.estimates import to_float
from mechprobe.reports.names import IndicatorName
from mechprobe.reports.wording import plain

PLOTTED_SETS = ("dense_logistic", "dense_diff_of_means", "random_direction")
"""Scorers whose cosines are drawn; the table has all."""
CONTROL = "random_direction"
"""The scorer whose directions were drawn at random: what cosines of unrelated directions look like here."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SetGeometry:
    """The directions of one set of probes, in one space."""

    scorer: str
    hook_name: str
    space: str
    n_probes: int
    within: float
    """Mean cosine of indicators of one group."""
    across: float
    shared_share: float
    participation_ratio: float
    cosines: pd.DataFrame
    """By the indicators' names."""

    @property
    def is_control(self) -> bool:
        """Whether the directions were drawn at random."""
        return self.scorer == CONTROL


def geometries(
    found: Mapping[str, Mapping[str, Any]] | None, names: Sequence[IndicatorName]
) -> list[SetGeometry]:
    """Every set and space of `geometry.json`; empty where there is none."""
    known = {name.slug: name.name for name in names}
    return [
        _set(key, space, figures, known)
        for key, spaces in (found or {}).items()
        for space, figures in spaces.items()
    ]


def _set(key: str, space: str, figures: Mapping[str, Any], known: Mapping[str, str]) -> SetGeometry:
    hook_name, _, scorer = key.rpartition("/")
    words = [known.get(slug, plain(slug)) for slug in figures["indicators"]]
    return SetGeometry(
        scorer=scorer,
        hook_name=hook_name,
        space=space,
        n_probes=len(words),
        within=to_float(figures.get("mean_cosine_within")),
        across=to_float(figures.get("mean_cosine_across")),
        shared_share=to_float(figures["shared_share"]),
        participation_ratio=to_float(figures["participation_ratio"]),
        cosines=pd.DataFrame(np.array(figures["cosines"], dtype=float), words, words),
    )
