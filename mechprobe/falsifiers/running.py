"""Run the falsifiers on every indicator that a scorer claims to read, and put what they find into one table."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from tqdm import tqdm

from mechprobe.errors import ConfigError
from mechprobe.falsifiers.case import Case
from mechprobe.falsifiers.case_building import make_case
from mechprobe.falsifiers.config import (
    FAILS,
    FALSIFIER_COLUMNS,
    NO_SIGNAL,
    NOT_JUDGED,
    SURVIVES,
    TOO_FEW,
    UNCLEAR,
    FalsifierConfig,
)
from mechprobe.falsifiers.context import context
from mechprobe.falsifiers.injection import injection
from mechprobe.falsifiers.keywords import keyword_overlap, name_words
from mechprobe.falsifiers.masking import masking
from mechprobe.falsifiers.paraphrasing import paraphrasing
from mechprobe.falsifiers.passages import split_corpus
from mechprobe.falsifiers.scoring import PassageReader, TokenScorer, feature_scorer
from mechprobe.falsifiers.word_choice import count_words
from mechprobe.falsifiers.wording import Wording
from mechprobe.models.subject import Subject
from mechprobe.probes.probe_set import ProbeSet
from mechprobe.saes.lens import Sae, d_sae_of
from mechprobe.taxonomy import Taxonomy, load_taxonomy
from mechprobe.transcripts.transcript import Transcript

_RUN: Mapping[str, Callable[[Case], Iterator[dict[str, object]]]] = {
    "injection": injection,
    "paraphrase": paraphrasing,
    "masking": masking,
    "context": context,
    "keywords": keyword_overlap,
}
SAE_FEATURE = "sae_feature"
_WORST_FIRST = (FAILS, UNCLEAR, SURVIVES, NO_SIGNAL, TOO_FEW, NOT_JUDGED)


def run_falsifiers(
    subject: Subject,
    transcripts: Sequence[Transcript],
    scorers: Mapping[str, Sequence[TokenScorer]],
    config: FalsifierConfig | None = None,
    *,
    wording: Wording | None = None,
    sae: Sae | None = None,
    taxonomy: Taxonomy | None = None,
) -> pd.DataFrame:
    """Try to explain each scorer away by its words.

    Args:
        transcripts: labelled ones; those of the split "test" are altered and the words come from the others. Without
            that split, half of the scenarios serve each. Probes must not have been fitted on those that are altered.
        scorers: indicator -> what claims to read it (see `scorers_of`).
        wording: the language of the transcripts; without paraphrases that falsifier is left out.
        sae: for scorers that read features; it must belong to their hook point.

    Returns:
        A table with FALSIFIER_COLUMNS, a row for each indicator, scorer, falsifier and variant.

    Raises:
        ConfigError: there is no scorer, or one reads features and there is no SAE.
        DataError: there are no labelled transcripts on one of the two sides.
    """
    if not scorers or not all(scorers.values()):
        raise ConfigError("there is nothing to falsify; give at least one scorer an indicator.")
    each = falsify_each(
        subject, transcripts, scorers, config, wording=wording, sae=sae, taxonomy=taxonomy
    )
    return pd.concat([table for _, table in each], ignore_index=True)


def falsify_each(
    subject: Subject,
    transcripts: Sequence[Transcript],
    scorers: Mapping[str, Sequence[TokenScorer]],
    config: FalsifierConfig | None = None,
    *,
    wording: Wording | None = None,
    sae: Sae | None = None,
    taxonomy: Taxonomy | None = None,
) -> Iterator[tuple[str, pd.DataFrame]]:
    """As `run_falsifiers`, indicator by indicator; what one finds does not depend on the others."""
    config, wording = config or FalsifierConfig(), wording or Wording()
    corpus = split_corpus(transcripts, config.seed)
    frequencies = count_words(corpus)
    names = {one.slug: name_words(one) for one in (taxonomy or load_taxonomy()).indicators}
    reader = PassageReader(
        subject=subject, reading=config.reading, sae=sae, batch_tokens=config.batch_tokens
    )
    for indicator, own in (bar := tqdm(scorers.items(), desc="falsify", disable=None)):
        bar.set_postfix_str(indicator)
        case = make_case(
            corpus,
            indicator,
            own,
            reader,
            wording,
            config,
            frequencies=frequencies,
            keywords=names.get(indicator, frozenset()),
        )
        yield indicator, pd.DataFrame(falsify(case), columns=list(FALSIFIER_COLUMNS))


def falsify(case: Case) -> list[dict[str, object]]:
    """Rows of all the configured falsifiers for one indicator."""
    found: list[dict[str, object]] = []
    for name in case.config.falsifiers:
        found += case.all_rows(name) if case.is_small else _RUN[name](case)
    return found


def scorers_of(
    sets: Iterable[ProbeSet],
    features: Mapping[str, Sequence[int]] | None = None,
    *,
    feature_hook: str = "",
    sae: Sae | None = None,
) -> dict[str, list[TokenScorer]]:
    """The probes of some sets, and features of an SAE, by the indicator that they claim to read.

    Args:
        features: indicator -> numbers of features, the best first; it is named `sae_feature`, the next
            `sae_feature_2`.
        feature_hook: the SAE's hook point.

    Raises:
        ConfigError: features are named without an SAE and its hook point.
        ShapeError: the SAE has no such feature.
    """
    found: dict[str, list[TokenScorer]] = {}
    for one in sets:
        for indicator, probe in zip(one.indicators, one.probes, strict=True):
            scorer = TokenScorer(
                name=one.scorer,
                hook_name=one.hook_name,
                reads=one.reads,
                probe=probe,
                layout=one.layout,
            )
            found.setdefault(indicator, []).append(scorer)
    if features and (sae is None or not feature_hook):
        raise ConfigError("features are to be falsified; give their SAE and its hook point.")
    for indicator, numbers in (features or {}).items():
        assert sae is not None
        for rank, number in enumerate(numbers, start=1):
            name = SAE_FEATURE if rank == 1 else f"{SAE_FEATURE}_{rank}"
            one = feature_scorer(number, d_sae_of(sae), feature_hook, name=name)
            found.setdefault(indicator, []).append(one)
    return found


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """The worst reading of each indicator, scorer and falsifier: one column for each falsifier."""
    keys = ["indicator", "scorer", "hook_name", "falsifier"]
    ordered: Any = table.assign(rank=table["reading"].map(_WORST_FIRST.index))
    worst = ordered.sort_values("rank", kind="stable").drop_duplicates(keys).set_index(keys)
    return worst["reading"].unstack("falsifier").reset_index().rename_axis(columns=None)
