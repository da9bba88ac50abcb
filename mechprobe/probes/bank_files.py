"""What a probe bank looks like on disk: named arrays, and a description that says how they belong together.

A set of plain linear probes is two arrays, weights and offsets of all indicators; a set with other probes keeps each
probe apart, and a probe that stands on another (a calibrated one) holds that in itself.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, cast

import numpy as np

from mechprobe.errors import CheckpointError, ConfigError
from mechprobe.probes.kinds.attention import AttentionProbe
from mechprobe.probes.kinds.boosted import BoostedProbe
from mechprobe.probes.kinds.calibrated import CalibratedProbe
from mechprobe.probes.kinds.mlp import MLPProbe
from mechprobe.probes.kinds.running import RunningProbe
from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.probe import Probe
from mechprobe.probes.stored import Storable, Stored

Arrays: TypeAlias = dict[str, np.ndarray]
Described: TypeAlias = dict[str, Any]

FORMS: dict[str, Callable[[Stored], Probe]] = {
    "linear": LinearProbe.restored,
    "mlp": MLPProbe.restored,
    "boosted": BoostedProbe.restored,
    "attention": AttentionProbe.restored,
    "running": RunningProbe.restored,
    "calibrated": CalibratedProbe.restored,
}


def pack(probes: Mapping[str, Probe], key: str) -> tuple[Arrays, list[Described]]:
    """The probes of a set, by indicator, as arrays and one description for each.

    Raises:
        ConfigError: a probe is of a class that cannot be stored.
    """
    if all(type(probe) is LinearProbe for probe in probes.values()):
        linear = cast(list[LinearProbe], list(probes.values()))
        arrays = {
            f"{key}/weight": np.stack([probe.weight for probe in linear]),
            f"{key}/bias": np.array([probe.bias for probe in linear], dtype=np.float64),
        }
        described = [
            {"indicator": indicator, "kind": probe.kind, "settings": dict(probe.settings)}
            for indicator, probe in probes.items()
        ]
        return arrays, described
    arrays, described = {}, []
    for at, (indicator, probe) in enumerate(probes.items()):
        described.append({"indicator": indicator, **_take_apart(probe, f"{key}/{at}", arrays)})
    return arrays, described


def unpack(described: list[Described], key: str, arrays: Arrays) -> dict[str, Probe]:
    """The probes of a set, by indicator."""
    if all("form" not in one for one in described):
        weight, bias = arrays[f"{key}/weight"], arrays[f"{key}/bias"]
        return {
            one["indicator"]: LinearProbe(
                kind=one["kind"], weight=w, bias=float(b), settings=one["settings"]
            )
            for one, w, b in zip(described, weight, bias, strict=True)
        }
    return {
        one["indicator"]: _put_together(one, f"{key}/{at}", arrays)
        for at, one in enumerate(described)
    }


def _take_apart(probe: Probe, key: str, arrays: Arrays) -> Described:
    """A description; the probe's arrays are added to `arrays`."""
    if not isinstance(probe, Storable):
        raise ConfigError(
            f"a {probe.kind} probe cannot be stored; give its class `stored` and a place in FORMS."
        )
    parts = probe.stored()
    for name, values in parts.tensors.items():
        arrays[f"{key}/{name}"] = np.ascontiguousarray(values)
    described: Described = {
        "form": parts.form,
        "kind": parts.kind,
        "settings": dict(parts.settings),
        "tensors": list(parts.tensors),
        "text": dict(parts.text),
    }
    if parts.inner is not None:
        described["inner"] = _take_apart(parts.inner, f"{key}/inner", arrays)
    return described


def _put_together(described: Described, key: str, arrays: Arrays) -> Probe:
    form = described["form"]
    if form not in FORMS:
        raise CheckpointError(
            f"a probe of form {form!r} cannot be read; this program knows {', '.join(FORMS)}."
        )
    inner = described.get("inner")
    return FORMS[form](
        Stored(
            form=form,
            kind=described["kind"],
            settings=described["settings"],
            tensors={name: arrays[f"{key}/{name}"] for name in described["tensors"]},
            text=described["text"],
            inner=None if inner is None else _put_together(inner, f"{key}/inner", arrays),
        )
    )
