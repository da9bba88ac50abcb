"""The directions of a bank compared: figures in lines for a terminal and as JSON, and the bank without what they share."""

import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mechprobe.errors import CheckpointError, ConfigError
from mechprobe.probes.comparison.cross_scores import Removal, compare_removal
from mechprobe.probes.comparison.geometry import Geometry, Space, geometry_of
from mechprobe.probes.comparison.shared_direction import bank_without_shared
from mechprobe.probes.exchange.artefact import Artefact, key_of
from mechprobe.probes.exchange.exporting import linear_part
from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.probe_set import ProbeSet
from mechprobe.probes.rows import LabelledRows
from mechprobe.records import atomic_write_text
from mechprobe.taxonomy import Taxonomy

_OTHER = "other"
"""Group of an indicator that the taxonomy does not list."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """How to compare the directions of a bank."""

    rows: Path | None = None
    """Activations to score before and after the removal; see `read_rows`."""
    scorer: str | None = None
    """Only this scorer's probes."""
    hook_name: str | None = None
    """Only the probes that read here."""
    out: Path | None = None
    """A JSON file for the figures."""
    without_shared: Path | None = None
    """A folder for the bank without its shared directions."""
    seed: int = 0
    """Of the random direction that the removal is compared with."""


def compare_directions(folder: Path, taxonomy: Taxonomy, comparison: Comparison) -> Iterator[str]:
    """Compare the directions of a bank, write what is asked for, and say what was found.

    Raises:
        CheckpointError: the folder holds no bank, or the file no rows.
        ConfigError: the bank has no linear probes of that scorer and hook point, or rows are given for several.
    """
    artefact = linear_part(Artefact.load(folder), comparison.scorer, comparison.hook_name)
    rows = read_rows(comparison.rows) if comparison.rows else None
    where = sorted({one.hook_name for one in artefact.bank.sets})
    if rows is not None and len(where) > 1:
        raise ConfigError(
            f"the rows are of one hook point, the probes of {', '.join(where)}; name one hook_name."
        )
    groups = groups_of(taxonomy)
    found = geometries_of(artefact, rows)
    yield from geometry_lines(artefact, found, groups)
    if rows is not None:
        for one in artefact.bank.sets:
            yield from removal_lines(compare_removal(one, rows, seed=comparison.seed))
    if comparison.out:
        write_geometry(found, groups, comparison.out)
        yield str(comparison.out)
    if comparison.without_shared:
        bank_without_shared(artefact).save(comparison.without_shared)
        yield str(comparison.without_shared)


def geometries_of(
    artefact: Artefact, rows: LabelledRows | None = None
) -> dict[str, list[Geometry]]:
    """Key of each set that can be compared -> its geometry: raw, z-scored where scalings are kept, whitened by rows.

    A set of other probes than linear ones has no directions; one probe, or one with no weights, has no angle.
    """
    found: dict[str, list[Geometry]] = {}
    for one in artefact.bank.sets:
        if not _has_angles(one):
            continue
        scalings = artefact.scalings.get(key_of(one), ())
        spaces: list[Space] = ["raw"]
        if scalings:
            spaces.append("z_scored")
        if rows is not None:
            spaces.append("whitened")
        X = rows.X if rows else None
        found[key_of(one)] = [
            geometry_of(one, space=space, scalings=scalings, rows=X) for space in spaces
        ]
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


def removal_lines(found: Removal) -> Iterator[str]:
    """What rows say of a set as it is, without what its probes share, and without a random direction."""
    yield (
        "AUROC of rows, chance 0.5, no intervals (rows of one transcript hang together); own indicator / others' / "
        "own against rows of other indicators"
    )
    told = {
        "as it is": found.before,
        "without shared": found.after,
        "without random": found.after_random,
    }
    for name, one in told.items():
        apart = float(np.nanmean(one.apart)) if np.isfinite(one.apart).any() else float("nan")
        yield (
            f"  {name:<16}{one.own:.3f} / {one.others:.3f} / {apart:.3f}; own probe ranks best for "
            f"{one.best_is_own:.0%} of the indicators"
        )
    alone = zip(found.before.indicators, found.shared_alone, strict=True)
    yield "  shared alone: " + ", ".join(f"{name} {value:.3f}" for name, value in alone)


def read_rows(path: Path) -> LabelledRows:
    """Rows to score a bank on: an npz of X [tok, d], labels [tok, indicator] (1, 0, -1 left out) and indicators.

    Raises:
        CheckpointError: the file is damaged or lacks one of them.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            return LabelledRows(
                X=np.asarray(stored["X"], dtype=np.float32),
                labels=np.asarray(stored["labels"], dtype=np.int8),
                indicators=tuple(map(str, stored["indicators"])),
            )
    except (OSError, KeyError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"{path} holds no rows ({error}); it needs X, labels and indicators, as numpy.savez writes them."
        ) from error


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
