"""Which words go with an indicator, which a scorer likes, and random words of equal frequency."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from mechprobe.falsifiers.passages import Corpus, Passage
from mechprobe.falsifiers.scoring import PassageReader, TokenScorer
from mechprobe.falsifiers.wording import find_words, words_of

MIN_COUNT = 3
"""Passages that a word must stand in to be ranked."""
N_NEAR = 12
"""A random word is drawn among so many nearest in frequency."""


@dataclass(frozen=True, kw_only=True)
class Frequencies:
    """How often each word is said by the assistant in the transcripts that words are learned from."""

    counts: Mapping[str, int]

    @cached_property
    def _by_name(self) -> tuple[list[str], Int[np.ndarray, "word"]]:
        """The words in alphabetical order, and their counts."""
        words = sorted(self.counts)
        return words, np.array([self.counts[word] for word in words], dtype=np.int64)

    def near(self, word: str, taboo: frozenset[str], rng: np.random.Generator) -> str:
        """A random other word that is about as frequent; the word itself if every other is taboo."""
        words, counts = self._by_name
        distance = np.abs(np.log(counts / self.counts.get(word, 1)))
        # Stable: of equally near words the first in the alphabet. Of those in front at most the taboo are passed over.
        in_front = np.argsort(distance, kind="stable")[: N_NEAR + len(taboo) + 1].tolist()
        free = [words[at] for at in in_front if words[at] not in taboo and words[at] != word]
        nearest = free[:N_NEAR]
        if not nearest:
            return word
        return nearest[int(rng.integers(len(nearest)))]


def count_words(corpus: Corpus) -> Frequencies:
    """Count the words of the assistant's reasoning and answers."""
    counts: Counter[str] = Counter()
    for transcript in corpus.learned:
        for message in transcript.messages:
            if message.role == "assistant":
                counts.update(words_of(message.reasoning))
                counts.update(words_of(message.content))
    return Frequencies(counts=dict(counts))


def telling_words(
    positives: Sequence[Passage], negatives: Sequence[Passage], n: int
) -> tuple[str, ...]:
    """The words that most go with the positives: z-score of the log-odds of standing in a passage.

    Half a passage with and half without is added to each count, so that rare words do not lead.
    """
    of_pos, of_neg = _passage_counts(positives), _passage_counts(negatives)
    ranked = [
        (_z_score(count, len(positives), of_neg[word], len(negatives)), word)
        for word, count in of_pos.items()
        if count >= MIN_COUNT
    ]
    ranked.sort(key=lambda pair: (-pair[0], pair[1]))
    return tuple(word for z, word in ranked[:n] if z > 0)


def liked_words(
    reader: PassageReader, positives: Sequence[Passage], scorers: Sequence[TokenScorer], n: int
) -> list[tuple[str, ...]]:
    """For each scorer the words of these passages that score highest on average.

    Where a passage is read at its last token only, those that stand there: elsewhere the scorer is not asked.
    """
    totals: dict[str, Float[np.ndarray, "scorer"]] = {}
    counts: Counter[str] = Counter()
    found = reader.token_scores(positives, scorers)
    ends = np.searchsorted(found.passage, np.arange(len(positives) + 1))
    for number, passage in enumerate(positives):
        here = slice(ends[number], ends[number + 1])
        starts, stops = found.char_start[here], found.char_end[here]
        words = find_words(passage.text)
        for first, last in words[-1:] if reader.reading == "last" else words:
            inside = (stops > first) & (starts < last)
            if inside.any():
                word = passage.text[first:last].lower()
                totals[word] = totals.get(word, 0.0) + found.scores[here][inside].mean(axis=0)
                counts[word] += 1
    common = sorted(word for word, count in counts.items() if count >= MIN_COUNT)
    if not common:
        return [() for _ in scorers]
    means = np.stack([totals[word] / counts[word] for word in common])
    order = np.argsort(-means, axis=0, kind="stable")[:n]
    return [tuple(common[i] for i in column) for column in order.T]


def _passage_counts(passages: Sequence[Passage]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for passage in passages:
        counts.update(set(words_of(passage.text)))
    return counts


def _z_score(with_pos: int, n_pos: int, with_neg: int, n_neg: int) -> float:
    cells = [with_pos, n_pos - with_pos, with_neg, n_neg - with_neg]
    a, b, c, d = (cell + 0.5 for cell in cells)
    return float((np.log(a / b) - np.log(c / d)) / np.sqrt(1 / a + 1 / b + 1 / c + 1 / d))
