"""The runs that are explained: where each is read, and which of its tokens are asked what they bring."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from mechprobe.causal.attribution.readouts import Readout, logit_difference
from mechprobe.causal.cases import ANSWER, REASONING, Case
from mechprobe.causal.places.sites import Position, tokens_at
from mechprobe.errors import ConfigError, DataError, HookError
from mechprobe.models.rendering import Rendering
from mechprobe.models.subject import Subject
from mechprobe.transcripts.transcript import Transcript

Asked = Literal["spans", "reasoning"]
"""Tokens of transcripts: those of labelled spans, or all of the reasoning before the answer."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AskedTokens:
    """Token sequences with the tokens whose activations are explained.

    Raises:
        HookError: a token comes after the end of its sequence, where the outcome is read, or a sequence has none.
    """

    ids: tuple[tuple[int, ...], ...]
    """Up to and with the token where the outcome is read."""
    positions: Int[Tensor, "case site"]
    """Tokens that are explained; -1 fills up."""
    spans: Int[Tensor, "case site"]
    """Number of the span that each of them belongs to; -1 for none."""
    span_names: tuple[str, ...]
    """The indicator of each span."""
    clusters: tuple[str, ...]
    """The transcript of each run."""

    def __post_init__(self) -> None:
        ends = torch.tensor([len(row) for row in self.ids])
        if bool((late := (self.positions >= ends[:, None]).any(1)).any()):
            case = int(late.nonzero()[0])
            raise HookError(
                f"run {case} is read at token {len(self.ids[case]) - 1}, and token {int(self.positions[case].max())} "
                "comes after it; ask for tokens up to where the outcome is read."
            )
        if not bool((self.positions >= 0).any(1).all()):
            case = int((~(self.positions >= 0).any(1)).nonzero()[0])
            raise HookError(
                f"run {case} ({self.clusters[case]}) has no token to explain before its outcome is read; drop it, or "
                "choose a position that it has."
            )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def row_case(self) -> Int[Tensor, "row"]:
        """The run of each explained token, in order."""
        return torch.nonzero(self.positions >= 0)[:, 0]

    @property
    def row_slot(self) -> Int[Tensor, "row"]:
        """Which of its run's explained tokens each is."""
        return torch.nonzero(self.positions >= 0)[:, 1]

    @property
    def row_position(self) -> Int[Tensor, "row"]:
        """Where each explained token stands in its run."""
        return self.positions[self.positions >= 0]

    @property
    def row_span(self) -> Int[Tensor, "row"]:
        """The span of each explained token; -1 for none."""
        return self.spans[self.positions >= 0]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Runs(AskedTokens):
    """The same with what the model does at their ends."""

    readout: Readout
    partner_ids: tuple[tuple[int, ...], ...] | None = None
    """The corrupted sequences, where there are pairs."""
    partner_positions: Int[Tensor, "case site"] | None = None


def runs_of_cases(cases: Sequence[Case], outcome: str, position: Position) -> Runs:
    """Sides of matched pairs with the other side as the reference.

    Raises:
        DataError: there are none, or one lacks the outcome.
        HookError: a side has no token at the position, or other numbers than its partner.
    """
    if not cases:
        raise DataError("there is no pair to explain; give pairs of the split that is asked for.")
    readout = logit_difference(cases, outcome)
    own = [tokens_at(position, case.own, outcome) for case in cases]
    partner = [tokens_at(position, case.partner, outcome) for case in cases]
    for case, here, there in zip(cases, own, partner, strict=True):
        if len(here) != len(there):
            raise HookError(
                f"pair {case.pair.id!r}: {position} is {len(here)} tokens on one side and {len(there)} on the other; "
                "choose another position, or drop the pair."
            )
    positions = _padded(own)
    number = torch.arange(len(cases))[:, None].expand_as(positions)
    return Runs(
        ids=tuple(_until(case.own.token_ids, case.own.reads[outcome].at) for case in cases),
        positions=positions,
        spans=number.masked_fill(positions < 0, -1),
        span_names=tuple(case.pair.indicator for case in cases),
        clusters=tuple(case.pair.cluster for case in cases),
        readout=readout,
        partner_ids=tuple(
            _until(case.partner.token_ids, case.partner.reads[outcome].at) for case in cases
        ),
        partner_positions=_padded(partner),
    )


