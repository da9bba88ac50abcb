"""The baselines that read the text of a unit, its length or its place, by name: one contract for all.

`score_baselines` runs several on one fold and shares what they read. `find_text_scorer` is for one that reads texts only.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from mechprobe.baselines.fold import Baseline, BaselineFold
from mechprobe.baselines.passages import LabelledTexts, Passages
from mechprobe.baselines.surface import SURFACE_BASELINES
from mechprobe.baselines.words import WORD_BASELINES
from mechprobe.errors import ConfigError

BASELINES: dict[str, Baseline] = {
    baseline.name: baseline for baseline in (*SURFACE_BASELINES, *WORD_BASELINES)
}


@runtime_checkable
class TextScorer(Protocol):
    """Fit on some texts, choose on others, fit on both, score further ones: a score a text and indicator."""

    def __call__(
        self, fit: LabelledTexts, select: LabelledTexts | None, texts: Sequence[str]
    ) -> Float[np.ndarray, "text indicator"]:
        """See the class."""
        ...


TEXT_SCORERS: tuple[str, ...] = tuple(
    name for name, baseline in BASELINES.items() if not baseline.needs
)
"""Names that `find_text_scorer` knows."""


def find_baseline(name: str) -> Baseline:
    """The baseline of that name.

    Raises:
        ConfigError: there is none; the message lists those there are.
    """
    if name not in BASELINES:
        raise ConfigError(f"unknown baseline {name!r}; there are {', '.join(BASELINES)}.")
    return BASELINES[name]


def score_baselines(
    baselines: Sequence[str | Baseline], fold: BaselineFold, *, seed: int = 0
) -> dict[str, Float[np.ndarray, "text indicator"]]:
    """Scores of the fold's test units by every baseline that the fold can serve, in the order asked for.

    Args:
        baselines: names in BASELINES, or baselines that were made, as by `embedding_baseline`.

    Raises:
        ConfigError: a name is unknown, or two baselines have one name.
    """
    found = [one if isinstance(one, Baseline) else find_baseline(one) for one in baselines]
    names = [one.name for one in found]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"baseline {twice!r} is asked for twice; name it once, or name it apart.")
    return {one.name: one.score(fold, seed=seed) for one in found if one.can_score(fold)}


def find_text_scorer(name: str) -> TextScorer:
    """A baseline that needs nothing but texts, as one call.

    Raises:
        ConfigError: there is none; the message lists those there are.
    """
    if name not in TEXT_SCORERS:
        raise ConfigError(f"unknown text scorer {name!r}; there are {', '.join(TEXT_SCORERS)}.")
    baseline = BASELINES[name]

    def score(
        fit: LabelledTexts, select: LabelledTexts | None, texts: Sequence[str]
    ) -> Float[np.ndarray, "text indicator"]:
        fold = BaselineFold(fit, select, Passages(texts=tuple(texts)))
        return baseline.score(fold, seed=0)

    return score
