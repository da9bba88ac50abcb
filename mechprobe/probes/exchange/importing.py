"""Probes of any kind that can be read, as an artefact: detectors of the paper, banks, plain files of other projects."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from mechprobe.errors import CheckpointError, LabelError
from mechprobe.probes.bank import ProbeBank
from mechprobe.probes.estimators import Reads
from mechprobe.probes.exchange.artefact import (
    Artefact,
    ProbeCard,
    canonical_hook_name,
    key_of,
)
from mechprobe.probes.exchange.detector_folders import import_detectors
from mechprobe.probes.exchange.plain_files import (
    SUFFIXES,
    PlainProbes,
    read_plain,
    refuse_pickle,
)
from mechprobe.probes.kinds.layers import Layout
from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.probe_set import ProbeSet
from mechprobe.probes.solving.standardise import Scaling
from mechprobe.records import digest_file
from mechprobe.taxonomy import Taxonomy, slug_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What the person who imports says of the probes; it goes before what the files say."""

    hook_name: str | None = None
    """Where the probes read; needed where no file says it."""
    model: str | None = None
    """Whose activations they read."""
    indicators: tuple[str, ...] = ()
    """What each row of the weight detects, in order."""
    scorer: str | None = None
    """Name of the scorer in the bank."""


def import_source(
    source: Path, taxonomy: Taxonomy, wanted: Wanted | None = None
) -> tuple[Artefact, list[str]]:
    """Read probes of any kind that is known, with a report in words.

    A folder of `detector.pt` files, a probe bank, a folder of plain probes, or one npz, safetensors or JSON file.

    Raises:
        CheckpointError: nothing there can be read, or what was found contradicts itself.
    """
    wanted = wanted or Wanted()
    if not source.exists():
        raise CheckpointError(f"{source} does not exist; name a file or folder of probes.")
    if (source / "probes.json").is_file():
        found = Artefact.load(source)
        return found, [f"{source} is a bank already: {len(found.bank.sets)} sets"]
    if source.name == "detector.pt" or (source.is_dir() and any(source.rglob("detector.pt"))):
        scorer = {"scorer": wanted.scorer} if wanted.scorer else {}
        found, report = import_detectors(source, taxonomy, model=wanted.model, **scorer)
        return found, list(report.lines())
    found = import_plain(source, taxonomy, wanted)
    return found, [
        f"{key_of(one)}: {len(one.probes)} probes of width {one.width}" for one in found.bank.sets
    ]


def import_plain(source: Path, taxonomy: Taxonomy, wanted: Wanted | None = None) -> Artefact:
    """Probes out of one plain file, or out of all below a folder.

    Raises:
        CheckpointError: there is none, or a file says neither which hook point nor which indicators it is of.
    """
    wanted = wanted or Wanted()
    entries: list[_Entry] = []
    for path in _plain_files(source):
        entries += _entries(path, source, taxonomy, wanted)
    if not entries:
        raise CheckpointError(
            f"{source} has no probe file ({', '.join(SUFFIXES[:-1])}, or a bank, or detector.pt files)."
        )
    models = sorted({entry.model for entry in entries if entry.model})
    digests = sorted({entry.model_digest for entry in entries if entry.model_digest})
    if len(models) > 1 or len(digests) > 1:
        raise CheckpointError(
            f"{source} holds probes of several models ({', '.join(models or digests)}); import each model's folder alone."
        )
    order = {slug: at for at, slug in enumerate(taxonomy.slugs)}
    entries.sort(key=lambda entry: order.get(entry.indicator, len(order)))
    return _artefact(entries, models[0] if models else None, digests[0] if digests else "")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Entry:
    """One probe with all that says where it belongs."""

    hook_name: str
    scorer: str
    reads: Reads
    layout: Layout | None
    indicator: str
    probe: LinearProbe
    scaling: Scaling | None
    card: ProbeCard
    model: str
    model_digest: str
    origin: str


def _plain_files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    paths = sorted(path for path in source.rglob("*") if path.is_file())
    found = [path for path in paths if path.suffix in SUFFIXES[:-1]]
    for path in paths if not found else ():
        refuse_pickle(path)
    return found


