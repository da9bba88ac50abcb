"""The probes of one scorer at one place."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
from jaxtyping import Float32, Float64

from mechprobe.errors import ConfigError
from mechprobe.probes.estimators import Reads, scores_of
from mechprobe.probes.kinds.layers import Layout
from mechprobe.probes.linear import LinearProbe, check_width
from mechprobe.probes.matrix import Matrix
from mechprobe.probes.probe import Probe


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ProbeSet:
    """The probes of one scorer at one hook point, or over several together, one for each indicator.

    Raises:
        ConfigError: there is not one probe for each indicator, they differ in width, or the layout of several
            hook points is of another width or name.
    """

    scorer: str
    hook_name: str
    reads: Reads
    indicators: tuple[str, ...]
    probes: tuple[Probe, ...]
    layout: Layout | None = None
    """For probes over several hook points: whose columns are whose; `hook_name` is then the layout's."""

    def __post_init__(self) -> None:
        widths = {probe.width for probe in self.probes}
        if len(self.probes) != len(self.indicators) or len(widths) != 1:
            raise ConfigError(
                f"scorer {self.scorer!r} has {len(self.probes)} probes of widths {sorted(widths)} for "
                f"{len(self.indicators)} indicators; give one of the same width for each."
            )
        layout = self.layout
        if layout and (layout.hook_name, {layout.width}) != (self.hook_name, widths):
            raise ConfigError(
                f"scorer {self.scorer!r} at {self.hook_name!r} has probes of width {self.width} and a layout "
                f"of {layout.width} columns named {layout.hook_name!r}; the two must agree."
            )

    @property
    def width(self) -> int:
        """Columns of the rows that the probes read."""
        return self.probes[0].width

    @property
    def hook_widths(self) -> dict[str, int]:
        """The hook points that the probes read, with the width of each."""
        if self.layout is None:
            return {self.hook_name: self.width}
        return dict(zip(self.layout.hook_names, self.layout.widths, strict=True))

    @property
    def linear_probes(self) -> tuple[LinearProbe, ...]:
        """The probes, if all are plain linear ones.

        Raises:
            ConfigError: one is not.
        """
        for probe in self.probes:
            if not isinstance(probe, LinearProbe):
                raise ConfigError(
                    f"scorer {self.scorer!r} at {self.hook_name!r} holds {probe.kind} probes, which have no "
                    "one direction; ask for a linear scorer, or use their scores only."
                )
        return cast(tuple[LinearProbe, ...], self.probes)

    @property
    def weight(self) -> Float32[np.ndarray, "d indicator"]:
        """The linear probes' weights side by side."""
        return np.stack([probe.weight for probe in self.linear_probes], axis=1)

    @property
    def bias(self) -> Float64[np.ndarray, "indicator"]:
        """The linear probes' offsets."""
        return np.array([probe.bias for probe in self.linear_probes], dtype=np.float64)

    def probe(self, indicator: str) -> LinearProbe:
        """The linear probe of one indicator.

        Raises:
            ConfigError: there is none, or the set is not of linear probes.
        """
        self.any_probe(indicator)
        return self.linear_probes[self.indicators.index(indicator)]

    def any_probe(self, indicator: str) -> Probe:
        """The probe of one indicator, whatever its kind.

        Raises:
            ConfigError: there is none.
        """
        if indicator not in self.indicators:
            raise ConfigError(
                f"scorer {self.scorer!r} has no probe for {indicator!r}; it has "
                f"{', '.join(self.indicators)}."
            )
        return self.probes[self.indicators.index(indicator)]

    def split_weight(self) -> dict[str, Float32[np.ndarray, "d indicator"]]:
        """The linear probes' weights at each hook point that they read.

        Raises:
            ConfigError: the set is not of linear probes.
        """
        return self.layout.split(self.weight) if self.layout else {self.hook_name: self.weight}

    def score_all(self, X: Matrix) -> Float32[np.ndarray, "tok indicator"]:
        """Scores of all indicators; those of linear probes from one product with the rows.

        Raises:
            ShapeError: the rows are not as wide as those the probes were fitted on.
        """
        check_width(X, self.width, f"scorer {self.scorer!r} at {self.hook_name!r}")
        return scores_of(self.probes, X)

    def score_joined(self, parts: Mapping[str, Matrix]) -> Float32[np.ndarray, "tok indicator"]:
        """Scores of all indicators from the rows of each hook point that the set reads.

        Raises:
            ConfigError: a hook point is missing.
            ShapeError: the rows of one are not as wide as those the probes were fitted on.
        """
        widths = self.hook_widths
        layout = Layout(hook_names=tuple(widths), widths=tuple(widths.values()))
        return self.score_all(layout.join(parts))
