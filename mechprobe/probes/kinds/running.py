"""Unit scores from the scores of rows: softmax-weighted mean, highest rolling mean, highest running average.

The first two are "softmax" and "max of rolling means" of arXiv 2506.10805. The running average (EMA)
needs only what came before, so a monitor can keep it while a model writes: `stream` takes one row at a time and ends
at the same bits as the whole unit at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Float, Float32, Float64

from mechprobe.errors import ConfigError
from mechprobe.probes.kinds.attention import softmax_within
from mechprobe.probes.kinds.sequences import Starts, check_starts, lengths_of
from mechprobe.probes.linear import LinearProbe, check_width
from mechprobe.probes.matrix import Matrix, is_sparse, size_of
from mechprobe.probes.probe import Probe
from mechprobe.probes.stored import Stored

Rule: TypeAlias = Literal["softmax", "rolling_max", "ema"]
SETTING: dict[Rule, str] = {"softmax": "temperature", "rolling_max": "window", "ema": "half_life"}
"""What a rule has to choose: log-odds at which weights fall by e; rows; rows."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RunningProbe:
    """A probe of rows, and the rule that makes unit scores of its scores.

    Raises:
        ConfigError: the rule's setting is not positive, or a window is not whole.
    """

    probe: Probe
    rule: Rule
    amount: float
    """Temperature, window or half-life, as the rule needs."""

    def __post_init__(self) -> None:
        is_count = self.rule != "rolling_max" or self.amount == int(self.amount)
        if not self.amount > 0 or not is_count:
            raise ConfigError(
                f"{SETTING[self.rule]} is {self.amount}; it must be > 0, and a whole number of rows for a window."
            )

    @property
    def kind(self) -> str:
        """The rule; the probe's own kind stands in `probe`."""
        return self.rule

    @property
    def settings(self) -> Mapping[str, float]:
        """The rule's setting first, then those of the probe."""
        return {SETTING[self.rule]: self.amount, **self.probe.settings}

    @property
    def width(self) -> int:
        """Columns of the rows that it reads."""
        return self.probe.width

    def score(self, X: Matrix) -> Float32[np.ndarray, "tok"]:
        """The probe's score of each row; no rule is applied.

        Raises:
            ShapeError: the rows are not of the probe's width.
        """
        return row_scores(self.probe, X)

    def score_units(self, X: Matrix, starts: Starts) -> Float32[np.ndarray, "unit"]:
        """One number for each unit, in the units of the probe's scores.

        Raises:
            ShapeError: the rows are not of the probe's width, or the starts do not divide them.
        """
        check_starts(starts, size_of(X)[0])
        scores = self.score(X)
        if self.rule == "softmax":
            weights = softmax_within(scores / np.float32(self.amount), starts)
            return np.add.reduceat(weights * scores, starts)
        if self.rule == "rolling_max":
            return highest_rolling_mean(scores, starts, int(self.amount))
        return np.maximum.reduceat(running_average(scores, starts, self.amount), starts).astype(
            np.float32
        )

    def stream(self) -> "Stream":
        """A monitor at the beginning of a unit.

        Raises:
            ConfigError: the rule is not "ema"; the others need rows that are yet to come.
        """
        if self.rule != "ema":
            raise ConfigError(f"{self.rule!r} cannot be followed row by row; use the rule 'ema'.")
        return Stream(self.probe, self.amount)

    def stored(self) -> Stored:
        """The probe in parts."""
        return Stored(
            form="running",
            kind=self.kind,
            settings=self.settings,
            text={"rule": self.rule, "amount": self.amount},
            inner=self.probe,
        )

    @staticmethod
    def restored(parts: Stored) -> "RunningProbe":
        """The probe put together again."""
        if parts.inner is None:
            raise KeyError("inner")
        return RunningProbe(probe=parts.inner, rule=parts.text["rule"], amount=parts.text["amount"])


class Stream:
    """The running average of a unit that is being written; what is lost with it is one number."""

    def __init__(self, probe: Probe, half_life: float) -> None:
        self._probe, self._keep = probe, _kept(half_life)
        self._average: float | None = None
        self._highest = -np.inf

    def push(self, row: Float[np.ndarray, "d"]) -> float:
        """Take the next row; returns the unit's score so far: the highest running average."""
        score = float(row_scores(self._probe, row[None])[0])
        before = score if self._average is None else self._average
        self._average = self._keep * before + (1 - self._keep) * score
        self._highest = max(self._highest, self._average)
        return float(np.float32(self._highest))


def row_scores(probe: Probe, X: Matrix) -> Float32[np.ndarray, "tok"]:
    """Scores that do not depend, to the last bit, on which rows are scored together, if the probe is linear.

    A product with many rows sums in another order than one with a single row; here each row is its own product.

    Raises:
        ShapeError: the rows are not of the probe's width.
    """
    if not isinstance(probe, LinearProbe) or is_sparse(X):
        return probe.score(X)
    check_width(X, probe.width, f"a {probe.kind} probe")
    rows = np.ascontiguousarray(X, dtype=np.float32)
    return np.vecdot(rows, probe.weight) + np.float32(probe.bias)


def running_average(
    scores: Float32[np.ndarray, "tok"], starts: Starts, half_life: float
) -> Float64[np.ndarray, "tok"]:
    """Exponential moving average within each unit, from its first score; a score counts half after `half_life` rows."""
    keep = _kept(half_life)
    lengths = lengths_of(starts, len(scores))
    longest_first = np.argsort(-lengths, kind="stable")
    begin = starts[longest_first]
    averages = scores.astype(np.float64)
    # Row by row over all units that are still going: the same two products as in `Stream.push`.
    n_going = np.searchsorted(-lengths[longest_first], -np.arange(1, lengths.max()), side="left")
    for at, n_units in enumerate(n_going, start=1):
        place = begin[:n_units] + at
        averages[place] = keep * averages[place - 1] + (1 - keep) * averages[place]
    return averages


def highest_rolling_mean(
    scores: Float32[np.ndarray, "tok"], starts: Starts, window: int
) -> Float32[np.ndarray, "unit"]:
    """Highest mean of `window` consecutive rows of each unit; of all its rows, where it has fewer."""
    lengths = lengths_of(starts, len(scores))
    total = np.r_[0.0, np.cumsum(scores, dtype=np.float64)]
    place = np.arange(len(scores)) - np.repeat(starts, lengths)
    size = np.minimum(window, np.repeat(lengths, lengths))
    end = np.arange(1, len(scores) + 1)
    means = np.where(place + 1 >= size, (total[end] - total[end - size]) / size, -np.inf)
    return np.maximum.reduceat(means, starts).astype(np.float32)


def _kept(half_life: float) -> float:
    """What is kept of the average at each row."""
    return 0.5 ** (1 / half_life)
