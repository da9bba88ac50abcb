"""All fitted probes of a study in one folder: safetensors for the numbers, JSON for what they are."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from mechprobe.errors import CheckpointError, ConfigError
from mechprobe.probes.estimators import Reads
from mechprobe.probes.linear import LinearProbe, check_width
from mechprobe.probes.matrix import Matrix
from mechprobe.records import atomic_write_bytes, atomic_write_text

_NUMBERS, _INDEX = "probes.safetensors", "probes.json"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ProbeSet:
    """The probes of one scorer at one hook point, one for each indicator.

    Raises:
        ConfigError: there is not one probe for each indicator, or they differ in width.
    """

    scorer: str
    hook_name: str
    reads: Reads
    indicators: tuple[str, ...]
    probes: tuple[LinearProbe, ...]

    def __post_init__(self) -> None:
        widths = {len(probe.weight) for probe in self.probes}
        if len(self.probes) != len(self.indicators) or len(widths) != 1:
            raise ConfigError(
                f"scorer {self.scorer!r} has {len(self.probes)} probes of widths {sorted(widths)} for "
                f"{len(self.indicators)} indicators; give one of the same width for each."
            )

    @property
    def weight(self) -> Float32[np.ndarray, "d indicator"]:
        """The probes' weights side by side."""
        return np.stack([probe.weight for probe in self.probes], axis=1)

    @property
    def bias(self) -> Float64[np.ndarray, "indicator"]:
        """The probes' offsets."""
        return np.array([probe.bias for probe in self.probes], dtype=np.float64)

    def probe(self, indicator: str) -> LinearProbe:
        """The probe of one indicator.

        Raises:
            ConfigError: there is none.
        """
        if indicator not in self.indicators:
            raise ConfigError(
                f"scorer {self.scorer!r} has no probe for {indicator!r}; it has "
                f"{', '.join(self.indicators)}."
            )
        return self.probes[self.indicators.index(indicator)]

    def score_all(self, X: Matrix) -> Float32[np.ndarray, "tok indicator"]:
        """Scores of all indicators from one product with the rows.

        Raises:
            ShapeError: the rows are not as wide as those the probes were fitted on.
        """
        weight = self.weight
        check_width(X, len(weight), f"scorer {self.scorer!r} at {self.hook_name!r}")
        return np.asarray(X @ weight + self.bias.astype(np.float32), dtype=np.float32)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ProbeBank:
    """Probe sets by scorer and hook point.

    Raises:
        ConfigError: two sets have the same scorer and hook point.
    """

    sets: tuple[ProbeSet, ...]

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

    def save(self, folder: Path) -> None:
        """Write the bank; the index comes last, so that a bank that can be read is whole."""
        tensors: dict[str, np.ndarray] = {}
        for one in self.sets:
            tensors[f"{_key(one)}/weight"] = np.ascontiguousarray(one.weight.T)
            tensors[f"{_key(one)}/bias"] = one.bias
        atomic_write_bytes(folder / _NUMBERS, save(tensors))
        index = {"sets": [_describe(one) for one in self.sets]}
        atomic_write_text(folder / _INDEX, json.dumps(index, indent=2) + "\n")

    @staticmethod
    def load(folder: Path) -> "ProbeBank":
        """Read a bank.

        Raises:
            CheckpointError: the folder holds none, or index and numbers do not belong together.
        """
        if not (folder / _INDEX).is_file() or not (folder / _NUMBERS).is_file():
            raise CheckpointError(
                f"{folder} holds no probe bank; it needs {_INDEX} and {_NUMBERS} (run the probe stage)."
            )
        try:
            index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
            tensors = load_file(folder / _NUMBERS)
            return ProbeBank(sets=tuple(_restore(one, tensors) for one in index["sets"]))
        except (KeyError, ValueError, OSError, SafetensorError) as error:
            raise CheckpointError(
                f"the probe bank in {folder} is damaged ({error}); run the probe stage again."
            ) from error


def _key(one: ProbeSet) -> str:
    return f"{one.hook_name}/{one.scorer}"


def _describe(one: ProbeSet) -> dict[str, Any]:
    return {
        "scorer": one.scorer,
        "hook_name": one.hook_name,
        "reads": one.reads,
        "probes": [
            {"indicator": indicator, "kind": probe.kind, "settings": dict(probe.settings)}
            for indicator, probe in zip(one.indicators, one.probes, strict=True)
        ],
    }


def _restore(described: dict[str, Any], tensors: dict[str, np.ndarray]) -> ProbeSet:
    key = f"{described['hook_name']}/{described['scorer']}"
    weight, bias = tensors[f"{key}/weight"], tensors[f"{key}/bias"]
    return ProbeSet(
        scorer=described["scorer"],
        hook_name=described["hook_name"],
        reads=described["reads"],
        indicators=tuple(one["indicator"] for one in described["probes"]),
        probes=tuple(
            LinearProbe(kind=one["kind"], weight=w, bias=float(b), settings=one["settings"])
            for one, w, b in zip(described["probes"], weight, bias, strict=True)
        ),
    )
