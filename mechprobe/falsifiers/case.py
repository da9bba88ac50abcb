"""One indicator under test: its passages with their natural scores, its words, and how a row of the table is made."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from mechprobe.evaluation.bootstrap import Interval, auroc_interval
from mechprobe.falsifiers.config import (
    FALSIFIERS,
    NO_SIGNAL,
    TOO_FEW,
    Falsifier,
    FalsifierConfig,
    Reading,
)
from mechprobe.falsifiers.figures import NOTHING, Estimate, Resampling
from mechprobe.falsifiers.passages import Passage
from mechprobe.falsifiers.scoring import PassageReader, TokenScorer
from mechprobe.falsifiers.word_choice import Frequencies
from mechprobe.falsifiers.wording import Wording


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Scored:
    """Passages with the scores of every scorer."""

    passages: tuple[Passage, ...]
    scores: Float[np.ndarray, "passage scorer"]

    @property
    def ids(self) -> list[str]:
        """The transcript that each is resampled with."""
        return [passage.cluster for passage in self.passages]

    def __len__(self) -> int:
        return len(self.passages)

    def take(self, chosen: Bool[np.ndarray, "passage"]) -> "Scored":
        """Some of the passages."""
        kept = tuple(self.passages[i] for i in np.flatnonzero(chosen))
        return Scored(passages=kept, scores=self.scores[chosen])

    @property
    def is_scored(self) -> Bool[np.ndarray, "passage"]:
        """Which passages have a score."""
        return np.logical_and.reduce(np.isfinite(self.scores), axis=1)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Case:
    """One indicator and the scorers that claim to read it."""

    indicator: str
    scorers: tuple[TokenScorer, ...]
    reader: PassageReader
    wording: Wording
    config: FalsifierConfig
    frequencies: Frequencies
    keywords: frozenset[str]
    """Words that name the indicator."""
    positives: Scored
    negatives: Scored
    others: tuple[Passage, ...]
    """Those of the negatives that are no look-alikes."""
    hosts: Scored
    telling: tuple[str, ...]
    """Words that go with the indicator, the most telling first."""
    liked: tuple[tuple[str, ...], ...]
    """For each scorer the words that it scores highest in positives."""
    natural: tuple[Interval, ...]
    """For each scorer its AUROC on the unaltered passages."""
    resampling: Resampling

    @property
    def taboo(self) -> frozenset[str]:
        """Words that a random word must not be."""
        return frozenset(self.telling).union(*self.liked)

    def rng(self, falsifier: Falsifier) -> np.random.Generator:
        """Random numbers of a falsifier, which depend on no other falsifier or indicator."""
        name = zlib.crc32(self.indicator.encode())
        return np.random.default_rng([self.config.seed, FALSIFIERS.index(falsifier), name])

    def rescore(
        self,
        passages: Sequence[Passage],
        texts: Sequence[str],
        scorers: Sequence[TokenScorer] | None = None,
        reading: Reading | None = None,
    ) -> Scored:
        """The passages with other texts, scored; those that have no text left, or really hold the indicator, are left out.

        Without any signal nothing is read, and all scores are 0: no figure of theirs is shown.
        """
        holds = self.wording.holds
        altered = [
            passage.with_text(text)
            for passage, text in zip(passages, texts, strict=True)
            if text.strip() and not (holds and holds(text, self.indicator))
        ]
        if not self.has_signal:
            n_scorers = len(scorers or self.scorers)
            return Scored(passages=tuple(altered), scores=np.zeros((len(altered), n_scorers)))
        return self.score(altered, scorers, reading)

    def reword(self, scored: Scored, texts: Sequence[str]) -> Scored:
        """The same passages in other words, in the same order; NaN where no text is left.

        Those whose words are the same keep their scores; without any signal all do (see `rescore`).
        """
        scores = scored.scores.copy()
        changed = [i for i, one in enumerate(scored.passages) if one.text != texts[i]]
        scores[changed] = np.nan
        left = [i for i in changed if texts[i].strip()]
        if not self.has_signal:
            scores[left] = scored.scores[left]
        else:
            altered = [scored.passages[i].with_text(texts[i]) for i in left]
            scores[left] = self.reader.score(altered, self.scorers)
        return Scored(passages=scored.passages, scores=scores)

    def score(
        self,
        passages: Sequence[Passage],
        scorers: Sequence[TokenScorer] | None = None,
        reading: Reading | None = None,
    ) -> Scored:
        """Passages with their scores, without those that are not rendered."""
        return read_passages(self.reader, passages, scorers or self.scorers, reading)

    def mean(self, scored: Scored, at: int) -> Estimate:
        """Mean score of some passages by one scorer."""
        return self.resampling.mean(scored.scores[:, at], scored.ids)

    def auroc(self, positive: Scored, negative: Scored, at: int) -> Estimate:
        """AUROC of some passages against others by one scorer."""
        return self.resampling.auroc(
            positive.scores[:, at], positive.ids, negative.scores[:, at], negative.ids
        )

    def row(
        self,
        at: int,
        falsifier: Falsifier,
        variant: str,
        *,
        figure: Estimate = NOTHING,
        control: Estimate = NOTHING,
        after: Estimate = NOTHING,
        natural: Interval | None = None,
        gap: float = float("nan"),
        effect_size: float = float("nan"),
        rank_correlation: float = float("nan"),
        n_pos: int | None = None,
        n_altered: int = 0,
        words: Sequence[str] = (),
        reading: str = TOO_FEW,
    ) -> dict[str, object]:
        """A row of the table; what the numbers cannot bear is read as "too few" or "no signal" and not shown.

        Args:
            natural: the unaltered AUROC, where it is that of other units than the passages.
        """
        natural = natural or self.natural[at]
        if n_altered < self.config.min_positives or self.is_small:
            reading = TOO_FEW
        elif natural.low < self.config.min_auroc:
            reading = NO_SIGNAL
        if reading in (TOO_FEW, NO_SIGNAL):
            figure = control = after = NOTHING
            effect_size = rank_correlation = float("nan")
        figures = {"figure": figure, "control": control, "auroc": after}
        numbers: dict[str, object] = {}
        for name, found in figures.items():
            prefix = "" if name == "figure" else f"{name}_"
            numbers[name] = found.value
            numbers[f"{prefix}low"], numbers[f"{prefix}high"] = found.bounds
        return {
            "indicator": self.indicator,
            "scorer": self.scorers[at].name,
            "feature": self.scorers[at].feature,
            "hook_name": self.scorers[at].hook_name,
            "falsifier": falsifier,
            "variant": variant,
            **numbers,
            "natural": natural.value,
            "natural_low": natural.low,
            "natural_high": natural.high,
            "gap": gap,
            "effect_size": effect_size,
            "rank_correlation": rank_correlation,
            "n_pos": len(self.positives) if n_pos is None else n_pos,
            "n_altered": n_altered,
            "n_clusters": len(set(self.positives.ids)),
            "words": " ".join(words),
            "seed": self.config.seed,
            "reading": reading,
        }

    @property
    def has_signal(self) -> bool:
        """Whether any scorer tells the unaltered passages apart; else there is nothing to falsify."""
        return self.tells(self.natural)

    def tells(self, natural: Sequence[Interval]) -> bool:
        """Whether any of these AUROCs is surely above the least one that is judged."""
        return any(one.low >= self.config.min_auroc for one in natural)

    @property
    def is_small(self) -> bool:
        """Whether there are too few positives, transcripts with one, or negatives to say anything."""
        sizes = len(self.positives), len(set(self.positives.ids)), len(self.negatives)
        return min(sizes) < self.config.min_positives

    def all_rows(self, falsifier: Falsifier) -> Iterator[dict[str, object]]:
        """One row a scorer that says that there is too little to tell."""
        for at in range(len(self.scorers)):
            yield self.row(at, falsifier, "")


def read_passages(
    reader: PassageReader,
    passages: Sequence[Passage],
    scorers: Sequence[TokenScorer],
    reading: Reading | None = None,
) -> Scored:
    """Passages with their scores, without those that are not rendered."""
    found = Scored(passages=tuple(passages), scores=reader.score(passages, scorers, reading))
    return found.take(found.is_scored)


def natural_aurocs(
    positives: Scored, negatives: Scored, resampling: Resampling, config: FalsifierConfig
) -> tuple[Interval, ...]:
    """Each scorer's AUROC with its interval; NaN where a class is empty."""
    nan = float("nan")
    if not len(positives) or not len(negatives):
        return tuple(Interval(value=nan, low=nan, high=nan) for _ in positives.scores.T)
    return tuple(
        auroc_interval(
            resampling.units(pos, positives.ids, neg, negatives.ids),
            n_boot=config.n_boot,
            seed=config.seed,
        )
        for pos, neg in zip(positives.scores.T, negatives.scores.T, strict=True)
    )
