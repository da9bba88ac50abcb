"""What a baseline may look at: the text of a unit, where it stands, how long it is. Never an activation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Int, Int8, Integer

from mechprobe.errors import ShapeError


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Places:
    """Where each unit stands: a turn by its first token, a span by its last, a token by itself."""

    turn: Integer[np.ndarray, "text"]
    """Number of the turn, as in the token table."""
    token_in_turn: Integer[np.ndarray, "text"]
    """Stored tokens before it in its turn."""
    token_in_transcript: Integer[np.ndarray, "text"]
    """Stored tokens before it in its conversation."""

    def take(self, rows: Integer[np.ndarray, "chosen"]) -> "Places":
        """Some of the units."""
        return Places(
            turn=self.turn[rows],
            token_in_turn=self.token_in_turn[rows],
            token_in_transcript=self.token_in_transcript[rows],
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Passages:
    """Units to score: turns, spans or single tokens.

    Raises:
        ShapeError: there is not one place or one token count for each text.
    """

    texts: tuple[str, ...]
    places: Places | None = None
    """None: unknown, and baselines of position do not run."""
    n_tokens: Integer[np.ndarray, "text"] | None = None
    """Tokens that the model under study reads of each text; None: unknown."""

    def __post_init__(self) -> None:
        sizes = {
            "places": self.places and len(self.places.turn),
            "n_tokens": None if self.n_tokens is None else len(self.n_tokens),
        }
        for name, size in sizes.items():
            if size is not None and size != len(self.texts):
                raise ShapeError(
                    f"{name} has {size} rows for {len(self.texts)} texts; give one for each."
                )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LabelledTexts(Passages):
    """Units with their labels for every indicator: 1 positive, 0 negative, -1 left out.

    Raises:
        ShapeError: there is not one row of labels for each text.
    """

    labels: Int8[np.ndarray, "text indicator"]

    def __post_init__(self) -> None:
        # The class that slots=True makes is not the one that a bare super() would look in.
        Passages.__post_init__(self)
        if len(self.texts) != len(self.labels):
            raise ShapeError(
                f"{len(self.texts)} texts come with {len(self.labels)} rows of labels; give one for each."
            )

    def take(self, rows: Integer[np.ndarray, "chosen"]) -> "LabelledTexts":
        """Some of the units, with their labels."""
        return LabelledTexts(
            texts=tuple(self.texts[row] for row in rows),
            labels=self.labels[rows],
            places=self.places and self.places.take(rows),
            n_tokens=None if self.n_tokens is None else self.n_tokens[rows],
        )

    def without_labels(self, rows: Integer[np.ndarray, "chosen"]) -> Passages:
        """Some of the units as a scorer sees them that is being tested."""
        chosen = self.take(rows)
        return Passages(texts=chosen.texts, places=chosen.places, n_tokens=chosen.n_tokens)


def stacked(parts: Sequence[Passages]) -> Passages:
    """The units of all parts, one part after another; what is unknown of one part is unknown of all."""
    places = [part.places for part in parts if part.places is not None]
    counts = [part.n_tokens for part in parts if part.n_tokens is not None]
    names = ("turn", "token_in_turn", "token_in_transcript")
    return Passages(
        texts=tuple(text for part in parts for text in part.texts),
        places=Places(
            **{name: np.concatenate([getattr(one, name) for one in places]) for name in names}
        )
        if len(places) == len(parts)
        else None,
        n_tokens=np.concatenate(counts) if len(counts) == len(parts) else None,
    )


def places_of_rows(tokens: pd.DataFrame, rows: Int[np.ndarray, "unit"]) -> Places:
    """Places of single rows of a token table: tokens, or spans by their last token.

    Args:
        tokens: the store's token table, a conversation's rows together and in the order of the text.
    """
    turn = tokens["turn"].to_numpy(dtype=np.int64)
    conversation = tokens["conversation"].to_numpy(dtype=np.int64)
    in_turn = _since_start(np.stack([conversation, turn], axis=1))
    in_transcript = _since_start(conversation[:, None])
    return Places(
        turn=turn[rows], token_in_turn=in_turn[rows], token_in_transcript=in_transcript[rows]
    )


def places_of_turns(tokens: pd.DataFrame, turns: pd.DataFrame) -> Places:
    """Places of turns: their number, and the stored tokens of their conversation before them.

    Args:
        tokens: as for `places_of_rows`.
        turns: columns `conversation` and `turn`; each has a row in the token table.

    Raises:
        ShapeError: a turn has no stored token.
    """
    return places_of_rows(tokens, _first_rows(tokens, turns))


def tokens_of_turns(tokens: pd.DataFrame, turns: pd.DataFrame) -> Int[np.ndarray, "turn"]:
    """Stored tokens of each turn; 0 for a turn that has none."""
    counts = _keys(tokens).value_counts()
    return counts.reindex(_keys(turns), fill_value=0).to_numpy(dtype=np.int64)


def _first_rows(tokens: pd.DataFrame, turns: pd.DataFrame) -> np.ndarray:
    stored, keys = _keys(tokens), _keys(turns)
    rows = np.flatnonzero(~stored.duplicated())
    found = stored.take(rows).get_indexer(keys)
    if (found < 0).any():
        conversation, turn = keys[int(np.flatnonzero(found < 0)[0])]
        raise ShapeError(
            f"turn {turn} of conversation {conversation} has no stored token, so it has no place; leave it "
            "out, or capture more sections."
        )
    return rows[found]


def _keys(table: pd.DataFrame) -> pd.MultiIndex:
    """Conversation and turn of each row."""
    columns = [table[name].to_numpy(dtype=np.int64) for name in ("conversation", "turn")]
    return pd.MultiIndex.from_arrays(columns, names=["conversation", "turn"])


def _since_start(codes: np.ndarray) -> np.ndarray:
    """Rows since the start of the run of equal consecutive rows that a row is in."""
    if not len(codes):
        return np.zeros(0, dtype=np.int64)
    starts = np.r_[True, (codes[1:] != codes[:-1]).any(axis=1)]
    numbers = np.arange(len(codes))
    return numbers - np.maximum.accumulate(np.where(starts, numbers, 0))


def count_words(texts: Sequence[str]) -> Int[np.ndarray, "text"]:
    """Stretches of characters between spaces."""
    return np.array([len(text.split()) for text in texts], dtype=np.int64)
