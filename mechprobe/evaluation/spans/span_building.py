"""Labelled spans and matched pairs of captured transcripts as the examples of a detection study."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import scipy.sparse as sp
from jaxtyping import Int

from mechprobe.errors import LabelError
from mechprobe.evaluation.spans.span_examples import SpanExamples
from mechprobe.probes.labels.examples import NOT_USED, LabelledTokens, span_last_tokens
from mechprobe.transcripts.pairs import MatchedPair
from mechprobe.transcripts.transcript import Transcript

ReadActs = Callable[[Int[np.ndarray, "tok"]], np.ndarray]
"""Activations of some rows of a store."""
ReadFeatures = Callable[[Int[np.ndarray, "tok"]], sp.csr_matrix]
"""SAE features of some rows of a store."""


def span_examples(
    tokens: pd.DataFrame,
    spans: pd.DataFrame,
    transcripts: Sequence[Transcript],
    indicators: Sequence[str],
    acts: Mapping[str, ReadActs],
    features: Mapping[str, ReadFeatures] | None = None,
) -> SpanExamples:
    """One row for each span of a transcript that is not excluded, read at the span's last token.

    Args:
        tokens: the store's token table.
        spans: as made by `activations.rows.span_table` for the same transcripts.
        acts: hook name -> how to read the store there.

    Raises:
        LabelError: a span has an unknown indicator.
    """
    excluded = np.array([transcript.excluded for transcript in transcripts], dtype=bool)
    spans = spans.loc[~excluded[spans["conversation"].to_numpy(dtype=np.int64)]]
    labelled = span_last_tokens(spans, indicators, n_tokens=len(tokens))
    texts = [
        _section(transcripts[conversation], message, section)[start:end]
        for conversation, message, section, start, end in _places(spans)
    ]
    return _examples(tokens, spans, transcripts, labelled, texts, acts, features)


def pair_transcripts(pairs: Sequence[MatchedPair]) -> list[Transcript]:
    """Both sides of every pair, each with the pair's span alone: what is captured for `pair_examples`.

    Positives stand at even places and their negatives just after them.
    """
    sides: list[Transcript] = []
    for pair in pairs:
        for side, span, present in (
            (pair.positive, pair.span, True),
            (pair.negative, pair.negative_span, False),
        ):
            name = f"{pair.id}:{'positive' if present else 'negative'}"
            spans = (replace(span, indicator=pair.indicator, present=present),)
            sides.append(replace(side, id=name, spans=spans, split=pair.split, lost_spans=()))
    return sides


def pair_examples(
    tokens: pd.DataFrame,
    spans: pd.DataFrame,
    pairs: Sequence[MatchedPair],
    indicators: Sequence[str],
    acts: Mapping[str, ReadActs],
    features: Mapping[str, ReadFeatures] | None = None,
) -> SpanExamples:
    """Two rows a pair, read at the last token of its span; the text is all of the section it stands in.

    Args:
        tokens: token table of a store captured from `pair_transcripts(pairs)`.
        spans: the span table of the same.

    Raises:
        LabelError: a pair has an unknown indicator, or the span of a side was not captured.
    """
    sides = pair_transcripts(pairs)
    if len(spans) != len(sides):
        raise LabelError(
            f"{len(sides) - len(spans)} of {len(sides)} sides of matched pairs have no captured span; "
            "capture them whole, with a chat template that keeps reasoning."
        )
    labelled = span_last_tokens(spans, indicators, n_tokens=len(tokens))
    column = pd.Index(indicators).get_indexer(pd.Index(spans["indicator"]))
    is_own = np.arange(len(indicators)) == column[:, None]
    labelled = replace(labelled, kinds=np.where(is_own, labelled.kinds, np.int8(NOT_USED)))
    texts = [
        _section(sides[conversation], message, section)
        for conversation, message, section, _, _ in _places(spans)
    ]
    natural = [getattr(pair, pair.natural).id for pair in pairs for _ in range(2)]
    examples = _examples(tokens, spans, sides, labelled, texts, acts, features)
    ids = [natural[conversation] for conversation in labelled.conversation]
    return replace(examples, keys=examples.keys.assign(transcript_id=ids))


def _examples(
    tokens: pd.DataFrame,
    spans: pd.DataFrame,
    transcripts: Sequence[Transcript],
    labelled: LabelledTokens,
    texts: Sequence[str],
    acts: Mapping[str, ReadActs],
    features: Mapping[str, ReadFeatures] | None,
) -> SpanExamples:
    keys = spans.loc[:, ["transcript_id", "turn", "span_id"]].reset_index(drop=True)
    return SpanExamples(
        indicators=labelled.indicators,
        kinds=labelled.kinds,
        keys=keys,
        texts=tuple(texts),
        token_ids=tokens["token_id"].to_numpy(dtype=np.int64)[labelled.rows],
        splits=tuple(transcripts[conversation].split for conversation in labelled.conversation),
        acts={name: read(labelled.rows) for name, read in acts.items()},
        features={name: read(labelled.rows) for name, read in (features or {}).items()},
    )


def _places(spans: pd.DataFrame) -> list[tuple[int, int, str, int, int]]:
    names = ("conversation", "message", "section", "start", "end")
    return list(zip(*(spans[name].tolist() for name in names), strict=True))


def _section(transcript: Transcript, message: int, section: str) -> str:
    return transcript.messages[message].text(section)  # pyright: ignore[reportArgumentType]
