"""Evidence-masked evaluation: how much of the detection stands when its words are gone?

Two maskings. "telling": the words most telling of the label, learned on other transcripts, are masked in every passage,
positive or not; the control masks equally many other words of each. "evidence": the whole quoted evidence is masked,
and the text that it stood in is scored anew by its best sentence (or token); negatives lose stretches of the same
lengths, and the control masks other stretches of the positives.

Failing it says that a scorer needs these words, not that it reads nothing else: a thought that is stated once is gone
with its words. A scorer of words fails injection as well. Source: content filtering, arXiv 2509.21344.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from mechprobe.falsifiers.case import Case, Scored, natural_aurocs
from mechprobe.falsifiers.figures import kept_share, read_large
from mechprobe.falsifiers.passages import Passage, draw
from mechprobe.falsifiers.wording import find_words, replace_words, words_of
from mechprobe.transcripts.sentences import split_sentences


def masking(case: Case) -> Iterator[dict[str, object]]:
    """Rows of every scorer and kind of masking."""
    rng = case.rng("masking")
    yield from _telling(case, rng)
    yield from _evidence(case, rng)


def mask_words(text: str, words: frozenset[str], mask: str) -> str:
    """The text with every one of these words masked."""
    places = [i for i, word in enumerate(words_of(text)) if word in words]
    return replace_words(text, dict.fromkeys(places, mask))


def mask_others(text: str, words: frozenset[str], mask: str, rng: np.random.Generator) -> str:
    """The text with as many other words masked, as far as there are others."""
    listed = [word in words for word in words_of(text)]
    others = [i for i, is_listed in enumerate(listed) if not is_listed]
    chosen = rng.permutation(others)[: sum(listed)]
    return replace_words(text, {int(i): mask for i in chosen})


def _telling(case: Case, rng: np.random.Generator) -> Iterator[dict[str, object]]:
    told = case.telling[: case.config.n_masked]
    words, mask = frozenset(told), case.wording.mask
    sides = case.positives, case.negatives
    said = [[passage.text for passage in side.passages] for side in sides]
    masked = [
        case.reword(side, [mask_words(text, words, mask) for text in texts])
        for side, texts in zip(sides, said, strict=True)
    ]
    random = [
        case.reword(side, [mask_others(text, words, mask, rng) for text in texts])
        for side, texts in zip(sides, said, strict=True)
    ]
    n_altered = sum(bool(words & set(words_of(text))) for text in said[0])
    yield from _rows(case, "telling", sides, masked, random, n_altered, told)


def _rows(
    case: Case,
    variant: str,
    natural: Sequence[Scored],
    masked: Sequence[Scored],
    random: Sequence[Scored],
    n_altered: int,
    words: Sequence[str] = (),
) -> Iterator[dict[str, object]]:
    kept, by_chance = ([side.take(side.is_scored) for side in sides] for sides in (masked, random))
    intervals = natural_aurocs(natural[0], natural[1], case.resampling, case.config)
    for at in range(len(case.scorers)):
        before = case.auroc(natural[0], natural[1], at)
        after = case.auroc(kept[0], kept[1], at)
        figure = kept_share(after, before)
        control = kept_share(case.auroc(by_chance[0], by_chance[1], at), before)
        gap = case.mean(natural[0], at).value - case.mean(natural[1], at).value
        yield case.row(
            at,
            "masking",
            variant,
            figure=figure,
            control=control,
            after=after,
            natural=intervals[at],
            gap=gap,
            n_pos=len(natural[0]),
            n_altered=n_altered,
            words=words,
            reading=read_large(figure, control, case.config.min_kept),
        )


def _evidence(case: Case, rng: np.random.Generator) -> Iterator[dict[str, object]]:
    n = case.config.n_sections
    holding = draw(_sections(case.positives.passages), n, rng)
    lacking = draw(_sections(case.negatives.passages, case.indicator), n, rng)
    if not holding or not lacking:
        yield from case.all_rows("masking")
        return
    evidence = [_evidence_words(section, case.indicator) for section in holding]
    sizes = [len(places) for places in evidence]
    stretches = [_stretch(s, sizes[int(rng.integers(len(sizes)))], (), rng) for s in lacking]
    elsewhere = [_stretch(s, len(e), e, rng) for s, e in zip(holding, evidence, strict=True)]
    natural = [_best(case, sections) for sections in (holding, lacking)]
    if not case.tells(natural_aurocs(natural[0], natural[1], case.resampling, case.config)):
        # Nothing of the masked texts would be shown, and whole texts take long to read.
        yield from _rows(case, "evidence", natural, natural, natural, len(holding))
        return
    negatives = _best(case, _masked(case, lacking, stretches))
    masked = _best(case, _masked(case, holding, evidence))
    random = _best(case, _masked(case, holding, elsewhere))
    yield from _rows(
        case, "evidence", natural, (masked, negatives), (random, negatives), len(holding)
    )


def _sections(passages: Sequence[Passage], without: str = "") -> list[Passage]:
    """The whole texts that these passages stand in, each once; those that quote an indicator left out."""
    found: dict[tuple[str, int, str], Passage] = {}
    for passage in passages:
        text = passage.transcript.messages[passage.message].text(passage.section)
        section = replace(passage, start=0, end=len(text))
        if not (without and _evidence_words(section, without)):
            found[passage.transcript.id, passage.message, passage.section] = section
    return list(found.values())


def _evidence_words(section: Passage, indicator: str) -> tuple[int, ...]:
    """Numbers of the words of a section that are quoted as evidence of an indicator."""
    spans = [
        span
        for span in section.transcript.present_spans
        if (span.indicator, span.message, span.section)
        == (indicator, section.message, section.section)
    ]
    return tuple(
        number
        for number, (start, end) in enumerate(find_words(section.text))
        if any(start < span.end and end > span.start for span in spans)
    )


def _stretch(
    section: Passage, n_words: int, taken: Sequence[int], rng: np.random.Generator
) -> tuple[int, ...]:
    """Consecutive words somewhere among those that are not taken."""
    free = [i for i in range(len(find_words(section.text))) if i not in set(taken)]
    n_words = min(n_words, len(free))
    start = int(rng.integers(len(free) - n_words + 1))
    return tuple(free[start : start + n_words])


def _masked(
    case: Case, sections: Sequence[Passage], places: Sequence[Sequence[int]]
) -> list[Passage]:
    return [
        section.with_text(replace_words(section.text, dict.fromkeys(chosen, case.wording.mask)))
        for section, chosen in zip(sections, places, strict=True)
    ]


def _best(case: Case, sections: Sequence[Passage]) -> Scored:
    """Each section with the score of its best sentence, or of its best token where single tokens are read."""
    if case.reader.reading != "mean":
        return case.score(sections, reading="max")
    owner: list[int] = []
    sentences: list[Passage] = []
    for number, section in enumerate(sections):
        for start, end in split_sentences(section.text, min_words=5):
            owner.append(number)
            sentences.append(replace(section, start=start, end=end))
    scores = case.reader.score(sentences, case.scorers)
    best = np.full((len(sections), len(case.scorers)), -np.inf)
    for number, row in zip(owner, scores, strict=True):
        best[number] = np.fmax(best[number], row)
    found = Scored(passages=tuple(sections), scores=best)
    return found.take(found.is_scored)
