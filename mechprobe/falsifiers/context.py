"""Context ablation: the same words in another context, and the context with other words.

"short" and "long" graft the words of a positive into a benign passage: the figure is the share of the natural gap
that the words take with them. A short phrase means little by itself, so a scorer that gives it its full score in
benign text reads the words (arXiv 2606.24251 reports how much of a score its context makes up, by length). A long one
takes its meaning with it, so that it is shown and not judged. "without_span" puts benign words in the place of a
positive: the share that is left comes from the context alone.

Controls: words of other text (look-alikes apart, whose words are the same), grafted into the same places; and for
"without_span" the same benign words in benign contexts.
"""

from collections.abc import Iterator

import numpy as np

from mechprobe.falsifiers.case import Case, Scored
from mechprobe.falsifiers.config import NOT_JUDGED
from mechprobe.falsifiers.figures import cohens_d, read_small
from mechprobe.falsifiers.passages import Passage
from mechprobe.falsifiers.wording import words_of


def context(case: Case) -> Iterator[dict[str, object]]:
    """Rows of every scorer: short phrases, long ones where there are any, and contexts without their span."""
    if not case.hosts.passages:
        yield from case.all_rows("context")
        return
    rng = case.rng("context")
    phrases = [case.wording.phrase(passage.text) for passage in case.positives.passages]
    lengths = np.array([len(words_of(phrase)) for phrase in phrases], dtype=np.int64)
    foreign = [case.wording.phrase(passage.text) for passage in case.others]
    for variant, chosen in (
        ("short", lengths <= case.config.short_words),
        ("long", lengths > case.config.short_words),
    ):
        if variant == "long" and not chosen.any():
            continue
        own = [phrases[i] for i in np.flatnonzero(chosen)]
        yield from _grafted(case, variant, case.positives.take(chosen), own, foreign, rng)
    yield from _without_span(case, rng)


def _grafted(
    case: Case,
    variant: str,
    positives: Scored,
    phrases: list[str],
    foreign: list[str],
    rng: np.random.Generator,
) -> Iterator[dict[str, object]]:
    places = [case.hosts.passages[int(i)] for i in rng.integers(len(case.hosts), size=len(phrases))]
    picked = (
        [foreign[int(i)] for i in rng.integers(len(foreign), size=len(phrases))] if foreign else []
    )
    grafted = _put(case, places, phrases)
    control = _put(case, places[: len(picked)], picked)
    yield from _rows(case, variant, positives, grafted, control, judged=variant == "short")


def _without_span(case: Case, rng: np.random.Generator) -> Iterator[dict[str, object]]:
    """Benign words in the positives' places, beside benign words in benign places."""
    n = len(case.positives)
    said = [case.hosts.passages[int(i)].text for i in rng.integers(len(case.hosts), size=n)]
    places = [case.hosts.passages[int(i)] for i in rng.integers(len(case.hosts), size=n)]
    emptied = case.rescore(case.positives.passages, said)
    control = case.rescore(places, said)
    yield from _rows(case, "without_span", case.positives, emptied, control, judged=True)


def _put(case: Case, places: list[Passage], phrases: list[str]) -> Scored:
    texts = [
        case.wording.graft(place.text, phrase)
        for place, phrase in zip(places, phrases, strict=True)
    ]
    return case.rescore(places, texts)


def _rows(
    case: Case,
    variant: str,
    positives: Scored,
    altered: Scored,
    control: Scored,
    *,
    judged: bool,
) -> Iterator[dict[str, object]]:
    for at in range(len(case.scorers)):
        base, natural = case.mean(case.hosts, at), case.mean(positives, at)
        figure, by_chance = (
            case.resampling.share(case.mean(scored, at), base, natural)
            for scored in (altered, control)
        )
        yield case.row(
            at,
            "context",
            variant,
            figure=figure,
            control=by_chance,
            after=case.auroc(altered, case.hosts, at),
            gap=natural.value - base.value,
            effect_size=cohens_d(altered.scores[:, at], case.hosts.scores[:, at]),
            n_pos=len(positives),
            n_altered=len(altered),
            reading=read_small(figure, by_chance, case.config.max_share) if judged else NOT_JUDGED,
        )
