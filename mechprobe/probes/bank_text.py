"""What a bank and its geometry are, in lines for a terminal and as JSON."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mechprobe.probes.artefact import Artefact, key_of
from mechprobe.probes.bank import ProbeSet
from mechprobe.probes.geometry import Geometry, Space, geometry_of
from mechprobe.probes.linear import LinearProbe
from mechprobe.records import atomic_write_text
from mechprobe.taxonomy import Taxonomy

_OTHER = "other"
"""Group of an indicator that the taxonomy does not list."""


def bank_lines(artefact: Artefact, taxonomy: Taxonomy) -> Iterator[str]:
    """What the bank holds: model, origin, and a line for each probe.

    AUROCs and thresholds are those that the probes' makers give, on their data; nothing is measured here.
    """
    digest = artefact.model_digest[:12] or "not recorded"
    yield f"model {artefact.bank.model or 'not said'}, weights {digest}; from {artefact.origin}"
    for one in artefact.bank.sets:
        yield f"{one.scorer} at {one.hook_name}: {len(one.probes)} probes on {one.reads} of width {one.width}"
        for indicator, probe in zip(one.indicators, one.probes, strict=True):
            yield f"  {indicator:<42}{probe.kind}{_figures(artefact, one, indicator)}"
        if missing := [slug for slug in taxonomy.slugs if slug not in one.indicators]:
            yield f"  without a probe: {', '.join(missing)}"


def geometries_of(artefact: Artefact) -> dict[str, list[Geometry]]:
    """Key of each set that can be compared -> its geometry, raw and, where scalings are kept, z-scored.

    A set of other probes than linear ones has no directions; one probe, or one with no weights, has no angle.
    """
    found: dict[str, list[Geometry]] = {}
    for one in artefact.bank.sets:
        if not _has_angles(one):
            continue
        scalings = artefact.scalings.get(key_of(one), ())
        spaces: tuple[Space, ...] = ("raw", "z_scored") if scalings else ("raw",)
        found[key_of(one)] = [geometry_of(one, space=space, scalings=scalings) for space in spaces]
    return found


def geometry_lines(
    artefact: Artefact, found: Mapping[str, list[Geometry]], groups: Mapping[str, str]
) -> Iterator[str]:
    """Cosines within and across groups, spread and shared part of every set in every space."""
    for key in map(key_of, artefact.bank.sets):
        if key not in found:
            yield f"{key}: not two or more linear probes with weights, left out"
        for one in found.get(key, ()):
            within, across = (_mean_cosine(one, groups, within=within) for within in (True, False))
            yield (
                f"{key} ({one.space}): mean cosine {_said(within)} within groups, {_said(across)} across; first "
                f"eigenvalue {one.eigenvalues[0]:.2f} of {len(one.indicators)} ({one.shared_share:.0%}), "
                f"participation ratio {one.participation_ratio:.2f}"
            )


def write_geometry(
    found: Mapping[str, list[Geometry]], groups: Mapping[str, str], path: Path
) -> None:
    """Every figure as JSON: for each set and space the cosines, eigenvalues and loadings."""
    told = {
        key: {one.space: _as_json(one, groups) for one in spaces} for key, spaces in found.items()
    }
    atomic_write_text(path, json.dumps(told, indent=2) + "\n")


def groups_of(taxonomy: Taxonomy) -> dict[str, str]:
    """Indicator -> its group."""
    return {indicator.slug: indicator.group for indicator in taxonomy.indicators}


def _has_angles(one: ProbeSet) -> bool:
    linear = [probe for probe in one.probes if isinstance(probe, LinearProbe)]
    return len(linear) == len(one.probes) > 1 and all(len(probe.features) for probe in linear)


def _as_json(one: Geometry, groups: Mapping[str, str]) -> dict[str, Any]:
    return {
        "indicators": list(one.indicators),
        "cosines": one.cosines.tolist(),
        "eigenvalues": one.eigenvalues.tolist(),
        "participation_ratio": one.participation_ratio,
        "shared_share": one.shared_share,
        "loadings": one.loadings.tolist(),
        "mean_cosine_within": _mean_cosine(one, groups, within=True),
        "mean_cosine_across": _mean_cosine(one, groups, within=False),
    }


def _mean_cosine(one: Geometry, groups: Mapping[str, str], *, within: bool) -> float | None:
    known = {indicator: groups.get(indicator, _OTHER) for indicator in one.indicators}
    return one.mean_cosine(known, within=within)


def _said(value: float | None) -> str:
    return "no pair" if value is None else f"{value:.3f}"


def _figures(artefact: Artefact, one: ProbeSet, indicator: str) -> str:
    card = artefact.card(one, indicator)
    aurocs = {key: value for key, value in card.metrics.items() if key.split()[-1] == "auroc"}
    told = [f"{key} {value:.3f}" for key, value in aurocs.items()]
    if card.thresholds:
        told.append(f"{len(card.thresholds)} thresholds")
    return f" (its makers: {', '.join(told)})" if told else ""
