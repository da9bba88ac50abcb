"""Effects with and without each co-occurring indicator: what a pooled effect hides."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from mechprobe.causal.readings import IndicatorReadings
from mechprobe.causal.tables.rows import N_BOOT, Row
from mechprobe.causal.verdicts.statistics import bootstrap_many
from mechprobe.causal.verdicts.verdict import Stratum

MIN_GIVEN_PARTNER = 4
"""Runs with and without a partner from which an effect is given for both."""


def partner_note(readings: IndicatorReadings, direction: str) -> str:
    """The partner on which the direction's effect depends most, in words; "" if on none by .25 or more."""
    index = [d.name for d in readings.directions].index(direction)
    notes: list[tuple[float, str]] = []
    primary: tuple[Stratum, ...] = ("necessity", "sufficiency")
    for stratum in primary:
        for partner, on, off in given_partner(readings, index, stratum):
            contrast = float(on.mean() - off.mean())
            text = (
                f"{stratum} {on.mean():.2f} with {partner} (n {len(on)}), "
                f"{off.mean():.2f} without (n {len(off)})"
            )
            notes.append((abs(contrast), text))
    largest = max(notes, default=(0.0, ""))
    return largest[1] if largest[0] >= 0.25 else ""


def given_partner_rows(
    own: Row, readings: IndicatorReadings, index: int, *, seed: int
) -> Iterator[Row]:
    """Rows of a direction's necessity and sufficiency with and without each partner."""
    operations: tuple[tuple[Stratum, str], ...] = (("necessity", "N1"), ("sufficiency", "S1"))
    for stratum, operation in operations:
        for partner, on, off in given_partner(readings, index, stratum):
            for state, values in (("with", on), ("without", off)):
                names = [str(i) for i in range(len(values))]
                low, high = bootstrap_many(values[:, None], names, n_boot=N_BOOT, seed=seed)[0]
                yield own | {
                    "operation": operation,
                    "stratum": f"{stratum} {state} {partner}",
                    "n": len(values),
                    "effect": float(values.mean()),
                    "low": float(low),
                    "high": float(high),
                    "flip_rate": np.nan,
                    "mass": np.nan,
                    "anti_share": float((values < 0).mean()),
                }


def given_partner(
    readings: IndicatorReadings, index: int, stratum: Stratum
) -> Iterator[tuple[str, Float[np.ndarray, "on"], Float[np.ndarray, "off"]]]:
    """Effects with and without each partner, over natural and made sides (each pair stands in a stratum once)."""
    natural, made = readings.unedited, readings.made.unedited
    values = np.concatenate(
        [
            natural.moved(stratum, readings.interchanged.logit_diff[index : index + 1])[0],
            made.moved(stratum, readings.made.interchanged.logit_diff[index : index + 1])[0],
        ]
    )
    held = [case.pair.partners for case in readings.cases]
    kept = [
        partners
        for mask in (natural.masks()[stratum], made.masks()[stratum])
        for partners, keep in zip(held, mask, strict=True)
        if keep
    ]
    for partner in sorted({name for partners in kept for name in partners}):
        is_on = np.array([partners.get(partner, False) for partners in kept])
        on, off = values[is_on], values[~is_on]
        if min(len(on), len(off)) >= MIN_GIVEN_PARTNER:
            yield partner, on, off
