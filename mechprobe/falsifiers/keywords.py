"""Keyword overlap: are the passages that a scorer likes those with the indicator's keywords, and what does it add?

"matched": the AUROC over pairs of a positive and a negative with equally many keywords, where counting keywords says
nothing; the figure is the share of the natural AUROC above one half that is left, the control what counting reaches
on the natural passages in the same measure. "top" and "top_negatives": how many of the best-scoring passages (of all,
of the negatives) hold a keyword, beside how many do at all; they describe and are not judged.

Keywords are words of the indicator's name and those most telling of its spans in other transcripts.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

from mechprobe.falsifiers.case import Case
from mechprobe.falsifiers.config import NOT_JUDGED
from mechprobe.falsifiers.figures import NOTHING, Estimate, kept_share, read_large
from mechprobe.falsifiers.passages import Passage
from mechprobe.falsifiers.wording import words_of
from mechprobe.taxonomy import Indicator

_MIN_LETTERS = 5


def name_words(indicator: Indicator) -> frozenset[str]:
    """The longer words of an indicator's name."""
    return frozenset(word for word in words_of(indicator.name) if len(word) >= _MIN_LETTERS)


def keyword_overlap(case: Case) -> Iterator[dict[str, object]]:
    """Rows of every scorer: matched AUROC, and the keywords of what scores best."""
    told = case.telling[: case.config.n_keywords]
    words = case.keywords.union(told)
    pos = count_keywords(case.positives.passages, words)
    neg = count_keywords(case.negatives.passages, words)
    if not len(pos) or not len(neg):
        yield from case.all_rows("keywords")
        return
    for at in range(len(case.scorers)):
        yield _matched(case, at, pos, neg, told)
        both = np.r_[case.positives.scores[:, at], case.negatives.scores[:, at]]
        ids = [*case.positives.ids, *case.negatives.ids]
        yield _top(case, at, "top", both, np.r_[pos, neg], ids)
        yield _top(case, at, "top_negatives", case.negatives.scores[:, at], neg, case.negatives.ids)


def count_keywords(
    passages: tuple[Passage, ...], words: frozenset[str]
) -> Int[np.ndarray, "passage"]:
    """How many different keywords each passage holds."""
    return np.array([len(words.intersection(words_of(p.text))) for p in passages], dtype=np.int64)


def _matched(
    case: Case,
    at: int,
    pos: Int[np.ndarray, "pos"],
    neg: Int[np.ndarray, "neg"],
    words: tuple[str, ...],
) -> dict[str, object]:
    positives, negatives, draws = case.positives, case.negatives, case.resampling
    before = case.auroc(positives, negatives, at)
    after = draws.stratified_auroc(
        positives.scores[:, at], positives.ids, pos, negatives.scores[:, at], negatives.ids, neg
    )
    counting = draws.auroc(
        pos.astype(np.float64), positives.ids, neg.astype(np.float64), negatives.ids
    )
    figure = kept_share(after, before)
    is_matched = np.isin(pos, neg)
    return case.row(
        at,
        "keywords",
        "matched",
        figure=figure,
        control=kept_share(counting, before),
        after=after,
        gap=case.mean(positives, at).value - case.mean(negatives, at).value,
        n_pos=int(is_matched.sum()),
        n_altered=int(is_matched.sum()),
        words=words,
        reading=read_large(figure, NOTHING, case.config.min_kept),
    )


def _top(
    case: Case,
    at: int,
    variant: str,
    scores: Float[np.ndarray, "unit"],
    counts: Int[np.ndarray, "unit"],
    ids: list[str],
) -> dict[str, object]:
    """Share of the best-scoring passages that hold a keyword, beside that of all."""
    n_top = max(1, round(case.config.top_share * len(scores)))
    top = np.argsort(-scores, kind="stable")[:n_top]
    has_keyword = (counts > 0).astype(np.float64)
    figure: Estimate = case.resampling.mean(has_keyword[top], [ids[i] for i in top])
    return case.row(
        at,
        "keywords",
        variant,
        figure=figure,
        control=case.resampling.mean(has_keyword, ids),
        n_altered=n_top,
        reading=NOT_JUDGED,
    )
