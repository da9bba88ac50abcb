"""Token scores to sentence, turn and transcript scores, for all indicators in one read.

A sentence scores the mean of its tokens, a turn its highest sentence, a transcript its highest turn; sentences
of fewer than five words do not count, unless the turn has no longer one: then the turn scores the mean of all
its tokens. Source: arXiv 2606.24251, authors' code.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechprobe.errors import ShapeError, StoreError
from mechprobe.transcripts.sentences import split_sentences
from mechprobe.transcripts.transcript import SECTIONS, Section, Transcript

MIN_WORDS = 5


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Pooling:
    """Which rows make a sentence, which sentences a turn, which turns a transcript; all in row order."""

    rows: Int[np.ndarray, "tok"]
    """Rows of the store that count, in order."""
    sentence_lengths: Int[np.ndarray, "sentence"]
    """Rows of each sentence."""
    turn_lengths: Int[np.ndarray, "turn"]
    """Sentences of each turn."""
    transcript_lengths: Int[np.ndarray, "transcript"]
    """Turns of each transcript."""
    turns: pd.DataFrame
    """Columns `conversation`, `turn`: one row for each scored turn."""

    def take(self, chosen: Bool[np.ndarray, "conversation"]) -> "Pooling":
        """The part that concerns some of the conversations."""
        keeps_turn = chosen[self.turns["conversation"].to_numpy()]
        keeps_sentence = np.repeat(keeps_turn, self.turn_lengths)
        first_turn = np.cumsum(self.transcript_lengths) - self.transcript_lengths
        return Pooling(
            rows=self.rows[np.repeat(keeps_sentence, self.sentence_lengths)],
            sentence_lengths=self.sentence_lengths[keeps_sentence],
            turn_lengths=self.turn_lengths[keeps_turn],
            transcript_lengths=self.transcript_lengths[keeps_turn[first_turn]],
            turns=self.turns.loc[keeps_turn].reset_index(drop=True),
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PooledScores:
    """Scores by unit; the units are those of the pooling, in order."""

    sentence: Float[np.ndarray, "sentence indicator"]
    turn: Float[np.ndarray, "turn indicator"]
    transcript: Float[np.ndarray, "transcript indicator"]


def pool(scores: Float[np.ndarray, "tok indicator"], pooling: Pooling) -> PooledScores:
    """Scores of sentences, turns and transcripts.

    Args:
        scores: of the rows in `pooling.rows`, in that order.

    Raises:
        ShapeError: there is not one score for each of those rows.
    """
    if len(scores) != len(pooling.rows):
        raise ShapeError(
            f"{len(scores)} scored rows for {len(pooling.rows)} rows of the pooling; score exactly "
            "`pooling.rows`."
        )
    sentence = reduce_segments(torch.from_numpy(scores), pooling.sentence_lengths, "mean")
    turn = reduce_segments(sentence, pooling.turn_lengths, "max")
    transcript = reduce_segments(turn, pooling.transcript_lengths, "max")
    return PooledScores(sentence=sentence.numpy(), turn=turn.numpy(), transcript=transcript.numpy())


def reduce_segments(
    values: Float[Tensor, "item indicator"], lengths: Int[np.ndarray, "segment"], how: str
) -> Float[Tensor, "segment indicator"]:
    """Mean or maximum of consecutive runs of rows; no run is empty."""
    return torch.segment_reduce(
        values, how, lengths=torch.from_numpy(lengths.astype(np.int64)), axis=0, unsafe=True
    )


def plan_pooling(
    tokens: pd.DataFrame,
    transcripts: Sequence[Transcript],
    *,
    min_words: int = MIN_WORDS,
    sections: Sequence[Section] = SECTIONS,
) -> Pooling:
    """Find sentences and turns among the assistant's stored tokens.

    A token belongs to the sentence that its middle character is in.

    Args:
        tokens: the store's token table, a conversation's rows together and in the order of the text.
        transcripts: those that were captured, in the same order.
        min_words: words that a sentence needs to count.

    Raises:
        StoreError: a turn's rows do not stand together.
    """
    is_scored = (tokens["role"] == "assistant") & tokens["section"].isin(list(sections))
    rows = np.flatnonzero(is_scored.to_numpy())
    scored = tokens.take(rows)
    turn = _runs(_codes(scored, ("conversation", "turn")))
    sentence, is_long = _sentences(scored, transcripts, min_words)
    has_long = np.zeros(int(turn.max(initial=-1)) + 1, dtype=bool)
    np.logical_or.at(has_long, turn, is_long)
    kept = is_long | ~has_long[turn]
    # A turn without a long sentence is one sentence: its tokens share the number -1.
    sentence = np.where(has_long[turn], sentence, -1)[kept]
    rows, turn = rows[kept], turn[kept]
    sentence_start = _starts(np.stack([turn, sentence], axis=1))
    turn_start = _starts(turn[:, None])
    keys = pd.DataFrame(
        {name: tokens[name].to_numpy()[rows[turn_start]] for name in ("conversation", "turn")}
    )
    if keys.duplicated().any():
        raise StoreError(
            "the rows of a turn do not stand together in the token table; capture again, one "
            "conversation after another."
        )
    return Pooling(
        rows=rows,
        sentence_lengths=np.diff(np.r_[sentence_start, len(rows)]),
        turn_lengths=np.diff(
            np.r_[np.searchsorted(sentence_start, turn_start), len(sentence_start)]
        ),
        transcript_lengths=np.diff(
            np.r_[_starts(keys["conversation"].to_numpy()[:, None]), len(keys)]
        ),
        turns=keys,
    )


def _sentences(
    scored: pd.DataFrame, transcripts: Sequence[Transcript], min_words: int
) -> tuple[np.ndarray, np.ndarray]:
    """Number of each token's sentence (over all texts), and whether that sentence is long enough."""
    middle = (scored["char_start"].to_numpy() + scored["char_end"].to_numpy()) / 2
    sentence = np.full(len(scored), -1, dtype=np.int64)
    is_long = np.zeros(len(scored), dtype=bool)
    starts = _starts(_codes(scored, ("conversation", "message", "section")))
    conversation, message = scored["conversation"].to_numpy(), scored["message"].to_numpy()
    section: list[Section] = scored["section"].tolist()
    n_before = 0
    for first, stop in zip(starts, np.r_[starts[1:], len(scored)], strict=True):
        text = (
            transcripts[int(conversation[first])].messages[int(message[first])].text(section[first])
        )
        bounds = split_sentences(text)
        at = _containing(bounds, middle[first:stop])
        inside = np.flatnonzero(at >= 0)
        n_words = np.array([len(text[start:end].split()) for start, end in bounds])
        sentence[first + inside] = n_before + at[inside]
        is_long[first + inside] = n_words[at[inside]] >= min_words
        n_before += len(bounds)
    return sentence, is_long


def _containing(bounds: Sequence[tuple[int, int]], places: np.ndarray) -> np.ndarray:
    """Index of the bounds that each place lies in, -1 if in none."""
    if not bounds:
        return np.full(len(places), -1)
    starts, ends = np.array(bounds).T
    at = np.searchsorted(starts, places, side="right") - 1
    return np.where(places <= ends[at], at, -1)


def _runs(codes: np.ndarray) -> np.ndarray:
    """Number of the run of equal consecutive rows that each row is in."""
    number = np.zeros(len(codes), dtype=np.int64)
    number[_starts(codes)] = 1
    return np.cumsum(number) - 1


def _codes(table: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    """The named columns as integers."""
    return np.stack([pd.factorize(table[name])[0] for name in names], axis=1)


def _starts(codes: np.ndarray) -> np.ndarray:
    """Where a row differs from the one before; 0 included unless there are no rows."""
    if not len(codes):
        return np.zeros(0, dtype=np.int64)
    return np.r_[0, 1 + np.flatnonzero((codes[1:] != codes[:-1]).any(axis=1))]
