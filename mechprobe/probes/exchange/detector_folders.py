"""A folder of the fitted probes of arXiv 2606.24251 (`<indicator>/span/layer<L>/detector.pt`) as one bank."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from mechprobe.errors import CheckpointError, LabelError
from mechprobe.probes.bank import ProbeBank
from mechprobe.probes.exchange.artefact import (
    Artefact,
    ProbeCard,
    hook_name_of_layer,
    key_of,
)
from mechprobe.probes.exchange.detector_files import Detector, read_detector
from mechprobe.probes.probe_set import ProbeSet
from mechprobe.probes.solving.standardise import Scaling
from mechprobe.records import digest_file
from mechprobe.taxonomy import Taxonomy

SCORER = "paper_detector"
_META = "training_meta.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportReport:
    """What an import found."""

    model: str
    found: Mapping[str, tuple[str, ...]]
    """Hook point -> indicators with a probe."""
    missing: Mapping[str, tuple[str, ...]]
    """Hook point -> indicators of the taxonomy without one."""
    unknown: tuple[str, ...]
    """Files whose name is no indicator of the taxonomy; they were left out."""

    def lines(self) -> Iterable[str]:
        """The report in words."""
        yield f"model {self.model or 'not said'}"
        for hook_name, indicators in self.found.items():
            missing = self.missing[hook_name]
            yield (
                f"{hook_name}: {len(indicators)} probes"
                + (f", {len(missing)} missing ({', '.join(missing)})" if missing else "")
            )
        for name in self.unknown:
            yield f"left out {name}: its indicator is not in the taxonomy"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Found:
    """A detector in a folder, with what stands beside it."""

    source: str
    indicator: str
    detector: Detector
    model: str
    card: ProbeCard


def import_detectors(
    folder: Path, taxonomy: Taxonomy, *, scorer: str = SCORER, model: str | None = None
) -> tuple[Artefact, ImportReport]:
    """All detectors below a folder as one bank: a set for each layer, indicators in the taxonomy's order.

    Args:
        model: the model that they read; without it what `training_meta.json` beside them says.

    Raises:
        CheckpointError: there is none, one is damaged, two are of one indicator and layer, or they are of
            several models.
    """
    paths = sorted(folder.rglob("detector.pt")) if folder.is_dir() else [folder]
    found: list[_Found] = []
    unknown: list[str] = []
    for path in paths:
        name, meta = _about(path)
        try:
            indicator = taxonomy.find(name).slug
        except LabelError:
            unknown.append(str(path.relative_to(folder if folder.is_dir() else folder.parent)))
            continue
        found.append(_read(path, folder, indicator, meta))
    if not found:
        raise CheckpointError(
            f"{folder} has no detector.pt of a known indicator ({len(unknown)} of others); name the folder that "
            "holds <indicator>/span/layer<L>/detector.pt."
        )
    model = model or _only_model(found, folder)
    return _artefact(found, taxonomy, scorer, model), _report(found, taxonomy, model, unknown)


def _read(path: Path, folder: Path, indicator: str, meta: Mapping[str, Any]) -> _Found:
    source = path.name if path == folder else path.relative_to(folder).as_posix()
    thresholds, metrics = _figures(meta.get("val_thresholds", {}))
    return _Found(
        source=source,
        indicator=indicator,
        detector=read_detector(path),
        model=str(meta.get("model_name", "")),
        card=ProbeCard(
            source=source, digest=digest_file(path), thresholds=thresholds, metrics=metrics
        ),
    )


def _about(path: Path) -> tuple[str, Mapping[str, Any]]:
    """The indicator's name and the training file beside a detector; without one the folder's name is taken."""
    meta = path.with_name(_META)
    if not meta.is_file():
        return path.parent.parent.parent.name, {}
    try:
        fields = json.loads(meta.read_text(encoding="utf-8"))
        return str(fields["indicator_name"]), fields
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{meta} is damaged ({error!r}); copy it again, or take it away to go by the folder's name."
        ) from error


def _figures(views: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, float]]:
    """Thresholds and metrics out of `val_thresholds`: for each view of the labels, nested one deeper for FPRs."""
    thresholds: dict[str, float] = {}
    metrics: dict[str, float] = {}
    for view, figures in views.items():
        for name, value in figures.items() if isinstance(figures, dict) else ():
            if isinstance(value, dict) and "threshold" in value:
                thresholds[f"{view} {name}"] = float(value["threshold"])
            elif isinstance(value, int | float) and math.isfinite(value):
                metrics[f"{view} {name}"] = float(value)
    return thresholds, metrics


def _only_model(found: list[_Found], folder: Path) -> str:
    models = sorted({one.model for one in found if one.model})
    if len(models) > 1:
        raise CheckpointError(
            f"{folder} holds probes of {len(models)} models ({', '.join(models)}); a bank is of one: name the folder "
            "of one."
        )
    return models[0] if models else ""


def _artefact(found: list[_Found], taxonomy: Taxonomy, scorer: str, model: str) -> Artefact:
    sets: list[ProbeSet] = []
    cards: dict[str, ProbeCard] = {}
    scalings: dict[str, tuple[Scaling, ...]] = {}
    for layer, here in _by_layer(found, taxonomy).items():
        one = ProbeSet(
            scorer=scorer,
            hook_name=hook_name_of_layer(layer),
            reads="acts",
            indicators=tuple(item.indicator for item in here),
            probes=tuple(item.detector.probe() for item in here),
        )
        sets.append(one)
        cards |= {key_of(one, item.indicator): item.card for item in here}
        scalings[key_of(one)] = tuple(item.detector.scaling for item in here)
    return Artefact(
        bank=ProbeBank(sets=tuple(sets), model=model or None),
        origin="detector.pt of arXiv 2606.24251",
        cards=cards,
        scalings=scalings,
    )


def _by_layer(found: list[_Found], taxonomy: Taxonomy) -> dict[int, list[_Found]]:
    layers: dict[int, list[_Found]] = {}
    for layer in sorted({one.detector.layer for one in found}):
        here = [one for one in found if one.detector.layer == layer]
        here.sort(key=lambda one: taxonomy.slugs.index(one.indicator))
        for first, second in pairwise(here):
            if first.indicator == second.indicator:
                raise CheckpointError(
                    f"{first.source} and {second.source} are both of {first.indicator!r} at layer {layer}; name the "
                    "folder of one of them."
                )
        layers[layer] = here
    return layers


def _report(
    found: list[_Found], taxonomy: Taxonomy, model: str, unknown: list[str]
) -> ImportReport:
    names = {
        hook_name_of_layer(layer): tuple(one.indicator for one in here)
        for layer, here in _by_layer(found, taxonomy).items()
    }
    return ImportReport(
        model=model,
        found=names,
        missing={
            hook: tuple(slug for slug in taxonomy.slugs if slug not in here)
            for hook, here in names.items()
        },
        unknown=tuple(unknown),
    )
