"""Probes as files that other programs read: plain folders and npz.

The plain folder needs no Python: for each probe `probe.safetensors` (weight [d] in float32 and bias [1] in float64, on
raw activations) and `probe.json` (what it reads, whose it is, from which score it fires, what its makers measured).
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from mechprobe.errors import ConfigError
from mechprobe.probes.exchange.artefact import (
    Artefact,
    block_of,
    canonical_hook_name,
    key_of,
)
from mechprobe.probes.exchange.plain_files import FITTED_FACTOR, FITTED_MEAN
from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.probe_set import ProbeSet
from mechprobe.records import atomic_write_bytes, atomic_write_text

FORMAT = "mechprobe-probe-1"
_PROBE_FILE = "probe.safetensors"


def linear_part(
    artefact: Artefact, scorer: str | None = None, hook_name: str | None = None
) -> Artefact:
    """The sets of linear probes, of one scorer and at one hook point if they are named: what plain files can hold.

    Raises:
        ConfigError: there is none.
    """
    where = hook_name and canonical_hook_name(hook_name)
    sets = tuple(
        one
        for one in artefact.bank.sets
        if scorer in (None, one.scorer)
        and where in (None, canonical_hook_name(one.hook_name))
        and all(isinstance(probe, LinearProbe) for probe in one.probes)
    )
    if not sets:
        held = ", ".join(
            f"{one.scorer} at {one.hook_name} ({one.probes[0].kind})" for one in artefact.bank.sets
        )
        raise ConfigError(
            f"no linear probes of scorer {scorer or 'any'!r} at {hook_name or 'any'!r}; the bank holds {held}. Only "
            "linear probes are plain numbers."
        )
    return replace(artefact, bank=replace(artefact.bank, sets=sets))


def export_plain(artefact: Artefact, folder: Path) -> list[Path]:
    """Write every linear probe as a folder of two plain files; gives the folders.

    Raises:
        ConfigError: a probe is not linear.
    """
    written: list[Path] = []
    for one in artefact.bank.sets:
        for indicator in one.indicators:
            target = folder / one.hook_name / one.scorer / indicator
            write_plain(artefact, one, indicator, target)
            written.append(target)
    return written


def write_plain(artefact: Artefact, one: ProbeSet, indicator: str, target: Path) -> None:
    """Write one probe's numbers, then the JSON that names them."""
    probe, about = one.probe(indicator), describe(artefact, one, indicator)
    arrays = {"weight": probe.weight, "bias": np.array([probe.bias], dtype=np.float64)}
    if scalings := artefact.scalings.get(key_of(one)):
        scaling = scalings[one.indicators.index(indicator)]
        arrays |= {FITTED_MEAN: scaling.mean, FITTED_FACTOR: scaling.factor}
    atomic_write_bytes(target / _PROBE_FILE, save(arrays))
    atomic_write_text(target / "probe.json", json.dumps(about, indent=2) + "\n")


def export_npz(artefact: Artefact, folder: Path) -> list[Path]:
    """Write every set as one npz file: weight [probe, d], bias [probe], and `about`, a JSON text."""
    written: list[Path] = []
    for one in artefact.bank.sets:
        about = [describe(artefact, one, indicator) for indicator in one.indicators]
        path = folder / f"{one.hook_name}.{one.scorer}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {"weight": one.weight.T, "bias": one.bias}
        if scalings := artefact.scalings.get(key_of(one)):
            arrays[FITTED_MEAN] = np.stack([scaling.mean for scaling in scalings])
            arrays[FITTED_FACTOR] = np.stack([scaling.factor for scaling in scalings])
        np.savez(path, about=np.array(json.dumps({"probes": about})), **arrays)
        written.append(path)
    return written


def describe(artefact: Artefact, one: ProbeSet, indicator: str) -> dict[str, Any]:
    """What there is to say of one probe, for a JSON file."""
    probe, card = one.any_probe(indicator), artefact.card(one, indicator)
    return {
        "format": FORMAT,
        "indicator": indicator,
        "model": artefact.bank.model,
        "model_digest": artefact.model_digest,
        "hook_name": one.hook_name,
        "block": block_of(one.hook_name),
        "hooks": one.layout and dict(zip(one.layout.hook_names, one.layout.widths, strict=True)),
        "reads": one.reads,
        "width": one.width,
        "scorer": one.scorer,
        "kind": probe.kind,
        "settings": dict(probe.settings),
        "score": "activations @ weight + bias, for each token; higher means the indicator is more likely there",
        "thresholds": dict(card.thresholds),
        "metrics": dict(card.metrics),
        "origin": artefact.origin,
        "source": card.source,
        "digest": card.digest,
    }