def runs_of_transcripts(
    subject: Subject,
    transcripts: Sequence[Transcript],
    readout: Readout,
    asked: Asked = "spans",
) -> Runs:
    """Transcripts with something read at their ends; see `tokens_of_transcripts`."""
    found = tokens_of_transcripts(subject, transcripts, asked)
    return Runs(
        ids=found.ids,
        positions=found.positions,
        spans=found.spans,
        span_names=found.span_names,
        clusters=found.clusters,
        readout=readout,
    )


def tokens_of_transcripts(
    subject: Subject, transcripts: Sequence[Transcript], asked: Asked = "spans"
) -> AskedTokens:
    """Transcripts up to the last assistant message's answer; those without tokens to ask are left out.

    Raises:
        DataError: none is left.
        ConfigError: `asked` is unknown.
    """
    if asked not in ("spans", "reasoning"):
        raise ConfigError(f"asked is {asked!r}; it must be 'spans' or 'reasoning'.")
    ids: list[tuple[int, ...]] = []
    tokens: list[list[int]] = []
    spans: list[list[int]] = []
    names: list[str] = []
    clusters: list[str] = []
    for transcript in transcripts:
        rendering = subject.render(transcript)
        read_at = _read_at(rendering)
        found = _asked_tokens(rendering, transcript, asked, read_at)
        if read_at < 0 or not any(len(part) for _, part in found):
            continue
        ids.append(_until(rendering.token_ids, read_at))
        tokens.append([token for _, part in found for token in part])
        spans.append([])
        for name, part in found:
            spans[-1] += [len(names) if name else -1] * len(part)
            names += [name] if name else []
        clusters.append(transcript.id)
    if not ids:
        raise DataError(
            f"none of {len(transcripts)} transcripts has an answer with tokens to explain ({asked}) before it; give "
            "transcripts with reasoning or labelled spans."
        )
    return AskedTokens(
        ids=tuple(ids),
        positions=_padded([np.array(row) for row in tokens]),
        spans=_padded([np.array(row) for row in spans]),
        span_names=tuple(names),
        clusters=tuple(clusters),
    )


def _read_at(rendering: Rendering) -> int:
    answer = np.flatnonzero(rendering.section == ANSWER)
    if not len(answer):
        return -1
    return int(answer[rendering.message[answer] == rendering.message[answer[-1]]][0]) - 1


def _asked_tokens(
    rendering: Rendering, transcript: Transcript, asked: Asked, read_at: int
) -> list[tuple[str, list[int]]]:
    """Name and tokens of each span, or all reasoning under no name; a token of several spans is the first one's."""
    if asked == "reasoning":
        found = np.flatnonzero(rendering.section == REASONING)
        return [("", found[found <= read_at].tolist())]
    parts: list[tuple[str, list[int]]] = []
    taken: set[int] = set()
    for span in transcript.spans:
        tokens = [token for token in rendering.tokens_of(span).tolist() if token <= read_at]
        parts.append((span.indicator, [token for token in tokens if token not in taken]))
        taken.update(tokens)
    return parts


def _until(token_ids: Int[np.ndarray, "tok"], read_at: int) -> tuple[int, ...]:
    return tuple(token_ids[: read_at + 1].tolist())


def _padded(tokens: Sequence[Int[np.ndarray, "..."]]) -> Int[Tensor, "case site"]:
    filled = torch.full((len(tokens), max(map(len, tokens))), -1, dtype=torch.long)
    for row, found in enumerate(tokens):
        filled[row, : len(found)] = torch.as_tensor(found, dtype=torch.long)
    return filled
