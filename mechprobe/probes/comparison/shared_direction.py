"""What the directions of a bank share, and the bank without it.

The 18 probes of arXiv 2606.24251 are far from separate: their unit directions have one principal direction that holds
55 % of their squared length.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float64

from mechprobe.errors import ConfigError, ShapeError
from mechprobe.probes.exchange.artefact import Artefact, key_of
from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.probe_set import ProbeSet

WITHOUT_SHARED = "without_shared"


def shared_direction(one: ProbeSet) -> Float64[np.ndarray, "d"]:
    """Unit vector that the unit directions of a set share most: their first principal direction about the origin.

    It points where most of the probes point.

    Raises:
        ConfigError: a probe is not linear or has no direction.
    """
    weight = one.weight.astype(np.float64)
    lengths = np.linalg.norm(weight, axis=0)
    if not lengths.all():
        empty = one.indicators[int(np.argmin(lengths))]
        raise ConfigError(
            f"the probe for {empty!r} has no direction (all weights are 0); leave it out."
        )
    units = weight / lengths
    first = np.linalg.svd(units, full_matrices=False)[0][:, 0]
    return first * (np.sign((first @ units).sum()) or 1.0)


def without_direction(
    one: ProbeSet,
    direction: Float64[np.ndarray, "d"],
    *,
    centre: Float64[np.ndarray, "d"] | None = None,
    suffix: str = WITHOUT_SHARED,
) -> ProbeSet:
    """The set with a direction projected out of every probe: moving activations along it changes no score.

    Args:
        direction: of any length but 0.
        centre: where scores stay as they are, for instance the mean of the activations; the origin by default. It
            moves all scores of a probe by one number, so AUROCs do not depend on it; thresholds do.
        suffix: added to the scorer's name.

    Raises:
        ConfigError: a probe is not linear, or the direction is 0 or not finite.
        ShapeError: the direction is of another width.
    """
    length = float(np.linalg.norm(direction))
    if len(direction) != one.width:
        raise ShapeError(
            f"the direction has {len(direction)} numbers, the probes at {one.hook_name} read {one.width}; give one "
            "of the same hook point."
        )
    if not 0 < length < np.inf:
        raise ConfigError(f"the direction has length {length}; give one that points somewhere.")
    unit = direction / length
    middle = 0.0 if centre is None else float(unit @ centre)
    return ProbeSet(
        scorer=f"{one.scorer}_{suffix}",
        hook_name=one.hook_name,
        reads=one.reads,
        layout=one.layout,
        indicators=one.indicators,
        probes=tuple(_without(probe, unit, middle, suffix) for probe in one.linear_probes),
    )


def bank_without_shared(artefact: Artefact) -> Artefact:
    """Every set of two or more probes with its own shared direction projected out.

    Thresholds and figures of the probes are left behind: they are not those of what is left.

    Raises:
        ConfigError: no set has two probes, or one is not linear.
    """
    sets = [one for one in artefact.bank.sets if len(one.probes) > 1]
    if not sets:
        raise ConfigError("no set has two probes, so they share nothing; import a bank of several.")
    made = [without_direction(one, shared_direction(one)) for one in sets]
    cards = {
        key_of(new, name): replace(artefact.card(one, name), thresholds={}, metrics={})
        for one, new in zip(sets, made, strict=True)
        for name in new.indicators
    }
    return Artefact(
        bank=replace(artefact.bank, sets=tuple(made)),
        origin=f"{artefact.origin}, without the shared direction",
        model_digest=artefact.model_digest,
        cards=cards,
    )


def _without(probe: LinearProbe, unit: np.ndarray, middle: float, suffix: str) -> LinearProbe:
    weight = probe.weight.astype(np.float64)
    along = float(weight @ unit)
    return LinearProbe(
        kind=f"{probe.kind}_{suffix}",
        weight=(weight - along * unit).astype(np.float32),
        bias=probe.bias + along * middle,
        settings=probe.settings,
    )
