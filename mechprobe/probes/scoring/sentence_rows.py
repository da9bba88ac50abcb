"""Which sentence each stored token of the assistant stands in: text is split once, whatever is pooled later."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from mechprobe.transcripts.sentences import split_sentences
from mechprobe.transcripts.transcript import SECTIONS, Section, Transcript


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SentenceRows:
    """The assistant's rows of a store, with the sentence of each."""

    rows: Int[np.ndarray, "tok"]
    """Rows of the store, in order."""
    section: Int[np.ndarray, "tok"]
    """Index into SECTIONS."""
    sentence: Int[np.ndarray, "tok"]
    """Number of the sentence, counted over all texts; -1 for a token that stands in none."""
    is_long: Bool[np.ndarray, "tok"]
    """Whether that sentence has enough words to count."""


def find_sentences(
    tokens: pd.DataFrame,
    transcripts: Sequence[Transcript],
    *,
    min_words: int,
    sections: Sequence[Section] = SECTIONS,
) -> SentenceRows:
    """Split the texts of the assistant's stored tokens; a token stands where its middle character does.

    Args:
        tokens: the store's token table.
        transcripts: those that were captured, in the same order.
        min_words: words that a sentence needs to count.
    """
    is_read = (tokens["role"] == "assistant") & tokens["section"].isin(list(sections))
    rows = np.flatnonzero(is_read.to_numpy())
    read = tokens.take(rows)
    section = pd.Index(SECTIONS).get_indexer(pd.Index(read["section"])).astype(np.int64)
    conversation = read["conversation"].to_numpy(dtype=np.int64)
    message = read["message"].to_numpy(dtype=np.int64)
    middle = (read["char_start"].to_numpy() + read["char_end"].to_numpy()) / 2
    sentence = np.full(len(rows), -1, dtype=np.int64)
    is_long = np.zeros(len(rows), dtype=bool)
    starts = run_starts(np.stack([conversation, message, section], axis=1))
    n_before = 0
    for first, stop in zip(starts, np.r_[starts[1:], len(rows)], strict=True):
        spoken = transcripts[int(conversation[first])].messages[int(message[first])]
        text = spoken.text(SECTIONS[int(section[first])])
        bounds = split_sentences(text)
        at = _containing(bounds, middle[first:stop])
        inside = np.flatnonzero(at >= 0)
        n_words = np.array([len(text[start:end].split()) for start, end in bounds])
        sentence[first + inside] = n_before + at[inside]
        is_long[first + inside] = n_words[at[inside]] >= min_words
        n_before += len(bounds)
    return SentenceRows(rows=rows, section=section, sentence=sentence, is_long=is_long)


def run_starts(codes: np.ndarray) -> np.ndarray:
    """Where a row differs from the one before; 0 included unless there are no rows."""
    if not len(codes):
        return np.zeros(0, dtype=np.int64)
    return np.r_[0, 1 + np.flatnonzero((codes[1:] != codes[:-1]).any(axis=1))]


def _containing(bounds: Sequence[tuple[int, int]], places: np.ndarray) -> np.ndarray:
    """Index of the bounds that each place lies in, -1 if in none."""
    if not bounds:
        return np.full(len(places), -1)
    starts, ends = np.array(bounds).T
    at = np.searchsorted(starts, places, side="right") - 1
    return np.where(places <= ends[at], at, -1)
