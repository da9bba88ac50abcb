"""Token injection: do an indicator's words alone, put into benign text, raise the score as its real positives do?

The words are those that the scorer likes best in positives, or those that go with the label; both are chosen on
transcripts that are not altered. The figure is the share of the natural gap that the injected words reproduce, beside
random words of equal frequency in the same places. Where the words together would state the indicator (a rule can
tell on the organism), the text is left out, since it is not benign any more.

Source of the idea and of the share ("transfer ratio"): arXiv 2601.05679 and its authors' code.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from mechprobe.falsifiers.case import Case
from mechprobe.falsifiers.config import Strategy
from mechprobe.falsifiers.figures import cohens_d, read_small
from mechprobe.falsifiers.wording import find_words, replace_words


def injection(case: Case) -> Iterator[dict[str, object]]:
    """Rows of every scorer, ranking of words and place."""
    rng = case.rng("injection")
    for ranking in case.config.rank_by:
        telling = case.telling[: case.config.n_injected]
        words_of = case.liked if ranking == "score" else (telling,) * len(case.scorers)
        # Scorers that like the same words share the altered texts.
        for words in dict.fromkeys(words_of):
            at = [i for i, own in enumerate(words_of) if own == words]
            for strategy in case.config.strategies:
                yield from _rows(case, words, at, ranking, strategy, rng)


def inject(text: str, words: Sequence[str], strategy: Strategy, rng: np.random.Generator) -> str:
    """The text with the words in it, in random order; "replace" takes as many words of the text away."""
    mixed: list[str] = [words[int(i)] for i in rng.permutation(len(words))]
    if strategy == "append":
        return " ".join([text, *mixed])
    if strategy == "prepend":
        return " ".join([*mixed, text])
    n_words = len(find_words(text))
    places = rng.permutation(n_words)[: len(mixed)]
    return replace_words(text, {int(at): word for at, word in zip(places, mixed, strict=False)})


def _rows(
    case: Case,
    words: Sequence[str],
    at: Sequence[int],
    ranking: str,
    strategy: Strategy,
    rng: np.random.Generator,
) -> Iterator[dict[str, object]]:
    hosts, scorers = case.hosts.passages, [case.scorers[i] for i in at]
    texts: list[str] = []
    random: list[str] = []
    for host in hosts:
        others = [case.frequencies.near(word, case.taboo, rng) for word in words]
        texts.append(inject(host.text, words, strategy, rng))
        random.append(inject(host.text, others, strategy, rng))
    injected = case.rescore(hosts, texts if words else [""] * len(hosts), scorers)
    control = case.rescore(hosts, random if words else [""] * len(hosts), scorers)
    for column, i in enumerate(at):
        base, positive = case.mean(case.hosts, i), case.mean(case.positives, i)
        share = case.resampling.share(case.mean(injected, column), base, positive)
        by_chance = case.resampling.share(case.mean(control, column), base, positive)
        after = case.resampling.auroc(
            injected.scores[:, column],
            injected.ids,
            case.hosts.scores[:, i],
            case.hosts.ids,
        )
        yield case.row(
            i,
            "injection",
            f"{ranking}_{strategy}",
            figure=share,
            control=by_chance,
            after=after,
            gap=positive.value - base.value,
            effect_size=cohens_d(injected.scores[:, column], case.hosts.scores[:, i]),
            n_altered=len(injected),
            words=words,
            reading=read_small(share, by_chance, case.config.max_share),
        )
