"""Paraphrase invariance: does the score stay where the words change and the meaning does not?

The figure is the mean change of a positive's score in natural gaps, up or down: a scorer that knows one of two
synonyms gains on some texts what it loses on others. Its control replaces the same words by random ones of equal
frequency, which do change the meaning. Paraphrases come from the caller; none are invented.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

from mechprobe.falsifiers.case import Case, Scored
from mechprobe.falsifiers.figures import NOTHING, Estimate, read_small
from mechprobe.falsifiers.wording import paraphrase, replace_phrases


def paraphrasing(case: Case) -> Iterator[dict[str, object]]:
    """One row a scorer; nothing where no paraphrases are given."""
    if not case.wording.paraphrases:
        return
    rng = case.rng("paraphrase")
    said = [[p.text for p in side.passages] for side in (case.positives, case.negatives)]
    other, other_negatives = ([paraphrase(t, case.wording, rng) for t in texts] for texts in said)
    taboo, names = case.taboo.union(case.wording.paraphrases), list(case.wording.paraphrases)
    random = [
        replace_phrases(text, names, lambda word: case.frequencies.near(word, taboo, rng))
        for text in said[0]
    ]
    positives = case.reword(case.positives, other)
    negatives = case.reword(case.negatives, other_negatives)
    control = case.reword(case.positives, random)
    is_changed = np.array([a != b for a, b in zip(said[0], other, strict=True)], dtype=bool)
    before = np.concatenate([case.positives.scores, case.negatives.scores])
    after = np.concatenate([positives.scores, negatives.scores])
    for at in range(len(case.scorers)):
        gap = case.mean(case.positives, at).minus(case.mean(case.negatives, at))
        figure = _change(case, positives.take(is_changed), is_changed, at).over(gap)
        yield case.row(
            at,
            "paraphrase",
            "synonyms",
            figure=figure,
            control=_change(case, control.take(is_changed), is_changed, at).over(gap),
            after=case.auroc(positives, negatives, at),
            gap=gap.value,
            rank_correlation=rank_correlation(before[:, at], after[:, at]),
            n_altered=int(is_changed.sum()),
            reading=read_small(figure, NOTHING, case.config.max_share),
        )


def rank_correlation(first: Float[np.ndarray, "unit"], second: Float[np.ndarray, "unit"]) -> float:
    """Spearman's correlation; NaN where one of the two is constant."""
    ranks = np.stack([rankdata(first), rankdata(second)])
    if len(first) < 2 or (np.ptp(ranks, axis=1) == 0).any():
        return float("nan")
    return float(np.corrcoef(ranks)[0, 1])


def _change(case: Case, altered: Scored, is_changed: np.ndarray, at: int) -> Estimate:
    """Mean absolute change of the positives that were altered."""
    before = case.positives.take(is_changed)
    change = np.abs(altered.scores[:, at] - before.scores[:, at])
    return case.resampling.mean(change, before.ids)
