"""The protocol tried on directions that drive nothing: how many of them does it call a driver?

Every random or shuffled direction goes through the whole rule, with the other random directions as its null. Its
dose curve is not run but taken as rising, and the complement of random directions is not run but taken as passed,
which can only make more of them drivers.
"""

from collections.abc import Sequence

import numpy as np

from mechprobe.causal.checks.conditions import RANDOM
from mechprobe.causal.readings import IndicatorReadings
from mechprobe.causal.verdicts.deciding import decide
from mechprobe.causal.verdicts.evidence import DirectionReadings, Effort, family_evidence
from mechprobe.causal.verdicts.judging import others_of
from mechprobe.causal.verdicts.verdict import VerdictName, VerdictRule


def control_verdicts(
    readings: Sequence[IndicatorReadings], control: str, rule: VerdictRule, effort: Effort
) -> list[VerdictName]:
    """The verdict of each control direction on each indicator."""
    with_control = [one for one in readings if control in one.controls]
    n_draws = min((len(one.controls[control].logit_diff) for one in with_control), default=0)
    verdicts: list[VerdictName] = []
    for draw in range(n_draws):
        family = [_as_direction(one, control, draw) for one in with_control]
        for evidence in family_evidence(family, rule, effort):
            verdicts.append(decide(evidence, rule).name)
    return verdicts


def false_drivers(verdicts: Sequence[VerdictName]) -> str:
    """How many of how many were called a driver, as "x/n"."""
    return f"{sum(name == 'driver' for name in verdicts)}/{len(verdicts)}"


def _as_direction(readings: IndicatorReadings, control: str, draw: int) -> DirectionReadings:
    null = readings.controls[RANDOM].logit_diff
    rest = readings.control_complements.get(control)
    return DirectionReadings(
        indicator=readings.indicator,
        direction=control,
        unedited=readings.unedited,
        interchanged=readings.controls[control].logit_diff[draw],
        patched=readings.patched.logit_diff[0],
        null=np.delete(null, draw, axis=0) if control == RANDOM else null,
        others=others_of(readings),
        complement=None if rest is None else rest.logit_diff[draw],
        audit_effect=np.nan,
        audit_ceiling=1.0,
        auroc=np.nan,
        moved=float(readings.control_moved[control][draw]),
        rises={"necessity": True, "sufficiency": True},
    )