def _entries(path: Path, source: Path, taxonomy: Taxonomy, wanted: Wanted) -> Iterable[_Entry]:
    """The probes of one file, each with its own description or with that of the whole file."""
    plain = read_plain(path, len(wanted.indicators) or None)
    described = cast(list[dict[str, Any]], plain.about.get("probes", []))
    names = _names(plain, described, wanted, path)
    hook_name = wanted.hook_name or _text(plain.about, "hook_name", "hook_point")
    for at, name in enumerate(names):
        about = described[at] if described else plain.about
        where = hook_name or _text(about, "hook_name")
        if where is None:
            raise CheckpointError(
                f"{path} does not say at which hook point its probes read; say it (blocks.<n>.hook_out is the output "
                "of block n, counted from 0; a layer's number alone may mean either side of a block)."
            )
        yield _Entry(
            hook_name=canonical_hook_name(where),
            scorer=wanted.scorer or _text(about, "scorer") or "imported",
            reads="feature_acts" if about.get("reads") == "feature_acts" else "acts",
            layout=_layout(about),
            indicator=_slug(name, taxonomy),
            probe=_probe(plain, at, about),
            scaling=plain.scalings[at] if plain.scalings else None,
            card=_card(path, source, about),
            model=wanted.model
            or _text(about, "model", "model_id", "model_name", "base_model")
            or "",
            model_digest=_text(about, "model_digest") or "",
            origin=_text(about, "origin") or f"a {path.suffix[1:]} file",
        )


def _names(
    plain: PlainProbes, described: Sequence[Mapping[str, Any]], wanted: Wanted, path: Path
) -> tuple[str, ...]:
    held: Any = plain.about.get("indicators") or [one["indicator"] for one in described]
    single = _text(plain.about, "indicator", "indicator_name", "name")
    names = wanted.indicators or tuple(held) or ((single,) if single else ())
    if len(names) != len(plain.weight):
        raise CheckpointError(
            f"{path} has {len(plain.weight)} probes and names {len(names)} indicators; say what each detects, in order."
        )
    return tuple(map(str, names))


def _slug(name: str, taxonomy: Taxonomy) -> str:
    """The taxonomy's slug where the name is an indicator of it, else the name's own."""
    try:
        return taxonomy.find(name).slug
    except LabelError:
        return slug_of(name)


def _probe(plain: PlainProbes, at: int, about: Mapping[str, Any]) -> LinearProbe:
    settings = cast(dict[str, Any], about.get("settings") or {})
    return LinearProbe(
        kind=str(about.get("kind") or "imported"),
        weight=plain.weight[at].astype(np.float32),
        bias=float(plain.bias[at]),
        settings={key: float(value) for key, value in settings.items()},
    )


def _layout(about: Mapping[str, Any]) -> Layout | None:
    """Whose columns are whose, for a probe over several hook points."""
    hooks = cast(dict[str, Any] | None, about.get("hooks"))
    if not hooks:
        return None
    return Layout(hook_names=tuple(hooks), widths=tuple(map(int, hooks.values())))


def _card(path: Path, source: Path, about: Mapping[str, Any]) -> ProbeCard:
    threshold = about.get("threshold")
    thresholds: dict[str, Any] = about.get("thresholds") or (
        {} if threshold is None else {"threshold": threshold}
    )
    name = path.name if path == source else path.relative_to(source).as_posix()
    return ProbeCard(
        source=_text(about, "source") or name,
        digest=_text(about, "digest") or digest_file(path),
        thresholds={key: float(value) for key, value in thresholds.items()},
        metrics={key: float(value) for key, value in (about.get("metrics") or {}).items()},
    )


def _text(about: Mapping[str, Any], *keys: str) -> str | None:
    """The first of the keys that holds text."""
    return next((value for key in keys if isinstance(value := about.get(key), str) and value), None)


def _artefact(entries: Sequence[_Entry], model: str | None, model_digest: str) -> Artefact:
    sets: list[ProbeSet] = []
    cards: dict[str, ProbeCard] = {}
    scalings: dict[str, tuple[Scaling, ...]] = {}
    for hook_name, scorer in dict.fromkeys((one.hook_name, one.scorer) for one in entries):
        here = [one for one in entries if (one.hook_name, one.scorer) == (hook_name, scorer)]
        one = ProbeSet(
            scorer=scorer,
            hook_name=hook_name,
            reads=here[0].reads,
            layout=here[0].layout,
            indicators=tuple(entry.indicator for entry in here),
            probes=tuple(entry.probe for entry in here),
        )
        sets.append(one)
        cards |= {key_of(one, entry.indicator): entry.card for entry in here}
        if all(entry.scaling for entry in here):
            scalings[key_of(one)] = tuple(entry.scaling for entry in here if entry.scaling)
    return Artefact(
        bank=ProbeBank(sets=tuple(sets), model=model),
        origin=entries[0].origin,
        model_digest=model_digest,
        cards=cards,
        scalings=scalings,
    )
