"""A value with its interval, as the tables carry it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NAN = float("nan")


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A value and the interval that resamples transcripts; bounds are NaN where none was computed."""

    value: float
    low: float = NAN
    high: float = NAN

    @property
    def is_known(self) -> bool:
        """Whether there is a value at all."""
        return not math.isnan(self.value)

    @property
    def has_interval(self) -> bool:
        """Whether both bounds are known."""
        return not (math.isnan(self.low) or math.isnan(self.high))


def estimate_of(row: Mapping[str, Any], name: str) -> Estimate:
    """Read `name`, `name_low`, `name_high` of a table row ("effect" also reads plain `low`, `high`)."""
    plain = name in ("effect", "difference")
    low, high = ("low", "high") if plain else (f"{name}_low", f"{name}_high")
    return Estimate(
        value=to_float(row.get(name)), low=to_float(row.get(low)), high=to_float(row.get(high))
    )


def to_float(value: Any) -> float:
    """A table cell as a float; NaN for an empty one."""
    if value is None:
        return NAN
    try:
        return float(value)
    except (TypeError, ValueError):
        return NAN


def to_text(value: Any) -> str:
    """A table cell as text; empty for None and NaN."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value)


def to_bool(value: Any) -> bool | None:
    """A table cell as a truth value; None for an empty one."""
    if value is None or (isinstance(value, float) and math.isnan(value)) or str(value) == "<NA>":
        return None
    return bool(value)
