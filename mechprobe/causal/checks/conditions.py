"""The control directions that an indicator's runs are put through beside the real ones."""

from collections.abc import Mapping, Sequence

from mechprobe.causal.checks.controls import (
    covariance_matched_directions,
    random_directions,
    shuffled_label_directions,
    without,
)
from mechprobe.causal.config import CausalConfig
from mechprobe.causal.directions import Direction, SpanActs
from mechprobe.causal.readings import Control

OTHER = "other:"
"""Prefix of a control that is another indicator's direction."""
ORTHOGONAL = "_orthogonal"
"""Suffix of a control whose directions have the real one taken out."""
RANDOM = "random"
"""The operation-matched null that p-values are counted in."""
SHADOWS = (
    "random_covariance",
    f"random_covariance{ORTHOGONAL}",
    "shuffled",
    f"shuffled{ORTHOGONAL}",
)
"""Controls that may overlap with the real direction, and so are judged with their complements."""
NULL_CONTROLS = (RANDOM, *SHADOWS)


def control_directions(
    indicator: str,
    spans: SpanActs,
    directions: Mapping[str, Sequence[Direction]],
    config: CausalConfig,
) -> list[Control]:
    """Random, covariance-matched and shuffled-label directions, and the other indicators' own."""
    acts, is_present = spans.of(indicator)
    own = directions[indicator][0].vector
    width, seed = acts.shape[-1], config.seed + 101 * (1 + list(directions).index(indicator))
    covariance = covariance_matched_directions(spans.acts, config.n_covariance_matched, seed=seed)
    shuffled = shuffled_label_directions(acts, is_present, config.n_shuffled, seed=seed)
    # Some of these hold a good part of the real direction. Both are run: as drawn, and without it.
    found = {
        RANDOM: random_directions(config.n_random, width, seed=seed),
        "random_covariance": covariance,
        f"random_covariance{ORTHOGONAL}": without(covariance, own),
        "shuffled": shuffled,
        f"shuffled{ORTHOGONAL}": without(shuffled, own),
    }
    controls = [Control(name=name, vectors=vectors) for name, vectors in found.items()]
    if config.with_other_indicators:
        controls += [
            Control(name=f"{OTHER}{name}", vectors=found[0].vector[None])
            for name, found in directions.items()
            if name != indicator
        ]
    return [control for control in controls if len(control.vectors)]
