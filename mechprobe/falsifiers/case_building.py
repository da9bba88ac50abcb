"""From labelled transcripts to a case: passages are drawn and scored as they are, words found on other transcripts."""

import zlib
from collections.abc import Sequence

import numpy as np

from mechprobe.falsifiers.case import Case, natural_aurocs, read_passages
from mechprobe.falsifiers.config import FalsifierConfig
from mechprobe.falsifiers.figures import Resampling
from mechprobe.falsifiers.passages import Corpus, Passages, draw, passages_of
from mechprobe.falsifiers.scoring import PassageReader, TokenScorer
from mechprobe.falsifiers.word_choice import Frequencies, liked_words, telling_words
from mechprobe.falsifiers.wording import Wording

N_LEARNED = 5000
"""Negative passages that words are learned from."""


def make_case(
    corpus: Corpus,
    indicator: str,
    scorers: Sequence[TokenScorer],
    reader: PassageReader,
    wording: Wording,
    config: FalsifierConfig,
    *,
    frequencies: Frequencies,
    keywords: frozenset[str] = frozenset(),
) -> Case:
    """Draw an indicator's passages, score them as they are, and find its words on the other transcripts."""
    rng = np.random.default_rng([config.seed, zlib.crc32(indicator.encode())])
    learned = passages_of(corpus.learned, indicator, with_sentences=corpus.with_sentences)
    found = passages_of(corpus.tried, indicator, with_sentences=corpus.with_sentences)
    tried = found.draw(config.n_passages, rng)
    scored = {
        name: read_passages(reader, passages, scorers)
        for name, passages in (
            ("positives", tried.positives),
            ("negatives", tried.negatives),
            ("hosts", tried.hosts),
        )
    }
    ids = [transcript.id for transcript in corpus.tried]
    resampling = Resampling.of(ids, n_boot=config.n_boot, seed=config.seed)
    return Case(
        indicator=indicator,
        scorers=tuple(scorers),
        reader=reader,
        wording=wording,
        config=config,
        frequencies=frequencies,
        keywords=keywords,
        **scored,
        others=tried.others,
        telling=_telling(learned, config, rng),
        liked=_liked(reader, learned, scorers, config, rng),
        natural=natural_aurocs(scored["positives"], scored["negatives"], resampling, config),
        resampling=resampling,
    )


def _telling(
    learned: Passages, config: FalsifierConfig, rng: np.random.Generator
) -> tuple[str, ...]:
    negatives = draw(learned.negatives, N_LEARNED, rng)
    n = max(config.n_injected, config.n_masked, config.n_keywords)
    return telling_words(learned.positives, negatives, n)


def _liked(
    reader: PassageReader,
    learned: Passages,
    scorers: Sequence[TokenScorer],
    config: FalsifierConfig,
    rng: np.random.Generator,
) -> tuple[tuple[str, ...], ...]:
    if "injection" not in config.falsifiers or "score" not in config.rank_by:
        return tuple(() for _ in scorers)
    positives = learned.draw(config.n_passages, rng).positives
    return tuple(liked_words(reader, positives, scorers, config.n_injected))
