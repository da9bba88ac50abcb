"""What a study of turns may list as its estimators: probes of tokens, probes of whole turns, baselines at tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

from mechprobe.baselines.tokens import TOKEN_BASELINES
from mechprobe.errors import ConfigError
from mechprobe.probes.estimators import ESTIMATORS
from mechprobe.probes.kinds.sequence_estimators import SEQUENCE_ESTIMATORS


@dataclass(frozen=True, kw_only=True, slots=True)
class ScorerNames:
    """The names by what the estimators learn from."""

    rows: tuple[str, ...]
    """Labelled tokens: `probes.estimators.ESTIMATORS`."""
    units: tuple[str, ...]
    """Labelled turns: `probes.kinds.sequence_estimators.SEQUENCE_ESTIMATORS`."""
    tokens: tuple[str, ...]
    """Labelled tokens, of which no activation is read: `baselines.tokens.TOKEN_BASELINES`."""


def sort_names(names: Sequence[str]) -> ScorerNames:
    """The names in their order, by kind.

    Raises:
        ConfigError: one is unknown, or stands there twice; the message lists those there are.
    """
    known = (*ESTIMATORS, *SEQUENCE_ESTIMATORS, *TOKEN_BASELINES)
    for at, name in enumerate(names):
        if name not in known:
            raise ConfigError(f"unknown estimator {name!r}; there are {', '.join(known)}.")
        if name in names[:at]:
            raise ConfigError(f"estimator {name!r} is asked for twice; name it once.")
    return ScorerNames(
        rows=tuple(name for name in names if name in ESTIMATORS),
        units=tuple(name for name in names if name in SEQUENCE_ESTIMATORS),
        tokens=tuple(name for name in names if name in TOKEN_BASELINES),
    )
