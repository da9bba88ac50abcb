"""Tokens that a feature is active on, shown among their neighbours, from the activations by feature alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

_POOL = 256
"""Strongest tokens among which the best of each conversation is looked for first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureExample:
    """A token that a feature is active on, with its neighbours."""

    row: int
    transcript_id: str
    act: float
    token_ids: tuple[int, ...]
    """Stored tokens of the same conversation around it, in order."""
    acts: tuple[float, ...]
    """The feature's activation on each of these."""
    position: int
    """Which of these the token itself is."""


@dataclass(frozen=True, kw_only=True)
class TokenContext:
    """The token table of an activation store as arrays, for showing tokens among their neighbours."""

    token_ids: Int[np.ndarray, "tok"]
    conversations: Int[np.ndarray, "tok"]
    transcript_ids: pd.Series

    @classmethod
    def of(cls, tokens: pd.DataFrame) -> "TokenContext":
        """From the store's token table."""
        transcript_ids: Any = tokens["transcript_id"]
        return cls(
            token_ids=tokens["token_id"].to_numpy(),
            conversations=tokens["conversation"].to_numpy(),
            transcript_ids=transcript_ids,
        )

    def examples(
        self,
        chosen: Int[np.ndarray, "example"],
        rows: Int[np.ndarray, "active"],
        values: Float[np.ndarray, "active"],
        context: int,
    ) -> list[FeatureExample]:
        """Show some of the rows that a feature is active on.

        Args:
            chosen: row numbers to show.
            rows: all rows that the feature is active on, ascending.
            values: its activation there.
            context: how many stored tokens to show on either side.
        """
        if not len(chosen):
            return []
        around = chosen[:, None] + np.arange(-context, context + 1)
        inside = np.clip(around, 0, len(self.token_ids) - 1)
        is_shown = (inside == around) & (
            self.conversations[inside] == self.conversations[chosen][:, None]
        )
        place = np.minimum(np.searchsorted(rows, inside), len(rows) - 1)
        acts = np.where(rows[place] == inside, values[place], 0.0)
        ids = self.token_ids[inside]
        return [
            FeatureExample(
                row=int(row),
                transcript_id=str(self.transcript_ids.iloc[int(row)]),
                act=float(acts[at, context]),
                token_ids=tuple(ids[at][shown].tolist()),
                acts=tuple(acts[at][shown].tolist()),
                position=int(shown[:context].sum()),
            )
            for at, (row, shown) in enumerate(zip(chosen, is_shown, strict=True))
        ]

    def top_rows(
        self, rows: Int[np.ndarray, "active"], values: Float[np.ndarray, "active"], n: int
    ) -> Int[np.ndarray, "example"]:
        """The rows of largest activation, the best one of each conversation, strongest first."""
        if len(rows) > _POOL:
            pool = np.argpartition(-values, _POOL)[:_POOL]
            best = self._best_of_each(rows[pool], values[pool])
            # Complete only if nothing outside the pool can be as strong as the last one that is kept.
            if len(best) >= n and values[pool].min() < values[np.searchsorted(rows, best[n - 1])]:
                return best[:n]
        return self._best_of_each(rows, values)[:n]

    def _best_of_each(
        self, rows: Int[np.ndarray, "active"], values: Float[np.ndarray, "active"]
    ) -> Int[np.ndarray, "example"]:
        order = np.lexsort((rows, -values))
        _, best = np.unique(self.conversations[rows[order]], return_index=True)
        return rows[order][np.sort(best)]

    @cached_property
    def n_kinds(self) -> int:
        """One more than the largest token id."""
        return int(self.token_ids.max(initial=-1)) + 1


def band_rows(
    rows: Int[np.ndarray, "active"],
    values: Float[np.ndarray, "active"],
    bands: Sequence[tuple[float, float]],
    n: int,
    rng: np.random.Generator,
) -> list[Int[np.ndarray, "example"]]:
    """Rows drawn at random from bands of activation (low, high], strongest first in each."""
    drawn: list[np.ndarray] = []
    for low, high in bands:
        inside = np.flatnonzero((values > low) & (values <= high))
        some = rng.choice(inside, min(n, len(inside)), replace=False)
        drawn.append(rows[some[np.lexsort((rows[some], -values[some]))]])
    return drawn
