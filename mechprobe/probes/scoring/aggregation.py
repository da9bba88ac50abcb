"""Token scores to sentence, turn and transcript scores, for all indicators in one read.

By default a sentence scores the mean of its tokens, a turn its highest sentence, a transcript its highest turn;
sentences of fewer than five words do not count, unless the turn has no longer one: then the turn scores the mean
of all its tokens. Source: arXiv 2606.24251, authors' code.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechprobe.errors import ConfigError, ShapeError, StoreError
from mechprobe.probes.scoring.sentence_rows import SentenceRows, find_sentences, run_starts
from mechprobe.transcripts.transcript import SECTIONS, Section, Transcript

Reduction = Literal["mean", "max"]
View = Literal["full", "reasoning", "answer"]

MIN_WORDS = 5
VIEWS: Mapping[View, tuple[Section, ...]] = {
    "full": SECTIONS,
    "reasoning": ("reasoning",),
    "answer": ("answer", "tool_call"),
}
"""What a monitor may see of a turn; tool calls are output, as in the paper."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolingRule:
    """How token scores become turn scores."""

    tokens: Reduction = "mean"
    """What a sentence makes of its tokens."""
    sentences: Reduction = "max"
    """What a turn makes of its sentences. A transcript always scores its highest turn."""
    min_words: int = MIN_WORDS
    """Words that a sentence needs to count, where its turn has one so long; 0: all count."""

    def __post_init__(self) -> None:
        if self.min_words < 0:
            raise ConfigError(
                f"min_words is {self.min_words}; it must be >= 0 (5 in the paper, 0 for all)."
            )


PAPER_POOLING = PoolingRule(tokens="mean", sentences="max", min_words=5)
"""The rule of arXiv 2606.24251. There, the last sentence of the reasoning and the first of the answer are one
where no space stands between; here no sentence crosses from one section to another."""


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

    @property
    def turn_rows(self) -> Int[np.ndarray, "turn"]:
        """Rows of each turn."""
        first = np.cumsum(self.turn_lengths) - self.turn_lengths
        return np.add.reduceat(self.sentence_lengths, first) if len(first) else first

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


def pool(
    scores: Float[np.ndarray, "tok indicator"],
    pooling: Pooling,
    *,
    tokens: Reduction = "mean",
    sentences: Reduction = "max",
) -> PooledScores:
    """Scores of sentences, turns and transcripts, for as many probes and layers as there are columns.

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
    sentence = reduce_segments(torch.from_numpy(scores), pooling.sentence_lengths, tokens)
    turn = reduce_segments(sentence, pooling.turn_lengths, sentences)
    transcript = reduce_segments(turn, pooling.transcript_lengths, "max")
    return PooledScores(sentence=sentence.numpy(), turn=turn.numpy(), transcript=transcript.numpy())


def reduce_segments(
    values: Float[Tensor, "item indicator"], lengths: Int[np.ndarray, "segment"], how: Reduction
) -> Float[Tensor, "segment indicator"]:
    """Mean or maximum of consecutive runs of rows; no run is empty."""
    return torch.segment_reduce(
        values, how, lengths=torch.from_numpy(lengths.astype(np.int64)), axis=0, unsafe=True
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ViewPoolings:
    """Poolings of several views of the same turns, which share one scoring of the tokens."""

    rows: Int[np.ndarray, "tok"]
    """Rows of the store that any view needs, in order: score exactly these."""
    views: Mapping[View, Pooling]

    def take(self, chosen: Bool[np.ndarray, "conversation"]) -> "ViewPoolings":
        """The part that concerns some of the conversations."""
        return _joined({name: pooling.take(chosen) for name, pooling in self.views.items()})


def pool_views(
    scores: Float[np.ndarray, "tok indicator"], plan: ViewPoolings, rule: PoolingRule
) -> dict[View, PooledScores]:
    """Scores of the units of each view from one scoring of the tokens.

    Raises:
        ShapeError: there is not one score for each row of the plan.
    """
    if len(scores) != len(plan.rows):
        raise ShapeError(
            f"{len(scores)} scored rows for {len(plan.rows)} rows of the views; score exactly `plan.rows`."
        )
    return {
        name: pool(
            scores[np.searchsorted(plan.rows, pooling.rows)],
            pooling,
            tokens=rule.tokens,
            sentences=rule.sentences,
        )
        for name, pooling in plan.views.items()
    }


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
    found = find_sentences(tokens, transcripts, min_words=min_words, sections=sections)
    return _plan(tokens, found, sections)


def plan_views(
    tokens: pd.DataFrame,
    transcripts: Sequence[Transcript],
    *,
    min_words: int = MIN_WORDS,
    views: Sequence[View] = ("full", "reasoning", "answer"),
) -> ViewPoolings:
    """The poolings of several views; sentences are split once. A turn without tokens in a view is absent there.

    Args, Raises: as `plan_pooling`.
    """
    found = find_sentences(tokens, transcripts, min_words=min_words)
    return _joined({name: _plan(tokens, found, VIEWS[name]) for name in views})


def _joined(views: Mapping[View, Pooling]) -> ViewPoolings:
    # A view can need rows that the full text does not: its short sentences, where all it has are short.
    rows = np.unique(np.concatenate([pooling.rows for pooling in views.values()]))
    return ViewPoolings(rows=rows, views=views)


def _plan(tokens: pd.DataFrame, found: SentenceRows, sections: Sequence[Section]) -> Pooling:
    seen = np.isin(found.section, [SECTIONS.index(section) for section in sections])
    rows, sentence, is_long = found.rows[seen], found.sentence[seen], found.is_long[seen]
    turn = _runs(_codes(tokens.take(rows), ("conversation", "turn")))
    has_long = np.zeros(int(turn.max(initial=-1)) + 1, dtype=bool)
    np.logical_or.at(has_long, turn, is_long)
    kept = is_long | ~has_long[turn]
    # A turn without a long sentence is one sentence: its tokens share the number -1.
    sentence = np.where(has_long[turn], sentence, -1)[kept]
    rows, turn = rows[kept], turn[kept]
    sentence_start = run_starts(np.stack([turn, sentence], axis=1))
    turn_start = run_starts(turn[:, None])
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
            np.r_[run_starts(keys["conversation"].to_numpy()[:, None]), len(keys)]
        ),
        turns=keys,
    )


def _runs(codes: np.ndarray) -> np.ndarray:
    """Number of the run of equal consecutive rows that each row is in."""
    number = np.zeros(len(codes), dtype=np.int64)
    number[run_starts(codes)] = 1
    return np.cumsum(number) - 1


def _codes(table: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    """The named columns as integers."""
    return np.stack([pd.factorize(table[name])[0] for name in names], axis=1)
