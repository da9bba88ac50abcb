"""What is ranked: turns, transcripts, or the paper's mixture of both.

The paper compares the *highest* turn of each positive transcript with *single* negative turns, so a detector
that knows nothing scores above 0.5 (arXiv 2606.24251; the authors' code). We report that figure for comparison,
never without its chance level, and beside the two honest ones.

Out-of-fold scores come from several fits, whose scales differ: a regression that chose a weaker penalty scores larger
numbers, and a fit on more positives higher ones. Pooled, such scores rank folds as well as units, and a scorer whose
fits happen to agree in scale looks better than one whose fits do not. So units may carry the fold that scored them, and
a positive is then compared with the negatives of its own fold only; for every scorer, of activations or of text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from mechprobe.errors import LabelError, ShapeError


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Units:
    """Scored and labelled units, with the transcript that each comes from."""

    scores: Float[np.ndarray, "unit"]
    is_positive: Bool[np.ndarray, "unit"]
    clusters: Int[np.ndarray, "unit"]
    """Code of the transcript (or scenario); units of one cluster are resampled together."""
    chance: float = 0.5
    """Expected AUROC of scores that are drawn independently of everything."""
    fold: Int[np.ndarray, "unit"] | None = None
    """Which fit scored each unit: pairs count within one fit only. None: one fit scored all."""

    def parts(self) -> "Iterator[Units]":
        """The units of each fit that scored both classes, without their fold."""
        for number in [None] if self.fold is None else np.unique(self.fold):
            here = np.full(len(self.scores), fill_value=True)
            if number is not None:
                here = self.fold == number
            if 0 < self.is_positive[here].sum() < here.sum():
                yield Units(
                    scores=self.scores[here],
                    is_positive=self.is_positive[here],
                    clusters=self.clusters[here],
                    chance=self.chance,
                )

    @property
    def n_pairs(self) -> int:
        """Pairs of a positive and a negative that one fit has scored."""
        n_pos = [int(part.is_positive.sum()) for part in self.parts()]
        n_all = [len(part.is_positive) for part in self.parts()]
        return sum(pos * (both - pos) for pos, both in zip(n_pos, n_all, strict=True))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Turns:
    """The turns of a set of transcripts, with their labels."""

    transcript: Int[np.ndarray, "turn"]
    """Code of the turn's transcript."""
    is_positive: Bool[np.ndarray, "turn"]
    """Whether the turn itself is labelled positive."""
    in_positive: Bool[np.ndarray, "turn"]
    """Whether the turn's transcript is labelled positive; usually: any of its turns is."""
    fold: Int[np.ndarray, "turn"] | None = None
    """Which fit scored each turn, the same for all turns of a transcript; None: one fit scored all."""

    def __post_init__(self) -> None:
        if self.fold is not None and len(self.fold) != len(self.transcript):
            raise ShapeError(
                f"{len(self.transcript)} turns have {len(self.fold)} folds; give one for each turn."
            )
        if not len(self.transcript) == len(self.is_positive) == len(self.in_positive):
            raise ShapeError(
                f"{len(self.transcript)} turns have {len(self.is_positive)} turn labels and "
                f"{len(self.in_positive)} transcript labels; give one of each for each turn."
            )
        if (self.is_positive & ~self.in_positive).any():
            raise LabelError(
                f"{int((self.is_positive & ~self.in_positive).sum())} positive turns stand in negative "
                "transcripts; a transcript with a positive turn is positive."
            )

    def of_fold(self, number: int) -> "Turns":
        """The turns that one fit has scored."""
        here = np.full(len(self.transcript), fill_value=True)
        if self.fold is not None:
            here = self.fold == number
        return Turns(
            transcript=self.transcript[here],
            is_positive=self.is_positive[here],
            in_positive=self.in_positive[here],
        )


def joined(parts: Sequence[Units]) -> Units:
    """Units that different fits have scored, each part a fold; chance is the mean over their pairs."""
    weights = [part.n_pairs for part in parts]
    known = [part.chance for part, weight in zip(parts, weights, strict=True) if weight]
    chance = np.average(known, weights=[one for one in weights if one]) if known else np.nan
    return Units(
        scores=np.concatenate([part.scores for part in parts]),
        is_positive=np.concatenate([part.is_positive for part in parts]),
        clusters=np.concatenate([part.clusters for part in parts]),
        chance=float(chance),
        fold=np.repeat(np.arange(len(parts)), [len(part.scores) for part in parts]),
    )


def turn_units(scores: Num[np.ndarray, "turn"], turns: Turns) -> Units:
    """Each turn against each turn."""
    return Units(
        scores=_aligned(scores, turns),
        is_positive=turns.is_positive,
        clusters=turns.transcript,
        fold=turns.fold,
    )


