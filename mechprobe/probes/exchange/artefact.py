"""A bank of probes with what a reader of it needs to know: whose model, from which files, scaled how, how good.

The folder is a probe bank (`probes.json`, `probes.safetensors`) with two files more: `card.json` and, where the probes
were fitted on scaled activations, `scalings.safetensors`.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from mechprobe.errors import CheckpointError
from mechprobe.probes.bank import ProbeBank
from mechprobe.probes.linear import LinearProbe
from mechprobe.probes.probe_set import ProbeSet
from mechprobe.probes.solving.standardise import Scaling
from mechprobe.records import atomic_write_bytes, atomic_write_text

CARD, SCALINGS = "card.json", "scalings.safetensors"
_ALIASES = {"hook_resid_post": "hook_out", "hook_resid_pre": "hook_in"}


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeCard:
    """Where one probe comes from and what its makers say of it."""

    source: str = ""
    """The file, relative to what was imported."""
    digest: str = ""
    """SHA-256 of the file."""
    thresholds: Mapping[str, float] = field(default_factory=dict[str, float])
    """Name of the choice, such as "clean_label fpr_1pct" -> score from which the probe fires."""
    metrics: Mapping[str, float] = field(default_factory=dict[str, float])
    """What its makers measured, under their names; nothing here was measured again."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Artefact:
    """A bank with its cards.

    Raises:
        CheckpointError: an indicator stands twice in a set, or a weight is not a finite number.
    """

    bank: ProbeBank
    origin: str
    """What kind of files the probes come from."""
    model_digest: str = ""
    """Digest of the weights of the model that they read; empty if it is not known."""
    cards: Mapping[str, ProbeCard] = field(default_factory=dict[str, ProbeCard])
    """`key_of` a set and its indicator -> the probe's card."""
    scalings: Mapping[str, tuple[Scaling, ...]] = field(
        default_factory=dict[str, tuple[Scaling, ...]]
    )
    """`key_of` a set -> for each indicator the scaling of the activations on which it was fitted."""

    def __post_init__(self) -> None:
        for one in self.bank.sets:
            check_probes(one)

    def card(self, one: ProbeSet, indicator: str) -> ProbeCard:
        """What is known of a probe; an empty card if nothing is."""
        return self.cards.get(key_of(one, indicator), ProbeCard())

    def check_fits(self, model: str, model_digest: str, widths: Mapping[str, int]) -> None:
        """Check that the probes can read what a model gives: the same model, the same weights, the same hook points.

        Args:
            model_digest: `Subject.model_digest`; compared where the probes' own is known.
            widths: what the model gives at each hook point.

        Raises:
            CheckpointError: the probes are of another model or other weights, or read a hook point that is not there
                or is of another width.
        """
        self.bank.check_fits(model, widths)
        if self.model_digest and self.model_digest != model_digest:
            raise CheckpointError(
                f"the probes were fitted on the weights {self.model_digest[:12]} of {self.bank.model!r}, this "
                f"model has {model_digest[:12]}; load the same weights, or fit the probes again."
            )

    def save(self, folder: Path) -> None:
        """Write the folder; the card comes last."""
        self.bank.save(folder)
        if self.scalings:
            arrays = {
                f"{key}/{part}": np.stack([getattr(scaling, part) for scaling in scalings])
                for key, scalings in self.scalings.items()
                for part in ("mean", "factor")
            }
            atomic_write_bytes(folder / SCALINGS, save(arrays))
        card = {
            "origin": self.origin,
            "model_digest": self.model_digest,
            "scaled": sorted(self.scalings),
            "probes": {key: asdict(card) for key, card in self.cards.items()},
        }
        atomic_write_text(folder / CARD, json.dumps(card, indent=2) + "\n")

    @staticmethod
    def load(folder: Path) -> "Artefact":
        """Read a folder; a bank of a study, which has no card, is read as one of unknown weights.

        Raises:
            CheckpointError: the folder holds no bank, or its files are damaged.
        """
        bank = ProbeBank.load(folder)
        if not (folder / CARD).is_file():
            return Artefact(bank=bank, origin="a study of mechprobe")
        try:
            card = json.loads((folder / CARD).read_text(encoding="utf-8"))
            arrays = load_file(folder / SCALINGS) if card["scaled"] else {}
            return Artefact(
                bank=bank,
                origin=card["origin"],
                model_digest=card["model_digest"],
                cards={key: ProbeCard(**about) for key, about in card["probes"].items()},
                scalings={key: _scalings(arrays, key) for key in card["scaled"]},
            )
        except (AttributeError, KeyError, TypeError, ValueError, OSError, SafetensorError) as error:
            raise CheckpointError(
                f"{CARD} or {SCALINGS} in {folder} is damaged ({error}); import the probes again."
            ) from error


def key_of(one: ProbeSet, indicator: str = "") -> str:
    """How a set, or a probe in it, is named in the card."""
    return f"{one.hook_name}/{one.scorer}" + (f"/{indicator}" if indicator else "")


def check_probes(one: ProbeSet) -> None:
    """Raise CheckpointError if an indicator stands twice or a linear probe is not made of finite numbers."""
    for at, (indicator, probe) in enumerate(zip(one.indicators, one.probes, strict=True)):
        if indicator in one.indicators[:at]:
            raise CheckpointError(
                f"{key_of(one)} holds {indicator!r} twice; keep one probe for each indicator, or name scorers apart."
            )
        if isinstance(probe, LinearProbe) and not np.isfinite([*probe.weight, probe.bias]).all():
            n_bad = int(np.sum(~np.isfinite(probe.weight)))
            raise CheckpointError(
                f"the probe for {indicator!r} at {one.hook_name} has {n_bad} weights of {probe.width} and a bias of "
                f"{probe.bias} that are to be finite numbers; fit or copy it again."
            )


def canonical_hook_name(name: str) -> str:
    """The name under which this project stores a residual stream, found without its model.

    `Subject.resolve` does the same for all aliases of a loaded model.
    """
    found = re.fullmatch(r"(blocks\.\d+)\.(hook_resid_post|hook_resid_pre)", name)
    return f"{found[1]}.{_ALIASES[found[2]]}" if found else name


def hook_name_of_layer(layer: int) -> str:
    """Where `hidden_states[layer]` of transformers is: the output of block layer - 1; layer 0 is the embedding."""
    return f"blocks.{layer - 1}.hook_out" if layer > 0 else "blocks.0.hook_in"


def block_of(hook_name: str) -> int | None:
    """Index of the block whose output a hook point is; None for other hook points."""
    found = re.fullmatch(r"blocks\.(\d+)\.hook_out", canonical_hook_name(hook_name))
    return int(found[1]) if found else None


def _scalings(arrays: Mapping[str, Any], key: str) -> tuple[Scaling, ...]:
    pairs = zip(arrays[f"{key}/mean"], arrays[f"{key}/factor"], strict=True)
    return tuple(Scaling(mean=mean, factor=factor) for mean, factor in pairs)
