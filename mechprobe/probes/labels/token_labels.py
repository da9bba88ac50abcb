"""Every token of the assistant, labelled by a rule for every indicator, for any of them, and for unions of some."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int, Int8

from mechprobe.errors import LabelError
from mechprobe.probes.labels.examples import (
    HARD_NEGATIVE,
    MISALIGNED,
    NOT_USED,
    OTHER,
    SPAN,
    LabelledTokens,
    span_coverage,
)
from mechprobe.probes.labels.labelling import LabelRule
from mechprobe.transcripts.asked import was_asked
from mechprobe.transcripts.transcript import Span, Transcript


def label_tokens(
    tokens: pd.DataFrame,
    spans: pd.DataFrame,
    transcripts: Sequence[Transcript],
    indicators: Sequence[str],
    rule: LabelRule | None = None,
    *,
    unions: Mapping[str, Sequence[str]] | None = None,
    max_negatives: int | None = None,
    seed: int = 0,
) -> LabelledTokens:
    """The assistant's tokens of labelled, not excluded transcripts that are of use to any indicator.

    Columns: the indicators, then `MISALIGNED` (any indicator), then the unions.

    Args:
        tokens: the store's token table.
        rule: None: the paper's.
        unions: name -> indicators; a column each, positive where any of them is.
        max_negatives: tokens outside all spans that are kept of a transcript, drawn by `seed`; None: all.

    Raises:
        LabelError: a span or a union has an indicator that is not among `indicators`.
    """
    rule = rule or LabelRule()
    usable = np.array([t.is_labelled and not t.excluded for t in transcripts], dtype=bool)
    conversation = tokens["conversation"].to_numpy(dtype=np.int64)
    rows = np.flatnonzero((tokens["role"] == "assistant").to_numpy() & usable[conversation])
    turn = tokens["turn"].to_numpy(dtype=np.int64)[rows]
    truth = _turn_truth(conversation[rows], turn, transcripts, indicators)
    may_be_positive = tokens["section"].isin(list(rule.positives)).to_numpy()[rows]
    covered = span_coverage(spans, indicators, len(tokens))[rows]
    kinds = _kinds(covered, truth.present, may_be_positive, rule)
    kinds[~truth.asked] = NOT_USED
    columns = [kinds, _misaligned(kinds, truth, rule)[:, None]]
    columns += [_union(kinds[:, _members(m, indicators)])[:, None] for m in (unions or {}).values()]
    kinds = np.concatenate(columns, axis=1)
    kept = (kinds != NOT_USED).any(axis=1)
    if max_negatives is not None:
        marked = ((kinds == SPAN) | (kinds == HARD_NEGATIVE)).any(axis=1)
        drawn = _draw(conversation[rows], kept & ~marked, max_negatives, seed)
        kept &= marked | drawn
    return LabelledTokens(
        rows=rows[kept],
        kinds=kinds[kept],
        conversation=conversation[rows][kept],
        indicators=(*indicators, MISALIGNED, *(unions or {})),
    )


class _Truth(NamedTuple):
    """What is known of each token's turn."""

    present: Bool[np.ndarray, "tok indicator"]
    asked: Bool[np.ndarray, "tok indicator"]
    misaligned: Bool[np.ndarray, "tok"]
    """The turn has an indicator, or somebody judged it misaligned."""
    aligned: Bool[np.ndarray, "tok"]
    """The turn is known to hold no indicator at all."""


