"""Texts that stand on both sides of a split: what was fitted on them is not tested by them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from mechprobe.errors import ConfigError

_SPACE = re.compile(r"\s+")
RUN_LENGTH = 8
"""Words of a run that is looked for on the other side; shorter ones are common to all texts."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SharedTexts:
    """Which test texts the fit texts hold already; empty texts are counted apart."""

    is_duplicate: Bool[np.ndarray, "text"]
    """The same text, but for case and space, is among the fit texts."""
    is_near: Bool[np.ndarray, "text"]
    """At least half of its runs of words stand in the fit texts; duplicates among them."""
    n_empty: int
    """Test texts without a visible character."""

    @property
    def n_duplicates(self) -> int:
        """Test texts that were fitted on."""
        return int(self.is_duplicate.sum())

    @property
    def n_near(self) -> int:
        """Test texts that were fitted on for the most part."""
        return int(self.is_near.sum())

    @property
    def warning(self) -> str:
        """One sentence for a report; empty where nothing is shared."""
        if not self.n_near:
            return ""
        return (
            f"{self.n_duplicates} of {len(self.is_near)} test texts stand among the fit texts word for word and "
            f"{self.n_near} for at least half of their words: split by scenario, or figures are too high."
        )


def shared_texts(
    fit: Sequence[str], test: Sequence[str], *, run_length: int = RUN_LENGTH
) -> SharedTexts:
    """Compare the texts of two sides of a split.

    Args:
        run_length: words of the runs by which near duplicates are told.

    Raises:
        ConfigError: a run would have no word.
    """
    if run_length < 1:
        raise ConfigError(f"run_length is {run_length}; it must be at least 1 (8 is a good value).")
    known = {_plain(text) for text in fit} - {""}
    runs = {run for text in known for run in _runs(text, run_length)}
    plain = [_plain(text) for text in test]
    is_duplicate = np.array([text in known for text in plain], dtype=bool)
    share = np.array([_share(_runs(text, run_length), runs) for text in plain])
    return SharedTexts(
        is_duplicate=is_duplicate,
        is_near=is_duplicate | (share >= 0.5),
        n_empty=sum(not text for text in plain),
    )


def _plain(text: str) -> str:
    return _SPACE.sub(" ", text).strip().casefold()


def _runs(text: str, run_length: int) -> set[int]:
    """Runs of words by their hash: a text of a thousand words would hold eight thousand otherwise."""
    words = text.split()
    return {
        hash(tuple(words[start : start + run_length]))
        for start in range(len(words) - run_length + 1)
    }


def _share(own: set[int], others: set[int]) -> float:
    """0 for a text without a run, which is too short to tell."""
    return len(own & others) / len(own) if own else 0.0
