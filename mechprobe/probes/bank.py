"""All fitted probes of a study in one folder: safetensors for the numbers, JSON for what they are."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from mechprobe.errors import CheckpointError, ConfigError, DataError
from mechprobe.probes.bank_files import Arrays, pack, unpack
from mechprobe.probes.kinds.layers import Layout
from mechprobe.probes.probe_set import ProbeSet
from mechprobe.records import atomic_write_bytes, atomic_write_text

_NUMBERS, _INDEX = "probes.safetensors", "probes.json"
_SCHEMA = 2
"""1 was sets of linear probes only and said no number; it is still read."""
_DAMAGE = (
    AttributeError,
    DataError,
    KeyError,
    OSError,
    SafetensorError,
    TypeError,
    ValueError,
)
"""What reading a truncated or edited bank ends in."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ProbeBank:
    """Probe sets by scorer and hook point.

    Raises:
        ConfigError: two sets have the same scorer and hook point.
    """

    sets: tuple[ProbeSet, ...]
    model: str | None = None
    """The model whose activations the probes read; None: not said."""

    def __post_init__(self) -> None:
        keys = [(one.scorer, one.hook_name) for one in self.sets]
        if len(set(keys)) < len(keys):
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ConfigError(f"scorer {twice[0]!r} stands twice at {twice[1]!r}; name it apart.")

    def find(self, scorer: str, hook_name: str | None = None) -> ProbeSet:
        """The set of a scorer, at a hook point where it was fitted at several.

        Raises:
            ConfigError: there is none, or there are several and none was named.
        """
        found = [
            one for one in self.sets if one.scorer == scorer and hook_name in (None, one.hook_name)
        ]
        if len(found) != 1:
            held = ", ".join(f"{one.scorer} at {one.hook_name}" for one in self.sets)
            raise ConfigError(
                f"{len(found)} probe sets match scorer {scorer!r} at {hook_name!r}; the bank holds {held}."
            )
        return found[0]

    def check_fits(
        self, model: str, acts: Mapping[str, int], feature_acts: Mapping[str, int] | None = None
    ) -> None:
        """Check that the bank can read what a model gives.

        Args:
            acts: width of the model's activations at each hook point.
            feature_acts: number of SAE features at each hook point that has an SAE.

        Raises:
            CheckpointError: the bank is of another model, or reads a hook point that is not there or is of
                another width.
        """
        if self.model not in (None, model):
            raise CheckpointError(
                f"the probe bank was fitted on {self.model!r}, not on {model!r}; probes do not carry over "
                "between models: fit new ones, or load the model of the bank."
            )
        for one in self.sets:
            widths = acts if one.reads == "acts" else feature_acts or {}
            for hook_name, width in one.hook_widths.items():
                if widths.get(hook_name) != width:
                    found = f"width {widths[hook_name]}" if hook_name in widths else "nothing"
                    raise CheckpointError(
                        f"scorer {one.scorer!r} reads width {width} at {hook_name!r}, where there is {found}; "
                        f"there are {', '.join(widths) or 'none'}."
                    )

    def save(self, folder: Path) -> None:
        """Write the bank; the index comes last, so that a bank that can be read is whole.

        Raises:
            ConfigError: a probe is of a class that cannot be stored.
        """
        arrays: Arrays = {}
        sets: list[dict[str, Any]] = []
        for one in self.sets:
            probes = dict(zip(one.indicators, one.probes, strict=True))
            packed, described = pack(probes, f"{one.hook_name}/{one.scorer}")
            arrays |= packed
            about: dict[str, Any] = {
                "scorer": one.scorer,
                "hook_name": one.hook_name,
                "reads": one.reads,
            }
            if one.layout:
                about["hooks"] = one.hook_widths
            sets.append({**about, "probes": described})
        atomic_write_bytes(folder / _NUMBERS, save(arrays))
        index = {"schema": _SCHEMA, "model": self.model, "sets": sets}
        atomic_write_text(folder / _INDEX, json.dumps(index, indent=2) + "\n")

    @staticmethod
    def load(folder: Path) -> "ProbeBank":
        """Read a bank.

        Raises:
            CheckpointError: the folder holds none, it is of a newer schema, or index and numbers do not belong
                together.
        """
        if not (folder / _INDEX).is_file() or not (folder / _NUMBERS).is_file():
            raise CheckpointError(
                f"{folder} holds no probe bank; it needs {_INDEX} and {_NUMBERS} (run the probe stage)."
            )
        try:
            index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
            if index.get("schema", 1) > _SCHEMA:
                raise CheckpointError(
                    f"the probe bank in {folder} is of schema {index['schema']}, this program reads up to "
                    f"{_SCHEMA}; install the newer mechprobe that wrote it."
                )
            arrays = load_file(folder / _NUMBERS)
            sets = tuple(_restore(one, arrays) for one in index["sets"])
            return ProbeBank(sets=sets, model=index.get("model"))
        except _DAMAGE as error:
            raise CheckpointError(
                f"the probe bank in {folder} is damaged ({error}); run the probe stage again."
            ) from error


def _restore(described: dict[str, Any], arrays: Arrays) -> ProbeSet:
    probes = unpack(described["probes"], f"{described['hook_name']}/{described['scorer']}", arrays)
    hooks = described.get("hooks")
    return ProbeSet(
        scorer=described["scorer"],
        hook_name=described["hook_name"],
        reads=described["reads"],
        indicators=tuple(probes),
        probes=tuple(probes.values()),
        layout=hooks and Layout(hook_names=tuple(hooks), widths=tuple(hooks.values())),
    )