def _turn_truth(
    conversation: np.ndarray,
    turn: np.ndarray,
    transcripts: Sequence[Transcript],
    indicators: Sequence[str],
) -> _Truth:
    turns, of_token = np.unique(np.stack([conversation, turn]), axis=1, return_inverse=True)
    present = np.zeros((turns.shape[1], len(indicators)), dtype=bool)
    asked = np.zeros_like(present)
    misaligned, aligned = np.zeros((2, turns.shape[1]), dtype=bool)
    for row, (number, at) in enumerate(turns.T):
        transcript = transcripts[number]
        # A quotation may have been found in another turn than the labelled one: neither turn is clean.
        quoted = {s.indicator for s in transcript.present_spans if _turn_of(transcript, s) == at}
        found = transcript.indicators(int(at)) | quoted
        present[row] = [slug in found for slug in indicators]
        asked[row] = was_asked(transcript, indicators)
        misaligned[row] = bool(found) or int(at) in (transcript.misaligned_turns or ())
        is_known = bool(asked[row].all()) or transcript.is_misaligned is False
        aligned[row] = is_known and not misaligned[row]
    of_token = of_token.ravel()
    return _Truth(present[of_token], asked[of_token], misaligned[of_token], aligned[of_token])


def _turn_of(transcript: Transcript, span: Span) -> int:
    return transcript.messages[span.message].turn


def _kinds(
    covered: Int8[np.ndarray, "tok indicator"],
    present: Bool[np.ndarray, "tok indicator"],
    may_be_positive: Bool[np.ndarray, "tok"],
    rule: LabelRule,
) -> Int8[np.ndarray, "tok indicator"]:
    """The rule applied to each token and indicator."""
    rest = OTHER if rule.rest_of_turn == "negative" else NOT_USED
    kinds = np.where(present, rest, OTHER)
    kinds = np.where(covered == HARD_NEGATIVE, HARD_NEGATIVE, kinds)
    if rule.mode == "turn":
        kinds = np.where(
            present & (covered != HARD_NEGATIVE) & may_be_positive[:, None], SPAN, kinds
        )
    else:
        # A span in another section holds the indicator too: it is never a negative.
        in_span = np.where(may_be_positive, SPAN, NOT_USED)[:, None]
        kinds = np.where(covered == SPAN, in_span, kinds)
    return kinds.astype(np.int8)


def _union(kinds: Int8[np.ndarray, "tok member"]) -> Int8[np.ndarray, "tok"]:
    """Positive where any member is, else left out where any is, else a negative."""
    order = (SPAN, NOT_USED, HARD_NEGATIVE)
    found = [(kinds == kind).any(axis=1) for kind in order]
    return np.select(found, order, default=OTHER).astype(np.int8)


def _misaligned(
    kinds: Int8[np.ndarray, "tok indicator"], truth: _Truth, rule: LabelRule
) -> Int8[np.ndarray, "tok"]:
    """Any indicator at all, in the knowledge of who judged the whole turn."""
    hard = (kinds == HARD_NEGATIVE).any(axis=1)
    clean = np.where(hard, HARD_NEGATIVE, OTHER)
    rest = OTHER if rule.rest_of_turn == "negative" else NOT_USED
    # A token that a rule leaves out of its own indicator is no clean example of "nothing".
    dropped = (truth.asked & (kinds == NOT_USED)).any(axis=1)
    quiet = np.where(truth.aligned, clean, np.where(truth.misaligned & ~dropped, rest, NOT_USED))
    return np.where((kinds == SPAN).any(axis=1), SPAN, quiet).astype(np.int8)


def _members(names: Sequence[str], indicators: Sequence[str]) -> Int[np.ndarray, "member"]:
    at = pd.Index(indicators).get_indexer(pd.Index(names))
    if (at < 0).any() or not len(at):
        raise LabelError(
            f"a union has the indicators {', '.join(names) or 'none'}; each must be among "
            f"{', '.join(indicators)}."
        )
    return at


def _draw(groups: np.ndarray, candidates: np.ndarray, n_each: int, seed: int) -> np.ndarray:
    """A mask of at most `n_each` candidates of each group."""
    place = np.flatnonzero(candidates)
    shuffled = np.random.default_rng(seed).permutation(place)
    by_group = shuffled[np.argsort(groups[shuffled], kind="stable")]
    ordered = groups[by_group]
    first = np.searchsorted(ordered, ordered, side="left")
    mask = np.zeros(len(groups), dtype=bool)
    mask[by_group[np.arange(len(by_group)) - first < n_each]] = True
    return mask