def transcript_units(scores: Num[np.ndarray, "turn"], turns: Turns) -> Units:
    """Each transcript, scored by its highest turn, against each transcript."""
    codes, highest, is_positive = _by_transcript(_aligned(scores, turns), turns)
    fold = None if turns.fold is None else turns.fold[_first_turns(turns)]
    return Units(scores=highest, is_positive=is_positive, clusters=codes, fold=fold)


def mixed_units(scores: Num[np.ndarray, "turn"], turns: Turns) -> Units:
    """The paper's units: the highest turn of each positive transcript against every negative turn."""
    scores = _aligned(scores, turns)
    codes, highest, in_positive = _by_transcript(scores, turns)
    negative = ~turns.is_positive
    n_pos = int(in_positive.sum())
    fold = turns.fold
    if fold is not None:
        fold = np.r_[fold[_first_turns(turns)][in_positive], fold[negative]]
    return Units(
        scores=np.r_[highest[in_positive], scores[negative]],
        is_positive=np.arange(n_pos + int(negative.sum())) < n_pos,
        clusters=np.r_[codes[in_positive], turns.transcript[negative]],
        chance=mixed_chance(turns),
        fold=fold,
    )


def mixed_chance(turns: Turns) -> float:
    """Expected mixed AUROC of independent, identically distributed turn scores; NaN without positives.

    The highest of n turns beats a turn of another transcript with probability n / (n + 1), and one of its
    own n turns with 1 - 1 / (2 n): it loses to none and ties, counting half, with itself. Of several folds it is the
    mean over their pairs.
    """
    numbers = [] if turns.fold is None else np.unique(turns.fold).tolist()
    parts = [turns] if turns.fold is None else [turns.of_fold(one) for one in numbers]
    found = [_mixed_wins(part) for part in parts]
    n_pairs = sum(pairs for _, pairs in found)
    return sum(wins for wins, _ in found) / n_pairs if n_pairs else float("nan")


def _mixed_wins(turns: Turns) -> tuple[float, float]:
    """Pairs that chance would rank right, and all pairs."""
    _, first, n_turns = np.unique(turns.transcript, return_index=True, return_counts=True)
    own_negatives = np.bincount(
        np.unique(turns.transcript, return_inverse=True)[1], weights=~turns.is_positive
    )
    n_negatives = own_negatives.sum()
    positive = turns.in_positive[first]
    if n_negatives == 0 or not positive.any():
        return 0.0, 0.0
    n, own = n_turns[positive], own_negatives[positive]
    wins = (n_negatives - own) * n / (n + 1) + own * (1 - 1 / (2 * n))
    return float(wins.sum()), float(n_negatives * len(n))


def mixed_chance_across(turns: Turns) -> float:
    """The mean of n / (n + 1) over the positive transcripts, n their turns: `mixed_chance` but for own turns.

    The simpler form, exact where no positive transcript has a negative turn.
    """
    _, first, n_turns = np.unique(turns.transcript, return_index=True, return_counts=True)
    n = n_turns[turns.in_positive[first]]
    return float((n / (n + 1)).mean()) if len(n) else float("nan")


def transcript_chance(turns: Turns) -> float:
    """Expected transcript AUROC of independent, identically distributed *turn* scores; NaN without a class.

    The highest of n turns beats the highest of m others with probability n / (n + m): where positive transcripts are
    the shorter ones, knowing nothing gives less than a half. Scores that are drawn once for each transcript give
    a half, which is why `transcript_units` names that.
    """
    _, first, n_turns = np.unique(turns.transcript, return_index=True, return_counts=True)
    positive = turns.in_positive[first]
    return highest_of_many_chance(n_turns[positive], n_turns[~positive])


def highest_of_many_chance(
    n_positive: Int[np.ndarray, "positive"], n_negative: Int[np.ndarray, "negative"]
) -> float:
    """Expected AUROC of the highest of n scores against the highest of m others, over all pairs of n and m."""
    if not len(n_positive) or not len(n_negative):
        return float("nan")
    n, of_n = np.unique(n_positive, return_counts=True)
    m, of_m = np.unique(n_negative, return_counts=True)
    wins = of_n @ (n[:, None] / (n[:, None] + m)) @ of_m
    return float(wins / (len(n_positive) * len(n_negative)))


def _aligned(scores: np.ndarray, turns: Turns) -> np.ndarray:
    if len(scores) != len(turns.transcript):
        raise ShapeError(
            f"{len(scores)} scores for {len(turns.transcript)} turns; give one score for each turn."
        )
    return scores.astype(np.float64)


def _first_turns(turns: Turns) -> Int[np.ndarray, "transcript"]:
    """A turn of each transcript, by the transcripts' codes."""
    return np.unique(turns.transcript, return_index=True)[1]


def _by_transcript(scores: np.ndarray, turns: Turns) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Code, highest score and label of each transcript."""
    codes, first, index = np.unique(turns.transcript, return_index=True, return_inverse=True)
    highest = np.full(len(codes), -np.inf)
    np.maximum.at(highest, index, scores)
    return codes, highest, turns.in_positive[first]
